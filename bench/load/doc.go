// Package load drives a proxy with h2load and reads what it reports.
//
// # Concurrency
// Every function may be called from any goroutine; each call runs its own
// h2load process.
package load
