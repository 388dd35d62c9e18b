// Package control is a small management server: it serves a directory of xDS
// resources to sidecars and Envoys, in the incremental and the state-of-the-world
// variant of the aggregated stream.
//
// The directory is taken as a whole or not at all: a Loader compiles every
// resource as a sidecar would and checks what they say of one another. A Server
// keeps, for each node and resource, what was sent, accepted and rejected. A
// version that a node has rejected is not given to nodes that come later, until
// the resource changes: they get the last version that a node accepted. Who has
// rejected a version is not sent it again.
//
// Responses are made by go-control-plane's LinearCache, one per kind and lane.
// A lane is what one set of nodes is to get: all that is newest, or that with
// the last accepted version in the place of some rejected ones.
//
// # Concurrency
//
// A Server is safe for concurrent use; one mutex guards all of its state and is
// held while responses are made, never while one is sent or a file is read. A
// Loader belongs to one goroutine at a time. A Set is immutable.
package control
