// Package policyv1 is generated from the .proto files beside it.
//
// # Concurrency
//
// Messages are plain values: one goroutine may write one at a time.
package policyv1
