// Package api holds the protos of quadnine's own configuration, in the folders
// that buf wants, and their descriptor set, quadnine.binpb.
//
// # Concurrency
//
// Descriptors is read-only.
package api

import _ "embed"

//go:generate buf generate
//go:generate buf build -o quadnine.binpb

// Descriptors is a google.protobuf.FileDescriptorSet of every message that
// quadnine adds to Envoy's configuration, with what they import.
//
//go:embed quadnine.binpb
var Descriptors []byte
