// Package differential holds no code, only tests: Envoy and quadnine side by
// side, started from the same bootstrap text, fed by the same go-control-plane
// server from the same snapshots, in front of the same servers. Every request
// goes to both, and what comes back, and what arrives upstream, is compared.
//
// What may differ stands in differences.txt, each with its reason. Anything else
// fails, and so does a line there that nothing matches any more. Loops run at a
// reduced length; with QUADNINE_SOAK=1 they run at full length. With -self a
// second Envoy takes quadnine's place: what differs then is the suite's fault.
//
// # Concurrency
// The tests run one after another: they load the machine, and some kill things.
package differential
