// Package ship measures what requests notice of model versions that are shipped
// meanwhile: the same open load on a sidecar that does nothing else, on one that
// activates versions all the time, and on one beside which a thread of the lowest
// priority burns the CPU that those activations take.
//
// Rounds are interleaved and each run has a process of its own, so that runs can
// be compared in pairs.
//
// # Concurrency
// One Measure at a time. Nothing here is safe for concurrent use.
package ship
