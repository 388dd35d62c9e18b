// Package bootstrap reads Envoy's bootstrap file: the node, the admin address,
// the management servers, static resources and runtime layers. What quadnine has
// no use for is named in a warning, or refused when strict.
//
// # Concurrency
//
// A Bootstrap is read-only once Load has returned it.
package bootstrap
