// Package wasm runs a WebAssembly module that computes numbers from numbers. The
// module is a guest that nobody trusts: it imports nothing, has a bounded memory
// of its own that everything is copied into, and a call that takes too long is
// stopped and costs its caller an error, nobody else anything.
//
//	m, err := wasm.Compile(ctx, wasm.Program{Code: code, Inputs: 2, Limits: limits})
//	err = m.Eval(rows, out) // one call for all rows
//
// docs/wasm.md says byte by byte what a module exports.
//
// # Concurrency
//
// A Module is safe for concurrent use: each call under way has an instance of its
// own. Eval may take as long as Limits.Timeout: call it where waiting is allowed,
// never on a shard.
package wasm
