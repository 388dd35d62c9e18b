// Package driver is the load that h2load cannot make: headers of which each
// request has its own, requests at a fixed rate whose latency counts from the
// moment they were due, long streams of small messages, thousands of mostly idle
// connections.
//
// It runs as a process of its own (Child), bound to the client's CPU, and is
// told what to do by a Plan. Everything that can be is encoded before the run;
// what is left is one thread in a loop of epoll, read, write.
//
// # Open loop
// With a rate, request i is due at start + i/rate, whatever happened to the
// ones before it, and its latency counts from there: a proxy that stalls makes
// all requests late that were due meanwhile (no coordinated omission). What a
// connection's stream limit holds back waits, and the waiting counts.
//
// # Concurrency
// A run is one goroutine on one thread. Process is safe for concurrent use.
package driver
