package upstream

import (
	"math/rand/v2"

	"github.com/quadnine/quadnine/proxy/shard"
	"github.com/quadnine/quadnine/snapshot"
)

// lane is one shard's side of a cluster: whose turn it is there, and the
// connections.
type lane struct {
	pool      *Pool
	cluster   *Cluster
	set       *set       // what schedules is for
	schedules []schedule // by group
	hosts     map[hostKey]*host
	latest    *host  // of hosts, likewise
	opened    uint64 // requests that the cluster has not been told of
	second    int64  // when it was told last
}

// hostKey tells connections apart that requests may not share.
type hostKey struct {
	endpoint *Endpoint
	protocol snapshot.Protocol // what it speaks where that is the request's matter
	priority snapshot.Priority // each has thresholds, and so connections, of its own
	tunnels  bool              // extended CONNECT: they wait for the endpoint's SETTINGS to offer it, others need not
}

// schedule is whose turn it is among a group's endpoints.
type schedule struct {
	begun bool
	next  uint32 // round robin
	edf   edf    // where weights differ
}

// lane returns c's lane.
func (p *Pool) lane(c *Cluster) *lane {
	if l := p.latest; l != nil && l.cluster == c {
		return l
	}
	l := p.lanes[c]
	if l == nil {
		l = &lane{pool: p, cluster: c, hosts: make(map[hostKey]*host)}
		p.lanes[c] = l
		c.join(l)
	}
	p.latest = l
	return l
}

// host returns where e's connections for r are kept.
func (l *lane) host(e *Endpoint, r *Request) *host {
	k := hostKey{endpoint: e, priority: r.Priority}
	switch {
	case r.Upgrade && e.takesExtendedConnect(r.Caller):
		k.protocol, k.tunnels = snapshot.H2C, true
	case r.Upgrade && e.forced != snapshot.H1:
		k.protocol = snapshot.H1
	case e.forced == snapshot.Downstream && r.Caller == snapshot.H1:
		k.protocol = snapshot.H1
	case e.forced == snapshot.Downstream:
		k.protocol = snapshot.H2C
	}
	if h := l.latest; h != nil && h.key == k {
		return h
	}
	h := l.hosts[k]
	if h == nil {
		h = &host{lane: l, pool: l.pool, cluster: l.cluster, endpoint: e, key: k, usage: &l.cluster.usage[k.priority]}
		h.draining = e.gone.Load() || l.cluster.retired.Load()
		l.hosts[k] = h
	}
	l.latest = h
	return h
}

// changed is the mail that a cluster has changed.
type changed struct {
	mail shard.Mail
	lane *lane
}

// Receive lets go of what the cluster no longer has.
func (m *changed) Receive(*shard.Mail) {
	l := m.lane
	retired := l.cluster.retired.Load()
	for _, h := range l.hosts {
		if gone := h.endpoint.gone.Load(); gone || retired {
			h.drain(gone)
		}
	}
	l.tidy()
}

// tidy forgets the lane of a cluster that is no more.
func (l *lane) tidy() {
	if len(l.hosts) == 0 && l.cluster.retired.Load() && l.pool.lanes[l.cluster] == l {
		delete(l.pool.lanes, l.cluster)
		l.pool.latest = nil
		l.cluster.leave(l)
	}
}

// pick returns the endpoint for r, other than those that r has tried. An endpoint
// whose dial has just failed comes last, but comes.
func (l *lane) pick(now int64, r *Request) (*Endpoint, error) {
	s := l.cluster.set.Load()
	if s.settings.Balance.Policy == snapshot.LeastOfTwo {
		e := l.cluster.leastOfTwo(s, now, r)
		if e == nil && r.Tried > 0 {
			e = s.untried(r) // it rests, and may be back
		}
		if e == nil && r.Repeat && r.Tried > 0 {
			r.Tried = 0
			e = l.cluster.leastOfTwo(s, now, r)
		}
		if e == nil {
			return nil, s.down()
		}
		return e, nil
	}
	if s != l.set {
		l.set, l.schedules = s, make([]schedule, s.schedule)
	}
	g := l.group()
	if g == nil {
		return nil, r.whyNot()
	}
	e := l.among(g)
	if r.Repeat {
		for n := r.Avoid; n > 0 && r.tried(e); n-- {
			if again := l.group(); again != nil {
				e = l.among(again)
			}
		}
		return e, nil
	}
	if r.Tried == 0 && e.rested(now) {
		return e, nil
	}
	if e = better(g, e, now, r); e == nil {
		return nil, r.whyNot()
	}
	return e, nil
}

// better returns an endpoint of g that r has not tried: e, unless it rests and
// another does not.
func better(g *group, e *Endpoint, now int64, r *Request) *Endpoint {
	const most = 64 // it costs time, and others will be found
	best := (*Endpoint)(nil)
	if !r.tried(e) {
		if best = e; e.rested(now) {
			return e
		}
	}
	at := rand.IntN(len(g.hosts))
	for range min(len(g.hosts), most) {
		e := g.hosts[at]
		if at++; at == len(g.hosts) {
			at = 0
		}
		if r.tried(e) {
			continue
		}
		if e.rested(now) {
			return e
		}
		if best == nil {
			best = e
		}
	}
	return best
}

// group returns the endpoints among which the next request's is chosen, or nil
// when there are none.
func (l *lane) group() *group {
	s := l.set
	if len(s.loads) == 0 {
		return nil
	}
	to := &s.loads[0]
	if len(s.loads) > 1 {
		draw := rand.Uint32N(100)
		for i := range s.loads {
			if to = &s.loads[i]; draw < to.percent {
				break
			}
			draw -= to.percent
		}
	}
	t := &s.tiers[to.tier]
	g, by := &t.healthy, &t.healthyBy
	switch {
	case t.panic:
		g, by = &t.all, nil
	case to.degraded:
		g, by = &t.degraded, &t.degradedBy
	}
	if by != nil && len(by.groups) > 0 {
		g = &by.groups[l.locality(by)]
	}
	if len(g.hosts) == 0 {
		return nil
	}
	return g
}

// locality returns the index of the locality whose turn it is.
func (l *lane) locality(by *localities) int {
	if len(by.groups) == 1 {
		return 0
	}
	q := &l.schedules[by.id]
	if !q.begun {
		q.begun = true
		q.edf.start(len(by.weights), func(i int) float64 { return by.weights[i] })
	}
	i := q.edf.first()
	q.edf.again(by.weights[i])
	return i
}

// among returns the endpoint of g whose turn it is.
func (l *lane) among(g *group) *Endpoint {
	n := len(g.hosts)
	if n == 1 {
		return g.hosts[0]
	}
	b := &l.set.settings.Balance
	if b.Policy == snapshot.Random {
		return g.hosts[rand.IntN(n)]
	}
	q := &l.schedules[g.id]
	if g.weights != nil {
		return l.weighted(g, q, b.Policy == snapshot.LeastRequest)
	}
	if b.Policy == snapshot.LeastRequest {
		best := g.hosts[rand.IntN(n)]
		for range max(b.Choices, 2) - 1 {
			if e := g.hosts[rand.IntN(n)]; e.Active() < best.Active() {
				best = e
			}
		}
		return best
	}
	if !q.begun {
		q.begun, q.next = true, rand.Uint32N(uint32(n))
	}
	e := g.hosts[q.next]
	if q.next++; q.next == uint32(n) {
		q.next = 0
	}
	return e
}

// weighted returns the endpoint whose turn it is by weight, which with
// least_request is the less the more requests are on it.
func (l *lane) weighted(g *group, q *schedule, least bool) *Endpoint {
	weight := func(i int) float64 {
		w := float64(g.weights[i])
		if least {
			w /= float64(max(g.hosts[i].Active(), 0) + 1)
		}
		return w
	}
	if !q.begun {
		q.begun = true
		q.edf.start(len(g.hosts), weight)
	}
	i := q.edf.first()
	q.edf.again(weight(i))
	return g.hosts[i]
}
