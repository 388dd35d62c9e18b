// Package proc starts the programs that a measurement or a conformance test
// needs, reads what they cost, and ends them again.
//
// It only ever signals processes it has started itself, by their process group.
// Everything listens on loopback.
//
// # Concurrency
// A Proc is safe for concurrent use. Groups of Procs need no order: each has its
// own process group and ends alone.
package proc
