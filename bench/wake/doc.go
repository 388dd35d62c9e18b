// Package wake measures how long a goroutine that is ready waits until it runs,
// by the way it is woken: on its own processor (P), stolen by another, taken from
// the scheduler's global queue, and by a socket.
//
// # Concurrency
// Measure is called by one goroutine at a time, in a process that does nothing
// else.
package wake
