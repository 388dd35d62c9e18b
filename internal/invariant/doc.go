// Package invariant holds checks that are compiled in only with the build tag
// invariants, as `make race` does: what they find is a defect of ours, never bad
// input.
//
// # Concurrency
//
// Check may be called from any goroutine, Poison by whoever owns the bytes.
package invariant

// Poisoned is the byte that Poison writes: no field may hold it.
const Poisoned = 0x15
