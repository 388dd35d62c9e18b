package xds

import (
	"time"

	"github.com/quadnine/quadnine/snapshot"
)

const (
	// warmFor is how long something new waits for what it needs before it is used
	// all the same. Envoy's initial_fetch_timeout has the same default.
	warmFor = 15 * time.Second
	// unlistedFor is how long the first table of a name waits for a cluster that the
	// server does not list: it may be in the middle of a change.
	unlistedFor = time.Second
	// retryAfter is when the data plane is asked again for what it refused.
	retryAfter = time.Second
)

// tableSlot is the routes of one name: what is configured and what is in use.
type tableSlot struct {
	next, cur *snapshot.RouteTable
	inUse     string               // the version of cur, when it is not next
	waits     map[string]time.Time // until when next waits for a cluster
}

// configureTable makes t what is configured under name.
func (a *Applier) configureTable(name string, t *snapshot.RouteTable, version string) {
	s := a.tables[name]
	if s == nil {
		s = new(tableSlot)
		a.tables[name] = s
	}
	s.next = t
	if s.cur == t {
		s.inUse = version
	}
}

// moveTables puts tables in use whose clusters are there.
//
// A table that replaces another waits until each cluster it names has endpoints,
// for at most 15 s a cluster, or less if its initial_fetch_timeout says so. It does
// not wait for a cluster that the table in use names as well: there is nothing to
// lose. So a cluster that never comes delays one change, and not each one after it.
//
// The first table of a name has nothing to keep serving. If its listener is
// served already, every request is answered 404, and whatever the table can do is
// better: it is used at once. If its listener is as new as the table, then both
// wait for clusters that were announced and have no endpoints yet; callers find
// the address closed meanwhile, as with an Envoy that is starting. For a cluster
// that the server does not list they wait a second: most likely it is a 503 now
// and later, as in Envoy. What comes from disk was served before, and is served at
// once.
func (a *Applier) moveTables(now time.Time) {
	for name, t := range a.tables {
		if t.next != t.cur && a.ready(name, t, now) {
			t.cur, t.waits = t.next, nil
			t.inUse = a.tableVersion(name)
		}
	}
}

func (a *Applier) ready(name string, t *tableSlot, now time.Time) bool {
	first := t.cur == nil
	if first && (a.restoring || a.serves(name)) {
		return true
	}
	waits := make(map[string]time.Time)
	ready := true
	names := t.next.Clusters
	if !first {
		names = difference(names, t.cur.Clusters)
	}
	for _, name := range names {
		c, limit := a.clusters[name], warmFor
		switch {
		case c != nil && a.warm(c.cur, c.curDNS):
			continue
		case !first:
		case c == nil:
			if k := &a.kinds[KindCluster]; !k.dynamic || !k.answered.IsZero() {
				limit = unlistedFor
			}
		case a.tried(c):
			continue
		}
		if c != nil && c.next != nil {
			if d := patience(c.next); d > 0 {
				limit = min(limit, d)
			}
		}
		until, ok := t.waits[name]
		if end := now.Add(limit); !ok || end.Before(until) {
			until = end
		}
		waits[name] = until
		if now.Before(until) {
			ready = false
		}
	}
	t.waits = waits
	return ready
}

// due returns when t can move on by itself, or zero.
func (t *tableSlot) due(now time.Time) (at time.Time) {
	if t.next == t.cur {
		return at
	}
	for _, until := range t.waits {
		if until.After(now) && (at.IsZero() || until.Before(at)) {
			at = until
		}
	}
	return at
}

// warm reports whether a cluster with these settings knows its endpoints and its
// secrets. s may be nil.
func (a *Applier) warm(s *snapshot.ClusterSettings, dns *dnsSource) bool {
	return a.known(s, dns) && a.missingSecret(s.TLS) == ""
}

// known reports whether a cluster with these settings knows its endpoints. s may be
// nil.
func (a *Applier) known(s *snapshot.ClusterSettings, dns *dnsSource) bool {
	return s != nil && a.assignment(s, dns) != nil
}

// tried reports whether what a cluster lacks was asked for and is not to be had for
// now.
func (a *Applier) tried(c *clusterSlot) bool {
	if a.known(c.cur, c.curDNS) {
		for ref := range c.cur.TLS.Secrets {
			if a.secret(ref) == nil && a.hopeless(ref) {
				return true
			}
		}
		return false
	}
	if c.cur.Discovery == snapshot.EDS {
		r := a.kinds[KindEndpoints].byName[service(c.cur)]
		return r != nil && r.missing
	}
	return c.curDNS != nil && c.curDNS.answered
}

// assignment returns the endpoints of a cluster with these settings, or nil.
func (a *Applier) assignment(s *snapshot.ClusterSettings, dns *dnsSource) *snapshot.Assignment {
	switch s.Discovery {
	case snapshot.EDS:
		return a.assigned[service(s)]
	case snapshot.StrictDNS, snapshot.LogicalDNS:
		return dns.assignment
	case snapshot.Static:
	}
	return s.Static
}
