// Package upstream finds a stream to an endpoint for a request: clusters and
// their endpoints, load balancing, connection pools, protocol probing and the
// cluster's circuit breaker.
//
// Clusters and endpoints are shared by the process; a Pool and the connections
// in it belong to one shard, so a request never leaves its loop.
//
// # Concurrency
//
// Cluster and Endpoint are safe for concurrent use (atomics; the breaker has a
// mutex that is taken when a dial ends and at most once per flush). A Pool and
// its Requests belong to their shard's goroutine.
package upstream
