// Package quadnine holds the nouns that every room of the sidecar shares: the
// key a breaker is kept for and the error that says who failed.
//
// It imports the standard library only.
//
// # Concurrency
//
// Its types are plain values: safe to copy, and safe to read from any goroutine
// once built.
package quadnine
