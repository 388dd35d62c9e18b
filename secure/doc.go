// Package secure makes crypto/tls configurations of what a snapshot says of TLS,
// and decides whether a peer is who it should be.
//
// What comes from files is read anew when the files have changed, which each
// handshake looks at, and Store.Refresh in between: a look costs a few stat calls,
// a handshake hundreds of microseconds, and there is no watcher whose events could
// be lost. What is broken keeps what was read before. Connections keep what they
// were made with.
//
// # Concurrency
//
// Store, Context and Verifier are safe for concurrent use.
package secure
