package upstream

import (
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"

	"github.com/quadnine/quadnine/snapshot"
)

// The cluster breaker's rule: half of at least five outcomes within ten seconds
// are failed dials or lost connections. It opens for a second: dials to a dead
// local app fail in microseconds, so asking again costs nothing.
const (
	breakerRate    = 0.5
	breakerMinimum = 5
	breakerWindow  = 10 * time.Second
	breakerOpenFor = time.Second
	maxEndpoints   = 64 // a request remembers tried endpoints in one word
)

// Transition is a change of a cluster breaker's state.
type Transition struct {
	Cluster  string
	From, To string
}

// Cluster is the running side of a snapshot.Cluster.
type Cluster struct {
	Name      string
	Endpoints []*Endpoint

	next    atomic.Uint32
	breaker circuitbreaker.CircuitBreaker[any]
	state   atomic.Uint32 // circuitbreaker.State, set by the listener: the shards read only this
	openTil atomic.Int64  // ns; while open
	now     func() int64
}

// NewCluster returns a cluster with a closed breaker. now is the shards' clock;
// notify, which may be nil, is called on every change of the breaker's state.
func NewCluster(c *snapshot.Cluster, now func() int64, notify func(Transition)) *Cluster {
	cl := &Cluster{Name: c.Name, now: now}
	for _, e := range c.Endpoints[:min(len(c.Endpoints), maxEndpoints)] {
		cl.Endpoints = append(cl.Endpoints, &Endpoint{Address: e.Address, forced: e.Protocol})
	}
	cl.breaker = circuitbreaker.NewBuilder[any]().
		WithFailureRateThreshold(breakerRate, breakerMinimum, breakerWindow).
		WithDelay(breakerOpenFor).
		WithSuccessThreshold(1).
		OnStateChanged(func(e circuitbreaker.StateChangedEvent) {
			if e.NewState == circuitbreaker.OpenState {
				cl.openTil.Store(cl.now() + int64(breakerOpenFor))
			}
			cl.state.Store(uint32(e.NewState))
			if notify != nil {
				notify(Transition{cl.Name, e.OldState.String(), e.NewState.String()})
			}
		}).
		Build()
	cl.state.Store(uint32(circuitbreaker.ClosedState))
	return cl
}

// State returns the breaker's state: "closed", "open" or "half-open".
func (c *Cluster) State() string { return circuitbreaker.State(c.state.Load()).String() }

// RetryAfter returns how long the breaker stays open, 0 when it is not open.
func (c *Cluster) RetryAfter() time.Duration {
	if circuitbreaker.State(c.state.Load()) != circuitbreaker.OpenState {
		return 0
	}
	return max(0, time.Duration(c.openTil.Load()-c.now()))
}

// admit reports whether a new connection may be dialed. When it returns true the
// dial's outcome must be recorded: an abandoned half-open permit of failsafe-go
// is never given back, so a dial is never tied to the request that asked for it.
func (c *Cluster) admit(now int64) bool {
	switch circuitbreaker.State(c.state.Load()) {
	case circuitbreaker.ClosedState:
		return true
	case circuitbreaker.OpenState:
		return now >= c.openTil.Load() && c.breaker.TryAcquirePermit()
	default:
		return c.breaker.TryAcquirePermit()
	}
}

// Available reports whether a request may be sent: the breaker is not open, or
// its next probe is due.
func (c *Cluster) Available(now int64) bool {
	return circuitbreaker.State(c.state.Load()) != circuitbreaker.OpenState || now >= c.openTil.Load()
}

func (c *Cluster) dialed()     { c.breaker.RecordSuccess() }
func (c *Cluster) dialFailed() { c.breaker.RecordFailure() }

// RecordBatch records what one flush saw: how many exchanges got a response and
// how many lost their connection. Successes count once per flush, which is
// enough to keep a cluster with one good endpoint closed and keeps the breaker's
// mutex off the request path.
func (c *Cluster) RecordBatch(responses, lost int) {
	if circuitbreaker.State(c.state.Load()) != circuitbreaker.ClosedState {
		// A response over a connection that outlived the trouble is as good a
		// probe as a dial.
		if responses > 0 && c.admit(c.now()) {
			c.breaker.RecordSuccess()
		}
		return
	}
	if responses > 0 {
		c.breaker.RecordSuccess()
	}
	for range min(lost, breakerMinimum) {
		c.breaker.RecordFailure()
	}
}

// pick returns the endpoint for the next request, leaving out those in tried (a
// bit per endpoint), or -1. Of the healthy ones it takes, from a rotating start,
// the less loaded of two; when none is healthy, the one that is due first.
func (c *Cluster) pick(now int64, tried uint64) int {
	n := len(c.Endpoints)
	start := int(c.next.Add(1)) % n
	best, fallback := -1, -1
	seen := 0
	for i := range n {
		j := (start + i) % n
		if tried&(1<<j) != 0 {
			continue
		}
		e := c.Endpoints[j]
		if !e.Healthy(now) {
			if fallback < 0 || e.retryAt.Load() < c.Endpoints[fallback].retryAt.Load() {
				fallback = j
			}
			continue
		}
		if best < 0 || e.Active() < c.Endpoints[best].Active() {
			best = j
		}
		if seen++; seen == 2 {
			break
		}
	}
	if best < 0 {
		return fallback
	}
	return best
}
