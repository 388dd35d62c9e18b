package upstream

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"

	"github.com/quadnine/quadnine/snapshot"
)

// Cluster is the running side of a snapshot.Cluster.
type Cluster struct {
	Name string

	set     atomic.Pointer[set]
	usage   [2]usage // by priority
	retries retries
	next    atomic.Uint32
	retired atomic.Bool // no longer configured
	now     func() int64
	notify  func(Transition)

	breaker atomic.Pointer[breaker]
	state   atomic.Uint32 // circuitbreaker.State, set by the listener: the shards read only this
	openTil atomic.Int64  // ns; while open
	turning sync.Mutex    // held while state changes, with breaker

	mu    sync.Mutex
	lanes []*lane // guarded by mu
}

// NewCluster returns a cluster with a closed breaker. now is the shards' clock;
// notify, which may be nil, is called on every change of the breaker's state.
func NewCluster(c *snapshot.Cluster, now func() int64, notify func(Transition)) *Cluster {
	cl := &Cluster{Name: c.Name, now: now, notify: notify}
	s, _ := newSet(c, nil)
	cl.set.Store(s)
	cl.state.Store(uint32(circuitbreaker.ClosedState))
	cl.breaker.Store(cl.newBreaker(s))
	return cl
}

// Update has the cluster do what c says from the next request on. Endpoints that
// stay keep their connections and what is known of them; the others get no more
// requests, and their connections close when what runs on them is over. One
// goroutine at a time may call it.
func (c *Cluster) Update(to *snapshot.Cluster) {
	old := c.set.Load()
	s, fresh := newSet(to, old)
	c.set.Store(s)
	c.rebreak(s, fresh)
	left := false
	for k, e := range old.index {
		if s.index[k] == nil {
			e.gone.Store(true)
			left = true
		}
	}
	if left {
		c.tell()
	}
}

// Retire says that the cluster is no longer configured: its connections close
// when what runs on them is over. Requests that were routed to it before are
// still served.
func (c *Cluster) Retire() {
	c.retired.Store(true)
	c.tell()
}

// Retired reports whether Retire was called.
func (c *Cluster) Retired() bool { return c.retired.Load() }

// tell has every shard look at what has changed.
func (c *Cluster) tell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.lanes {
		m := &changed{lane: l}
		m.mail.To = m
		l.pool.shard.Post(&m.mail)
	}
}

// join and leave say which shards have something of the cluster.
func (c *Cluster) join(l *lane) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lanes = append(c.lanes, l)
}

func (c *Cluster) leave(l *lane) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, o := range c.lanes {
		if o == l {
			c.lanes = append(c.lanes[:i], c.lanes[i+1:]...)
			return
		}
	}
}

// Endpoints returns the endpoints in the order of their assignment. Nobody may
// write what it returns.
func (c *Cluster) Endpoints() []*Endpoint { return c.set.Load().all }

// Members returns how many endpoints the cluster has, and how many of them the
// configuration calls healthy and degraded.
func (c *Cluster) Members() (all, healthy, degraded int) {
	s := c.set.Load()
	return len(s.all), s.healthy, s.degraded
}

// Settings returns what the cluster says of itself now.
func (c *Cluster) Settings() *snapshot.ClusterSettings { return c.set.Load().settings }

// leastOfTwo returns the endpoint for the next request, leaving out those it has
// tried, or nil when none may be asked now: of the healthy ones, from a rotating
// start, the less loaded of two.
func (c *Cluster) leastOfTwo(s *set, now int64, r *Request) *Endpoint {
	n := len(s.all)
	if n == 0 {
		return nil
	}
	start := 0
	if n > 1 {
		start = int(c.next.Add(1)) % n
	}
	var best *Endpoint
	seen := 0
	for i := range n {
		e := s.all[(start+i)%n]
		if r.Tried > 0 && r.tried(e) || !e.Healthy(now) {
			continue
		}
		if best == nil || e.Active() < best.Active() {
			best = e
		}
		if seen++; seen == 2 {
			break
		}
	}
	return best
}

// down returns why no endpoint may be asked: the last dial's error of one of them.
func (s *set) down() error {
	for _, e := range s.all {
		if why := e.LastError(); why != "" {
			return fmt.Errorf("%w: dial %s: %s", ErrNone, e.Address, why)
		}
	}
	return ErrNone
}
