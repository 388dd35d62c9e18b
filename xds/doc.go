// Package xds drives quadnine from a management server: it speaks Envoy's
// discovery protocol and turns what arrives into the snapshot that the data
// plane serves.
//
// Client is the protocol: streams, subscriptions, ACK and NACK. Applier is the
// configuration: what was received, what of it is valid, and what is in use. The
// two meet in Sink. A resource goes this way:
//
//	requested → accepted → warming → active → retained → gone
//	               └ rejected: the last good one stays in use
//
// Accepted is not warm: a response is answered as soon as its resources are
// valid, and each resource becomes active when what it needs is there, or after
// 15 s. A cluster that is taken away while something still uses it is retained
// for at most 60 s. So the order in which a server sends does not matter.
//
// # Concurrency
//
// Applier is safe for concurrent use. All of its state is guarded by one mutex,
// which timers, DNS and the admin pages take as well as the protocol. The mutex
// is held while resources compile and while Plane.Apply runs: successive
// snapshots reach the data plane in order, and the price is that a page waits
// for them. Files are written and names are resolved without it. Plane and
// Compiler are called with the mutex held and must not call the Applier;
// Resubscribe is called without it.
package xds
