// Package wire is the little of HTTP/2 that a load driver and its backend need:
// frame headers, written and read in place, and a loop round epoll that reads
// many connections on one thread.
//
// It trusts its peer and exists to be cheap: client and backend share one CPU
// with each other, and what they use is not there for load.
//
// # Concurrency
// Nothing here is safe for concurrent use: one goroutine owns a Poll and its
// connections.
package wire
