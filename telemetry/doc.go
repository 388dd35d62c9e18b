// Package telemetry counts, times and traces what the sidecar does, and shows
// the same numbers to Prometheus, to OpenTelemetry and to the console.
//
// Every instrument is declared once, in catalog.go; docs/metrics.md is
// generated from it. Event loops write through a Shard each; everything else is
// read by callback when somebody asks.
//
// # Concurrency
//
// A Shard has one writer: the loop that owns it. Its writes are atomic stores,
// so that any goroutine may read them through Registry; it takes no lock and
// allocates nothing but a tenant's first series. Registry, Tracer and Telemetry
// are safe for concurrent use. Gauge callbacks run on the goroutine that
// collects and may overlap when two exporters collect at once.
package telemetry
