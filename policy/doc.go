// Package policy decides what a request gets when its upstream is unwell: may
// it go (Breakers), is there a stored answer (Cache), and which degrade step
// comes next (Next); and what becomes of a model version on trial (Judge).
//
// It opens no socket, reads no file, keeps no metric and writes no log. Time
// comes in as now, monotonic nanoseconds since an origin that the caller
// chooses once, never negative; what happened comes in as an Outcome, and what changed goes
// out as an Event.
//
//	d, p := breakers.Decide(key, now)
//	... forward, unless d is Reject ...
//	ev := breakers.Record(p, policy.Qualify(status), policy.Upstream5xx, now)
//
// # Concurrency
//
// Breakers, Cache and Judge are safe for concurrent use and start no goroutine.
// Decide and Record take no lock and allocate nothing once a key's breaker
// exists (TestDecideAllocs); Get takes no lock except when it is its turn to
// keep the cache's books, which it never waits for. Everything else in the
// package is a plain value or a pure function.
package policy
