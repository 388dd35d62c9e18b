// Package captures holds no code, only tests: what Envoy Gateway, Istio and Kuma
// sent to a real Envoy, replayed to quadnine by a go-control-plane server, with
// the bootstrap that each of them wrote.
//
// The resources are those of xds/compile/testdata/captures, and the list of what
// is refused there, with its reasons, is what the binary is held to. Addresses
// are rewritten: listeners bind free loopback ports, and every endpoint is one
// fake backend. Each capture is replayed twice: as it was sent, and with the
// refused fields taken out, which has to be accepted as a whole and to carry
// traffic.
//
// # Concurrency
// The tests run one after another.
package captures
