// Package proxy is the data plane: it takes requests from both protocol engines
// through one list of stages and answers every one of them exactly once.
//
// The contract of a request, stage by stage and failure by failure, is
// docs/request.md. The stages are the literal list in pipeline.go; rescue.go is
// the only place where an error becomes a reply; finish.go runs once on every
// path.
//
// # Concurrency
//
// Server's methods are safe for concurrent use. Everything about a connection
// or an exchange happens on its shard's goroutine, so stages take no lock. What
// shards share is atomic: clusters and endpoints, the breaker table, the cache.
package proxy
