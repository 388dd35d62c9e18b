// Package invariant holds checks that are compiled in only with the build tag
// invariants, as `make race` does: what they find is a defect of ours, never bad
// input.
//
// # Concurrency
//
// Check may be called from any goroutine.
package invariant
