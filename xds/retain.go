package xds

import (
	"cmp"
	"reflect"
	"time"

	"github.com/quadnine/quadnine/snapshot"
)

const (
	// retainFor bounds how long a cluster that is gone is kept for who uses it.
	// Longer would be dangerous: addresses of pods are given to other workloads.
	retainFor = 60 * time.Second
	// retainAtLeast is how long it is kept in any case, and how often it is looked
	// at after that: requests that found their route in the snapshot before look
	// for their cluster a moment later.
	retainAtLeast = time.Second
)

// clusterSlot is one cluster: what is configured and what is in use.
type clusterSlot struct {
	name            string
	next, cur       *snapshot.ClusterSettings // next is nil when the cluster is gone and cur is retained
	nextDNS, curDNS *dnsSource                // nil where the addresses are not asked of DNS
	since           time.Time                 // when next and cur parted
	inUse           string                    // the version of cur, when it is not next

	shown   *snapshot.ClusterSettings // shownOf with its secrets: what is served
	shownOf *snapshot.ClusterSettings
}

// service returns the name of the assignment of an EDS cluster.
func service(s *snapshot.ClusterSettings) string { return cmp.Or(s.Service, s.Name) }

// configureCluster makes s what is configured under its name.
func (a *Applier) configureCluster(r *resource, s *snapshot.ClusterSettings, now time.Time) {
	c := a.clusters[s.Name]
	if c == nil {
		c = &clusterSlot{name: s.Name}
		a.clusters[s.Name] = c
	}
	switch {
	case c.cur != nil && reflect.DeepEqual(c.cur, s):
		s = c.cur // as it is, or as it was before it was taken away
	case c.next == nil || c.next == c.cur:
		c.since = now
	}
	a.turn(c, s, c.cur)
	c.setNextDNS(a.source(c, s))
	if s == c.cur {
		c.inUse = r.version
	}
}

// setNextDNS replaces where the next version of c has its addresses from.
func (c *clusterSlot) setNextDNS(d *dnsSource) {
	if c.nextDNS != nil && c.nextDNS != d && c.nextDNS != c.curDNS {
		c.nextDNS.stop()
	}
	c.nextDNS = d
}

// stop ends looking for c's addresses.
func (c *clusterSlot) stop() {
	c.setNextDNS(nil)
	if c.curDNS != nil {
		c.curDNS.stop()
	}
}

// moveClusters puts new versions of clusters in use when their endpoints and their
// secrets are there. A version that replaces another waits for them for at most 15 s, or as their
// initial_fetch_timeout says; endpoints of the same EDS name or the same DNS names
// are there already. The first version
// is in use at once, and has no endpoints until they come: tables wait for them.
func (a *Applier) moveClusters(now time.Time) {
	for _, c := range a.parted {
		if c.next == nil {
			continue
		}
		if c.cur != nil && !a.known(c.next, c.nextDNS) && !over(c.since, patience(c.next), now) {
			continue
		}
		if c.cur != nil && !a.supplied(c.next.TLS, c.since, now) {
			continue
		}
		if c.curDNS != nil && c.curDNS != c.nextDNS {
			c.curDNS.stop()
		}
		a.turn(c, c.next, c.next)
		c.curDNS = c.nextDNS
		if r := a.current(KindCluster, c.name); r != nil {
			c.inUse = r.version
		}
	}
}

// patience is how long endpoints may take to come; 0: for ever.
func patience(s *snapshot.ClusterSettings) time.Duration {
	if s.Discovery == snapshot.EDS {
		return s.Fetch
	}
	return warmFor
}

// end returns when what began at since is over; the zero time, for what lasts for
// ever, when d is 0.
func end(since time.Time, d time.Duration) time.Time {
	if d <= 0 {
		return time.Time{}
	}
	return since.Add(d)
}

// over reports whether it is over now.
func over(since time.Time, d time.Duration, now time.Time) bool {
	return d > 0 && now.Sub(since) >= d
}

// retain marks c as taken away.
func (a *Applier) retain(c *clusterSlot, now time.Time) {
	a.turn(c, nil, c.cur)
	c.since = now
	c.setNextDNS(c.curDNS)
}

// releaseClusters lets go of clusters that were taken away: after 60 s, or when
// neither a route in use nor a running exchange needs them.
func (a *Applier) releaseClusters(now time.Time) {
	var needed map[string]bool
	for name, c := range a.parted {
		if c.next != nil {
			continue
		}
		age := now.Sub(c.since)
		if age < retainAtLeast {
			continue
		}
		if needed == nil {
			needed = a.needed()
		}
		used := needed[name] || a.plane.Uses(name)
		if used && age < retainFor {
			continue
		}
		if used {
			a.log.Warn("a cluster that is still in use is let go", "cluster", name, "after", retainFor,
				"hint", "the management server took it away and left routes to it: they answer 503")
		}
		c.stop()
		a.turn(c, nil, nil)
		delete(a.parted, name)
		delete(a.clusters, name)
		a.compiler.ForgetCluster(name)
	}
}

// needed returns the clusters that something in use names.
func (a *Applier) needed() map[string]bool {
	out := make(map[string]bool)
	for _, l := range a.listeners {
		if l.cur == nil {
			continue
		}
		out[l.cur.Peers] = true
		for face := range l.cur.Faces {
			a.neededBy(face, out)
		}
	}
	return out
}

// neededBy adds the clusters that one face of a listener names.
func (a *Applier) neededBy(face *snapshot.Listener, out map[string]bool) {
	for _, f := range face.HTTP.Filters {
		if f.HealthCheck != nil {
			for _, m := range f.HealthCheck.MinHealthy {
				out[m.Cluster] = true
			}
		}
	}
	if t := a.tables[face.RouteName]; t != nil && t.cur != nil {
		for _, name := range t.cur.Clusters {
			out[name] = true
		}
	}
}

// clusterDue returns when c can move on by itself, or zero.
func (a *Applier) clusterDue(c *clusterSlot, now time.Time) (at time.Time) {
	switch {
	case c.next == c.cur:
		return time.Time{}
	case c.next != nil:
		sooner := func(t time.Time) {
			if t.After(now) && (at.IsZero() || t.Before(at)) {
				at = t
			}
		}
		sooner(end(c.since, patience(c.next)))
		a.suppliedBy(c.next.TLS, c.since, sooner)
		return at
	case now.Sub(c.since) < retainAtLeast:
		return c.since.Add(retainAtLeast)
	}
	at = now.Add(retainAtLeast)
	if last := c.since.Add(retainFor); last.Before(at) {
		return last
	}
	return at
}
