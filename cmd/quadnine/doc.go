// Command quadnine is the sidecar and everything around it: run it beside a
// service, or try it with `quadnine demo`.
//
// It only wires the rooms together; each command is one file.
//
// # Concurrency
//
// A command owns what it starts and waits for all of it before it returns.
package main
