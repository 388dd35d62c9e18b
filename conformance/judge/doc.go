// Package judge holds no code, only tests: a management server that nobody here
// wrote starts quadnine in the place of its Envoy and drives it live.
//
// The server is Envoy Gateway, standalone: it reads Gateway API resources from
// files, starts the proxy itself with Envoy's command line, and speaks delta ADS
// over mTLS to it, with certificates from files. The tests write those files and
// watch the wire. With -envoy the real Envoy runs in quadnine's place: what fails
// then is the suite's fault.
//
// It takes the ports that Envoy Gateway cannot be talked out of, and installing
// Envoy Gateway takes minutes; so the tests run with QUADNINE_JUDGE=1 only, which
// `make judge` sets.
//
// # Concurrency
// The tests run one after another, on one stand.
package judge
