package upstream

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"

	"github.com/quadnine/quadnine/snapshot"
)

// The cluster breaker opens after this many failed dials or lost connections with
// nothing good between them, and at least one for each endpoint. It opens for a
// second: a dial to a dead local app fails in microseconds, so asking again is
// cheap.
const (
	breakerFailures = 5
	breakerOpenFor  = time.Second
	maxEndpoints    = 64 // a request remembers tried endpoints in one word
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
		WithFailureThreshold(uint(max(breakerFailures, len(cl.Endpoints)+1))).
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

// RecordBatch records what one flush saw: whether exchanges got a response, and
// whether some lost their connection. Each counts once per flush: one connection
// carries many exchanges, and the breaker's mutex stays off the request path.
func (c *Cluster) RecordBatch(responded, lost bool) {
	if circuitbreaker.State(c.state.Load()) != circuitbreaker.ClosedState {
		// A response over a connection that outlived the trouble is as good a
		// probe as a dial.
		if responded && c.admit(c.now()) {
			c.breaker.RecordSuccess()
		}
		return
	}
	if lost {
		c.breaker.RecordFailure()
	}
	if responded {
		c.breaker.RecordSuccess()
	}
}

// pick returns the endpoint for the next request, leaving out those in tried (a
// bit per endpoint), or -1 when none may be asked now: of the healthy ones, from a
// rotating start, the less loaded of two.
func (c *Cluster) pick(now int64, tried uint64) int {
	n := len(c.Endpoints)
	start := int(c.next.Add(1)) % n
	best, seen := -1, 0
	for i := range n {
		j := (start + i) % n
		e := c.Endpoints[j]
		if tried&(1<<j) != 0 || !e.Healthy(now) {
			continue
		}
		if best < 0 || e.Active() < c.Endpoints[best].Active() {
			best = j
		}
		if seen++; seen == 2 {
			break
		}
	}
	return best
}

// down returns why no endpoint may be asked: the last dial's error of one of them.
func (c *Cluster) down() error {
	for _, e := range c.Endpoints {
		if why := e.LastError(); why != "" {
			return fmt.Errorf("%w: dial %s: %s", ErrNone, e.Address, why)
		}
	}
	return ErrNone
}
