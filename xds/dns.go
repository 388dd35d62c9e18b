package xds

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/quadnine/quadnine/snapshot"
)

// Resolver looks names up. *net.Resolver is one.
type Resolver interface {
	// LookupNetIP returns the addresses of host; network is "ip", "ip4" or "ip6".
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

const (
	dnsRefresh = 5 * time.Second // Envoy's default of dns_refresh_rate
	dnsTimeout = 5 * time.Second // for one family
)

// dnsSource looks up the names of one cluster again and again. Fields below the
// line are guarded by Applier.mu.
type dnsSource struct {
	cluster string
	targets *snapshot.Assignment // with names for addresses
	kind    snapshot.Discovery
	family  snapshot.DNSFamily
	refresh time.Duration
	cancel  context.CancelFunc

	// ---
	addrs      map[string][]netip.Addr // by name, the last good answer
	assignment *snapshot.Assignment    // nil: no answer yet
	answered   bool                    // every name was asked for once
	failures   map[string]string       // by name, since the last good answer
}

// source returns where a cluster with these settings has its addresses from: what
// it has now, if that asks for the same names. It is nil for clusters that do not
// use DNS.
//
// respect_dns_ttl has no effect: the resolver of the standard library does not
// tell how long an answer lives, so names are asked for every dns_refresh_rate,
// which is what Envoy does with answers that live longer.
func (a *Applier) source(c *clusterSlot, s *snapshot.ClusterSettings) *dnsSource {
	if s.Discovery != snapshot.StrictDNS && s.Discovery != snapshot.LogicalDNS {
		return nil
	}
	d := &dnsSource{
		cluster: c.name, targets: s.Static, kind: s.Discovery, family: s.DNSFamily, refresh: cmp.Or(s.DNSRefresh, dnsRefresh),
		addrs: make(map[string][]netip.Addr), failures: make(map[string]string),
	}
	for _, o := range []*dnsSource{c.nextDNS, c.curDNS} {
		if o == nil {
			continue
		}
		if o.kind == d.kind && o.family == d.family && o.refresh == d.refresh && reflect.DeepEqual(o.targets, d.targets) {
			return o
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel = cancel
	var ask []string
	for _, host := range d.hosts() {
		if ip, err := netip.ParseAddr(host); err == nil {
			d.addrs[host] = []netip.Addr{ip}
			continue
		}
		if known := a.remembered(c.name, host); known != nil {
			d.addrs[host] = known
		}
		ask = append(ask, host)
	}
	d.assign()
	d.answered = len(ask) == 0
	if len(ask) > 0 {
		go a.look(ctx, d, ask)
	}
	return d
}

// stop ends looking.
func (d *dnsSource) stop() { d.cancel() }

// hosts returns the names of d, each once.
func (d *dnsSource) hosts() (out []string) {
	if d.targets == nil {
		return nil
	}
	for _, e := range d.targets.Endpoints {
		host, _, _ := net.SplitHostPort(e.Address)
		if !slices.Contains(out, host) {
			out = append(out, host)
		}
	}
	return out
}

// look asks for hosts until ctx ends.
func (a *Applier) look(ctx context.Context, d *dnsSource, hosts []string) {
	for {
		var wg sync.WaitGroup
		answers := make([][]netip.Addr, len(hosts))
		failures := make([]error, len(hosts))
		for i, host := range hosts {
			wg.Go(func() { answers[i], failures[i] = lookup(ctx, a.resolver, d.family, host) })
		}
		wg.Wait()
		if ctx.Err() != nil {
			return
		}
		a.mu.Lock()
		for i, host := range hosts {
			if err := failures[i]; err != nil {
				if d.failures[host] == "" {
					a.log.Warn("a name was not found", "cluster", d.cluster, "name", host, "err", err,
						"hint", "addresses found before stay in use; asked again every "+d.refresh.String())
				}
				d.failures[host] = err.Error()
				continue
			}
			delete(d.failures, host)
			if !slices.Equal(d.addrs[host], answers[i]) {
				d.addrs[host] = answers[i]
				a.dirty(now())
			}
		}
		d.answered = true
		d.assign()
		a.stirred[d.cluster] = true
		a.settle(now())
		f := a.wanted
		a.mu.Unlock()
		if f != nil {
			f()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(d.refresh):
		}
	}
}

// assign makes the assignment of what was found, if it differs.
func (d *dnsSource) assign() {
	if len(d.addrs) == 0 {
		return
	}
	next := *d.targets
	next.Endpoints = nil
	type place struct {
		address  string
		locality int
	}
	seen := make(map[place]bool)
	for _, e := range d.targets.Endpoints {
		host, port, _ := net.SplitHostPort(e.Address)
		found := d.addrs[host]
		if d.kind == snapshot.LogicalDNS && len(found) > 1 {
			found = found[:1]
		}
		for _, ip := range found {
			to := e
			to.Address, to.Hostname = net.JoinHostPort(ip.String(), port), cmp.Or(e.Hostname, host)
			if p := (place{to.Address, to.Locality}); !seen[p] {
				seen[p] = true
				next.Endpoints = append(next.Endpoints, to)
			}
		}
	}
	if !reflect.DeepEqual(d.assignment, &next) {
		d.assignment = &next
	}
}

// lookup returns the addresses of host, sorted: servers turn them round from
// answer to answer, which is no change.
func lookup(ctx context.Context, r Resolver, family snapshot.DNSFamily, host string) ([]netip.Addr, error) {
	networks := map[snapshot.DNSFamily][]string{
		snapshot.DNSAuto: {"ip6", "ip4"}, snapshot.DNSV4Preferred: {"ip4", "ip6"},
		snapshot.DNSV4Only: {"ip4"}, snapshot.DNSV6Only: {"ip6"}, snapshot.DNSAll: {"ip"},
	}[family]
	var errs []error
	for _, network := range networks {
		ask, cancel := context.WithTimeout(ctx, dnsTimeout)
		found, err := r.LookupNetIP(ask, network, host)
		cancel()
		if err == nil && len(found) > 0 {
			out := make([]netip.Addr, len(found))
			for i, ip := range found {
				out[i] = ip.Unmap()
			}
			slices.SortFunc(out, netip.Addr.Compare)
			return slices.Compact(out), nil
		}
		if err == nil {
			err = &net.DNSError{Err: "no addresses", Name: host, IsNotFound: true}
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// found returns what DNS answered, by cluster and name.
func (a *Applier) found() map[string]map[string][]netip.Addr {
	out := make(map[string]map[string][]netip.Addr)
	for name, c := range a.clusters {
		if c.curDNS != nil && len(c.curDNS.addrs) > 0 {
			out[name] = maps.Clone(c.curDNS.addrs)
		}
	}
	return out
}
