// Package conformance holds no code, only tests: the built quadnine binary
// between clients, servers and specifications that were not written for it.
//
// A tool that is missing fails the run and names `make deps`; nothing is
// skipped. Loops run at a reduced length; with QUADNINE_SOAK=1 (`make soak`)
// they run at full length. Every process listens on loopback, on a port that was
// free when it started, and is ended with its test.
//
// # Concurrency
// The tests run one after another: they load the machine, and some kill things.
package conformance
