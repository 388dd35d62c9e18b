// Package console is the admin HTTP server: what an operator, a probe or a
// scraper may ask of a running sidecar. It only reads, and answers GET and HEAD,
// but for one thing: POST /models/{model}/versions/{version}/rollback, which is
// refused to whatever a foreign web page can send. It has no authentication: who
// reaches the admin address may roll back.
//
// Paths are Envoy's where the meaning is equal (/ready, /stats/prometheus,
// /clusters, /server_info). It knows the rest of the sidecar only through Views,
// plain functions and structs that whoever wires the process fills in. The JSON
// names of the structs are stable.
//
// # Concurrency
//
// The handler is safe for concurrent use if the views are: they are called on
// the goroutine of each request. Ready is answered from Views.Ready alone and
// waits for no other view, lock or dump.
package console
