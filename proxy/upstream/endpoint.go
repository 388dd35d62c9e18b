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

// Endpoint is one address and what is known of it, shared by all shards.
type Endpoint struct {
	Address string

	forced   snapshot.Protocol
	learned  atomic.Uint32 // snapshot.Protocol; Auto until a probe has answered
	active   atomic.Int64  // exchanges
	conns    atomic.Int64
	failures atomic.Int64 // dials failed in a row
	retryAt  atomic.Int64 // ns; not before, while failures > 0
	lastErr  atomic.Pointer[string]

	connects, connectFailures, requests, errors atomic.Uint64
}

// Protocol returns what the endpoint speaks, Auto while that is unknown.
func (e *Endpoint) Protocol() snapshot.Protocol {
	if e.forced != snapshot.Auto {
		return e.forced
	}
	return snapshot.Protocol(e.learned.Load())
}

// learn remembers what a probe found; Auto forgets.
func (e *Endpoint) learn(p snapshot.Protocol) { e.learned.Store(uint32(p)) }

// Healthy reports whether the endpoint may be picked at now.
func (e *Endpoint) Healthy(now int64) bool {
	return e.failures.Load() == 0 || now >= e.retryAt.Load()
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
	Errors          uint64 // server errors, resets and timeouts
}

// Counts returns the counters.
func (e *Endpoint) Counts() Counts {
	return Counts{e.connects.Load(), e.connectFailures.Load(), e.requests.Load(), e.errors.Load()}
}

// Failed counts a request that the endpoint did not answer well.
func (e *Endpoint) Failed() { e.errors.Add(1) }

func (e *Endpoint) begin() {
	e.active.Add(1)
	e.requests.Add(1)
}
