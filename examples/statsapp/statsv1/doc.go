// Package statsv1 is the generated gRPC API of the statistics service, from
// stats.proto.
//
// # Concurrency
//
// Clients are safe for concurrent use; messages are not once shared for
// writing.
package statsv1

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative stats.proto
