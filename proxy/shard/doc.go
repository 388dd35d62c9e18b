// Package shard runs the data plane's event loops.
//
// A Shard owns connections: everything that happens to them (bytes arriving,
// timers, mail from other goroutines) happens on the shard's one goroutine, so
// that the engines and exchanges above need no lock. Two drivers bring the bytes,
// and tests have both behave the same:
//
//   - Epoll (Linux): the loop waits in an epoll instance of its own, and reads and
//     writes without blocking; nothing runs beside it. It takes sockets over from
//     Go's poller, when the first comes.
//   - Portable: a reader goroutine per connection waits for bytes and hands them
//     over by mail; writes are tried on the loop without blocking, and only what
//     the kernel refuses goes to a writer goroutine. What is no plain socket goes
//     this way under either driver, so tests in fake time run on net.Pipe.
//
// One wake-up is: read the clock once, fire due timers, deliver the mail, read
// what is ready, flush each touched connection once. A shard with nothing to do sleeps until its next
// timer and costs no CPU.
//
// # Concurrency
//
// Post, Attach, Stop and Workers.Submit are safe for concurrent use. Everything
// else belongs to the shard's goroutine: call it from Receive, Expire or an
// engine's events.
package shard
