// Package upstream finds a stream to an endpoint for a request: clusters and
// their endpoints, load balancing, connection pools, protocol probing and the
// cluster's circuit breaker.
//
// Clusters and endpoints are shared by the process; a Pool and the connections
// in it belong to one shard, so a request never leaves its loop. Whose turn it is
// among endpoints is decided on each shard by itself, from one immutable set that
// Cluster.Update replaces; the shares over all shards are right because each
// shard's are.
//
// # Concurrency
//
// Cluster and Endpoint are safe for concurrent use (atomics; the breaker has a
// mutex that is taken when a dial ends and at most once per flush), except that
// one goroutine at a time may call Update and Retire. A Pool and its Requests
// belong to their shard's goroutine.
package upstream
