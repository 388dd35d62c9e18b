// Package compile turns the wire bytes of xDS resources into parts of a
// snapshot. Every field of every message has a disposition in one table: it is
// used, or ignored with a reason, or refused with a hint; a field that the table
// does not name is refused. Verdicts are Envoy's, except where a field is not
// supported here.
//
// What was compiled is kept by name: a resource that says the same as before,
// in whatever order its maps were written, yields the same pointer, and a route
// table costs what changed in it.
//
// # Concurrency
//
// A Compiler belongs to one goroutine at a time. What it returns is immutable
// and may be read from any. It keeps the bytes that it was given: they must not
// be changed afterwards.
package compile
