// Package statsapp is a small statistics service: it takes events, keeps them
// per tenant in buckets of an hour, and answers pv, uv, ratio, funnel and
// avg_duration for a tenant and a range of time, over HTTP/1.1, HTTP/2 without
// TLS, and gRPC, on one port. Faults can be switched on per tenant, so that a
// client's behavior towards an unwell service can be watched.
//
// Data lives in memory and is bounded (Options). The service has no access
// control, and its fault switch is on the same port: it is for demonstrations
// and tests.
//
// # Concurrency
//
// An App is safe for concurrent use. Each tenant has one lock: queries of a
// tenant run side by side, its events are added one at a time (a query may see
// part of a batch), and no tenant waits for another. Close may be called at any time, more than once.
package statsapp
