// Package rivals starts quadnine and the proxies it is compared with, each with
// the configuration an expert would give it for this workload.
//
// One file per rival, its configuration beside it with a reason at every line
// that is not obvious. A rival that cannot be started is an error: a comparison
// with a rival left out is no comparison.
//
// # Concurrency
// Start may be called from any goroutine; what it returns belongs to the caller.
package rivals
