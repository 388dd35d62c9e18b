// Package testkit holds what tests of several rooms need: an in-memory network
// that works inside testing/synctest bubbles, clients and servers on it.
//
// # Concurrency
//
// Net and its listeners are safe for concurrent use.
package testkit
