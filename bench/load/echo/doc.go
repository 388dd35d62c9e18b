// Package echo is a backend for loads that Debian's servers do not know: it
// answers each request with one fixed reply, and sends the messages of a long
// stream back as they come.
//
// It decodes no headers. It runs as a process of its own (Child).
//
// # Concurrency
// A server is one goroutine on one thread.
package echo
