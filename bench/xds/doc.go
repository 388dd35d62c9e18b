// Package xds measures what a change of configuration costs: the time from the
// management server's send callback to the first request that the new
// configuration answers, of Envoy and quadnine side by side.
//
// Both are started from the same bootstrap text and fed by one go-control-plane
// server with the same resources; each is bound to one CPU, everything else to
// the other. The two take turns, change by change. A sequential client asks
// without a pause while a change is on its way; what it gets besides 200 is
// counted. A second table compares the rates of requests that the first and the
// last of 10,000 routes match.
//
// # Concurrency
// One comparison at a time: Compare binds the calling process to one CPU while
// it runs.
package xds
