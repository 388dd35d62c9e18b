package upstream

import (
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"

	"github.com/quadnine/quadnine/snapshot"
)

// The cluster breaker opens after this many failed dials or lost connections with
// nothing good between them, and at least one for each endpoint; while the last
// dial of one of them went well, failed dials of others do not count. It opens for a
// second: a dial to a dead local app fails in microseconds, so asking again is
// cheap. Where a management server configures the cluster it is there only to
// spare the dials of a storm, and a request that it refuses could have been
// answered: it opens for less.
const (
	breakerFailures    = 5
	breakerOpenFor     = time.Second
	breakerOpenBriefly = 100 * time.Millisecond
)

// Transition is a change of a cluster breaker's state.
type Transition struct {
	Cluster  string
	From, To string
}

// breaker is a cluster's, for as long as the number of its endpoints stays.
type breaker struct {
	circuitbreaker.CircuitBreaker[any]
	failures uint
	openFor  time.Duration
}

// newBreaker returns a closed breaker for a cluster with these endpoints.
func (c *Cluster) newBreaker(s *set) *breaker {
	b := new(breaker)
	b.failures, b.openFor = tolerance(s)
	b.CircuitBreaker = circuitbreaker.NewBuilder[any]().
		WithFailureThreshold(b.failures).
		WithDelay(b.openFor).
		WithSuccessThreshold(1).
		OnStateChanged(func(e circuitbreaker.StateChangedEvent) { c.entered(b, e.OldState, e.NewState) }).
		Build()
	return b
}

// tolerance returns how many failures open the breaker of s, and for how long.
func tolerance(s *set) (failures uint, openFor time.Duration) {
	openFor = breakerOpenBriefly
	if s.settings.Balance.Policy == snapshot.LeastOfTwo {
		openFor = breakerOpenFor
	}
	return uint(max(breakerFailures, len(s.all)+1)), openFor
}

// entered notes a change of b's state.
func (c *Cluster) entered(b *breaker, from, to circuitbreaker.State) {
	c.turning.Lock()
	current := c.breaker.Load() == b
	if current {
		if to == circuitbreaker.OpenState {
			c.openTil.Store(c.now() + int64(b.openFor))
		}
		c.state.Store(uint32(to))
	}
	c.turning.Unlock()
	if current && c.notify != nil {
		c.notify(Transition{c.Name, from.String(), to.String()})
	}
}

// rebreak has a breaker for s. One that is not closed stays, unless there are
// endpoints that it knows nothing of.
func (c *Cluster) rebreak(s *set, fresh bool) {
	c.turning.Lock()
	old, state := c.breaker.Load(), circuitbreaker.State(c.state.Load())
	failures, openFor := tolerance(s)
	replace := fresh
	if state == circuitbreaker.ClosedState {
		replace = failures != old.failures || openFor != old.openFor
	}
	if replace {
		c.breaker.Store(c.newBreaker(s))
		c.state.Store(uint32(circuitbreaker.ClosedState))
	}
	c.turning.Unlock()
	if replace && state != circuitbreaker.ClosedState && c.notify != nil {
		c.notify(Transition{c.Name, state.String(), circuitbreaker.ClosedState.String()})
	}
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
		return now >= c.openTil.Load() && c.breaker.Load().TryAcquirePermit()
	default:
		return c.breaker.Load().TryAcquirePermit()
	}
}

// Available reports whether a request may be sent: the breaker is not open, or
// its next probe is due.
func (c *Cluster) Available(now int64) bool {
	return circuitbreaker.State(c.state.Load()) != circuitbreaker.OpenState || now >= c.openTil.Load()
}

func (c *Cluster) dialed() { c.breaker.Load().RecordSuccess() }

// dialFailed records a failed dial, whose endpoint knows of it already. While
// another one's last dial went well the cluster is well too: opening would take
// that one away from everybody.
func (c *Cluster) dialFailed() {
	switch {
	case !c.well():
		c.breaker.Load().RecordFailure()
	case circuitbreaker.State(c.state.Load()) != circuitbreaker.ClosedState:
		c.breaker.Load().RecordSuccess() // the dial had the probe's permit
	}
}

// well reports whether there is an endpoint to be asked whose last dial did not
// fail.
func (c *Cluster) well() bool {
	for _, e := range c.set.Load().all {
		if e.failures.Load() == 0 && e.Info().Health != snapshot.Unhealthy {
			return true
		}
	}
	return false
}

// RecordBatch records what one flush saw: whether exchanges got a response, and
// whether some lost their connection. Each counts once per flush: one connection
// carries many exchanges, and the breaker's mutex stays off the request path.
func (c *Cluster) RecordBatch(responded, lost bool) {
	b := c.breaker.Load()
	if circuitbreaker.State(c.state.Load()) != circuitbreaker.ClosedState {
		// A response over a connection that outlived the trouble is as good a
		// probe as a dial.
		if responded && c.admit(c.now()) {
			b.RecordSuccess()
		}
		return
	}
	if lost {
		b.RecordFailure()
	}
	if responded {
		b.RecordSuccess()
	}
}
