// Package evidence is a sidecar's side of quadnine.model.v1.EvidenceService: it
// reports what trials of canaries have shown to a management server, and hands
// over what that says of them. While there is no server, nobody is told that there
// is one: each judge is on its own then.
//
// # Concurrency
//
// Run is called once. Nudge may be called from any goroutine. The functions of
// Options are called by Run's goroutine alone.
package evidence
