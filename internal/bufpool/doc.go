// Package bufpool lends buffers for bodies under way, so that what is large is
// neither allocated for each flush nor held by a connection that rests.
//
//	b = bufpool.Grow(b, n)  // room for n more bytes; may come from the pool
//	b = append(b, p...)
//	bufpool.Free(b)         // b must not be used any more
//
// # Concurrency
//
// All functions are safe for concurrent use; a buffer belongs to whoever has it.
package bufpool
