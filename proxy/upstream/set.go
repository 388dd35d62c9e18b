package upstream

import (
	"cmp"
	"math"

	"github.com/quadnine/quadnine/snapshot"
)

// set is a cluster's endpoints and how load is spread over them. It is immutable:
// a change makes the next one, which takes over the endpoints that stay.
type set struct {
	settings *snapshot.ClusterSettings
	all      []*Endpoint
	index    map[identity]*Endpoint
	tiers    []tier
	loads    []load // which share of the requests goes where
	schedule int    // schedules that a lane keeps

	healthy, degraded int // of all, as configured
}

// identity is what makes an endpoint the same one after a change.
type identity struct {
	address  string
	protocol snapshot.Protocol
	nth      int    // of those that flags name twice
	secured  string // how: connections that were made otherwise are of another endpoint
}

// load is the share of one priority, in percent.
type load struct {
	percent  uint32
	tier     int
	degraded bool
}

// tier is the endpoints of one priority.
type tier struct {
	panic                  bool // too few are healthy: all are taken for it
	all, healthy, degraded group
	healthyBy, degradedBy  localities
}

// group is endpoints that one choice is made among.
type group struct {
	id      int // of its schedule
	hosts   []*Endpoint
	weights []uint32 // nil: all the same
}

// localities are the groups of a tier by locality, those without weight left out.
type localities struct {
	id      int
	weights []float64
	groups  []group
}

const (
	overprovisioning = 140 // percent, Envoy's default
	maxTiers         = 129 // priorities go up to 128
)

// newSet returns c's set; endpoints that prev, which may be nil, has too stay the
// same. fresh reports whether there are others.
func newSet(c *snapshot.Cluster, prev *set) (s *set, fresh bool) {
	s = &set{settings: c.ClusterSettings, index: make(map[identity]*Endpoint)}
	a := c.Assignment
	if a == nil {
		a = new(snapshot.Assignment)
	}
	s.all = make([]*Endpoint, 0, len(a.Endpoints))
	localities := a.Localities
	if len(localities) == 0 {
		localities = []snapshot.Locality{{}}
	}
	kept := make([]int, 0, len(a.Endpoints)) // of a.Endpoints
	terms := c.TLS.Terms()
	for i := range a.Endpoints {
		e := &a.Endpoints[i]
		l := &localities[e.Locality]
		k := identity{address: e.Address, protocol: e.Protocol, secured: terms}
		if k.protocol == snapshot.Auto {
			k.protocol = c.Protocol
		}
		if c.Balance.Policy == snapshot.LeastOfTwo {
			for s.index[k] != nil {
				k.nth++
			}
		} else if at := s.index[k]; at != nil {
			if at.info.Load().Priority == l.Priority {
				continue // named twice is once
			}
			k.nth = int(l.Priority) + 1
			if s.index[k] != nil {
				continue
			}
		}
		info := Info{
			Hostname: e.Hostname, Weight: max(e.Weight, 1), Health: e.Health,
			Region: l.Region, Zone: l.Zone, SubZone: l.SubZone, Priority: min(l.Priority, maxTiers-1),
		}
		var ep *Endpoint
		if prev != nil {
			ep = prev.index[k]
		}
		if ep == nil {
			ep, fresh = &Endpoint{Address: e.Address, forced: k.protocol}, true
		}
		if old := ep.info.Load(); old == nil || *old != info {
			changed := info
			ep.info.Store(&changed)
		}
		switch e.Health {
		case snapshot.Healthy:
			s.healthy++
		case snapshot.Degraded:
			s.degraded++
		}
		s.index[k] = ep
		s.all = append(s.all, ep)
		kept = append(kept, i)
	}
	if c.Balance.Policy != snapshot.LeastOfTwo {
		s.arrange(a, localities, kept)
	}
	return s, fresh
}

// arrange sorts the endpoints into tiers and groups.
func (s *set) arrange(a *snapshot.Assignment, where []snapshot.Locality, kept []int) {
	if len(s.all) == 0 {
		return
	}
	n := 0
	for _, i := range kept {
		n = max(n, int(min(where[a.Endpoints[i].Locality].Priority, maxTiers-1))+1)
	}
	s.tiers = make([]tier, n)
	type part struct{ all, healthy, degraded []*Endpoint }
	parts := make([]part, len(where))
	for j, i := range kept {
		e := s.all[j]
		p, t := &parts[a.Endpoints[i].Locality], &s.tiers[min(where[a.Endpoints[i].Locality].Priority, maxTiers-1)]
		p.all, t.all.hosts = append(p.all, e), append(t.all.hosts, e)
		switch a.Endpoints[i].Health {
		case snapshot.Healthy:
			p.healthy, t.healthy.hosts = append(p.healthy, e), append(t.healthy.hosts, e)
		case snapshot.Degraded:
			p.degraded, t.degraded.hosts = append(p.degraded, e), append(t.degraded.hosts, e)
		}
	}
	factor := float64(cmp.Or(a.Overprovisioning, overprovisioning)) / 100
	for i := range s.tiers {
		t := &s.tiers[i]
		s.prepare(&t.all)
		s.prepare(&t.healthy)
		s.prepare(&t.degraded)
		if !s.settings.Balance.ByLocality {
			continue
		}
		t.healthyBy.id, t.degradedBy.id = s.schedules(), s.schedules()
		for l := range where {
			if p := &parts[l]; int(min(where[l].Priority, maxTiers-1)) == i && len(p.all) > 0 && where[l].Weight > 0 {
				weigh := func(by *localities, hosts []*Endpoint) {
					if len(hosts) == 0 {
						return
					}
					available := float64(len(hosts)) / float64(len(p.all))
					g := group{hosts: hosts}
					s.prepare(&g)
					by.weights = append(by.weights, float64(where[l].Weight)*min(1, factor*available))
					by.groups = append(by.groups, g)
				}
				weigh(&t.healthyBy, p.healthy)
				weigh(&t.degradedBy, p.degraded)
			}
		}
	}
	s.share(cmp.Or(a.Overprovisioning, overprovisioning), math.Round(min(max(s.settings.Balance.Panic, 0), 100)))
}

// prepare gives g a schedule, and weights where they differ.
func (s *set) prepare(g *group) {
	g.id = s.schedules()
	for _, e := range g.hosts {
		if e.Info().Weight != g.hosts[0].Info().Weight {
			g.weights = make([]uint32, len(g.hosts))
			for i, e := range g.hosts {
				g.weights[i] = e.Info().Weight
			}
			return
		}
	}
}

func (s *set) schedules() int {
	s.schedule++
	return s.schedule - 1
}

// share spreads the load over the priorities as Envoy documents it ("Priority
// levels", "Degraded endpoints" and "Panic threshold" of its load balancing
// pages): a priority takes the share of its endpoints that is healthy, times
// factor, and what it cannot take goes to the next. All numbers are whole
// percents, rounded down.
func (s *set) share(factor uint32, panicBelow float64) {
	n := len(s.tiers)
	healthy, degraded := make([]uint32, n), make([]uint32, n)
	available := uint32(0)
	for i := range s.tiers {
		t := &s.tiers[i]
		if all := uint64(len(t.all.hosts)); all > 0 {
			healthy[i] = uint32(min(100, uint64(factor)*uint64(len(t.healthy.hosts))/all))
			degraded[i] = uint32(min(100, uint64(factor)*uint64(len(t.degraded.hosts))/all))
		}
		available = min(100, available+healthy[i]+degraded[i])
	}
	every := true
	for i := range s.tiers {
		t := &s.tiers[i]
		well := 0.0
		if len(t.all.hosts) > 0 {
			well = 100 * float64(len(t.healthy.hosts)+len(t.degraded.hosts)) / float64(len(t.all.hosts))
		}
		t.panic = available < 100 && well < panicBelow
		every = every && t.panic
	}
	switch {
	case every:
		s.shareAll()
		return
	case available == 0:
		s.shareFirst()
		return
	}
	left, first := uint32(100), -1
	give := func(of []uint32, bad bool) {
		for i, a := range of {
			if p := min(left, a*100/available); a > 0 {
				left -= p
				if first < 0 {
					first = len(s.loads)
				}
				s.loads = append(s.loads, load{p, i, bad})
			}
		}
	}
	give(healthy, false)
	give(degraded, true)
	s.loads[first].percent += left // what rounding left over
	s.trim()
}

// shareFirst gives all to the first priority that has somebody well: with so
// small a factor every share rounds to nothing. Where nobody is, nobody is asked.
func (s *set) shareFirst() {
	for _, bad := range []bool{false, true} {
		for i := range s.tiers {
			hosts := s.tiers[i].healthy.hosts
			if bad {
				hosts = s.tiers[i].degraded.hosts
			}
			if len(hosts) > 0 {
				s.loads = append(s.loads, load{percent: 100, tier: i, degraded: bad})
				return
			}
		}
	}
}

// shareAll spreads the load when every priority panics: by number of endpoints.
func (s *set) shareAll() {
	left := uint32(100)
	for i := range s.tiers {
		if n := len(s.tiers[i].all.hosts); n > 0 {
			p := uint32(100 * n / len(s.all))
			left -= p
			s.loads = append(s.loads, load{percent: p, tier: i})
		}
	}
	s.loads[0].percent += left
	s.trim()
}

// trim leaves out who gets nothing.
func (s *set) trim() {
	out := s.loads[:0]
	for _, l := range s.loads {
		if l.percent > 0 {
			out = append(out, l)
		}
	}
	s.loads = out
}
