// Package shard runs the data plane's event loops.
//
// A Shard owns connections: everything that happens to them (bytes arriving,
// timers, mail from other goroutines) happens on the shard's one goroutine, so
// that the engines and exchanges above need no lock. This is the portable
// driver: a reader goroutine per connection waits for bytes and hands them over
// by mail; writes are tried on the loop without blocking, and only what the
// kernel refuses goes to a writer goroutine.
//
// One wake-up is: read the clock once, fire due timers, deliver the mail, flush
// each touched connection once. A shard with nothing to do sleeps until its next
// timer and costs no CPU.
//
// # Concurrency
//
// Post, Attach, Stop and Workers.Submit are safe for concurrent use. Everything
// else belongs to the shard's goroutine: call it from Receive, Expire or an
// engine's events.
package shard
