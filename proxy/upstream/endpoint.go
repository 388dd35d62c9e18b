package upstream

import (
	"sync/atomic"
	"time"

	"github.com/quadnine/quadnine/snapshot"
)

// Back-off of an endpoint that refuses connections: short enough that a restart
// of the local app is noticed within a second.
const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = time.Second
)

// Endpoint is one address and what is known of it, shared by all shards. It
// outlives changes of its cluster that leave its address and protocol alone.
type Endpoint struct {
	Address string

	forced   snapshot.Protocol
	info     atomic.Pointer[Info]
	gone     atomic.Bool   // no longer one of its cluster's
	learned  atomic.Uint32 // snapshot.Protocol; Auto until a probe has answered
	extends  atomic.Bool   // the latest HTTP/2 connection's SETTINGS offered extended CONNECT
	active   atomic.Int64  // exchanges
	conns    atomic.Int64
	failures atomic.Int64 // dials failed in a row
	retryAt  atomic.Int64 // ns; not before, while failures > 0
	lastErr  atomic.Pointer[string]

	connects, connectFailures, requests, successes, errors, timeouts atomic.Uint64
}

// Info is what the configuration says of an endpoint.
type Info struct {
	Hostname              string
	Weight                uint32
	Health                snapshot.Health
	Region, Zone, SubZone string
	Priority              uint32
}

// Info returns what the configuration says of the endpoint now.
func (e *Endpoint) Info() Info {
	if i := e.info.Load(); i != nil {
		return *i
	}
	return Info{Weight: 1}
}

// Hostname returns the name that the endpoint goes by, for a request's authority;
// "" without one.
func (e *Endpoint) Hostname() string {
	if i := e.info.Load(); i != nil {
		return i.Hostname
	}
	return ""
}

// Protocol returns what the endpoint speaks: Auto while that is unknown,
// Downstream where it is each caller's.
func (e *Endpoint) Protocol() snapshot.Protocol {
	if e.forced != snapshot.Auto {
		return e.forced
	}
	return snapshot.Protocol(e.learned.Load())
}

// takesExtendedConnect reports whether a request for another protocol, of a caller
// that speaks p, goes to the endpoint over HTTP/2. Where HTTP/2 was only found by a
// probe, HTTP/1.1 is the better bet until the endpoint has offered it.
func (e *Endpoint) takesExtendedConnect(p snapshot.Protocol) bool {
	switch e.forced {
	case snapshot.H1:
		return false
	case snapshot.Downstream:
		return p != snapshot.H1
	case snapshot.Auto:
		return e.Protocol() == snapshot.H2C && e.extends.Load()
	default:
		return true
	}
}

// learn remembers what a probe found; Auto forgets.
func (e *Endpoint) learn(p snapshot.Protocol) { e.learned.Store(uint32(p)) }

// Healthy reports whether the endpoint is to be asked at now: it is not said to
// be unhealthy, and no dial has failed just before.
func (e *Endpoint) Healthy(now int64) bool {
	i := e.info.Load()
	return (i == nil || i.Health != snapshot.Unhealthy) && e.rested(now)
}

// rested reports whether the endpoint's back-off is over.
func (e *Endpoint) rested(now int64) bool {
	return e.failures.Load() == 0 || now >= e.retryAt.Load()
}

// HealthFlags returns what is wrong with the endpoint at now, in the words of
// Envoy's /clusters, or "healthy".
func (e *Endpoint) HealthFlags(now int64) string {
	flags := ""
	if i := e.info.Load(); i != nil {
		switch i.Health {
		case snapshot.Unhealthy:
			flags = "/failed_eds_health"
		case snapshot.Degraded:
			flags = "/degraded_eds_health"
		}
	}
	if !e.rested(now) {
		flags += "/failed_dial"
	}
	if flags == "" {
		return "healthy"
	}
	return flags
}

// Active returns how many exchanges run on the endpoint.
func (e *Endpoint) Active() int64 { return e.active.Load() }

// Conns returns how many connections are open to it.
func (e *Endpoint) Conns() int64 { return e.conns.Load() }

// LastError returns the last dial's error while the endpoint is down, else "".
func (e *Endpoint) LastError() string {
	if p := e.lastErr.Load(); p != nil && e.failures.Load() > 0 {
		return *p
	}
	return ""
}

func (e *Endpoint) dialFailed(now int64, err error) {
	e.connectFailures.Add(1)
	n := e.failures.Add(1)
	wait := min(minBackoff<<min(n-1, 10), maxBackoff)
	e.retryAt.Store(now + int64(wait))
	msg := err.Error()
	e.lastErr.Store(&msg)
	// What comes back after a restart may speak another protocol.
	e.learn(snapshot.Auto)
}

func (e *Endpoint) dialed() {
	e.connects.Add(1)
	e.failures.Store(0)
}

// Counts are an endpoint's counters since the start.
type Counts struct {
	Connects        uint64
	ConnectFailures uint64
	Requests        uint64 // streams opened
	Successes       uint64 // responses that are no server error
	Errors          uint64 // server errors, resets and timeouts
	Timeouts        uint64
}

// Counts returns the counters.
func (e *Endpoint) Counts() Counts {
	return Counts{
		Connects: e.connects.Load(), ConnectFailures: e.connectFailures.Load(), Requests: e.requests.Load(),
		Successes: e.successes.Load(), Errors: e.errors.Load(), Timeouts: e.timeouts.Load(),
	}
}

// Failed counts a request that the endpoint did not answer well.
func (e *Endpoint) Failed() { e.errors.Add(1) }

// Succeeded counts a response that is no server error.
func (e *Endpoint) Succeeded() { e.successes.Add(1) }

// TimedOut counts a request that the endpoint did not answer in time.
func (e *Endpoint) TimedOut() { e.timeouts.Add(1) }
