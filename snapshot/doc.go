// Package snapshot holds the compiled configuration: what the listener accepts,
// where a request goes, and under which policies. It knows nothing of where the
// configuration came from: flags and quadnine.yaml fill it through Source.
//
// # Concurrency
//
// A Snapshot is immutable once Compile has returned it and may be read from any
// goroutine without a lock. Replace it as a whole.
package snapshot
