package conformance

import (
	"net"
	"strconv"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"github.com/quadnine/quadnine/bench/proc"
	"github.com/quadnine/quadnine/bench/rivals"
)

// interopCases are those of gRPC's interoperability tests that need neither Google's
// accounts nor compression (interop-test-descriptions.md).
var interopCases = []string{
	"empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream",
	"timeout_on_sleeping_server", "cancel_after_begin", "cancel_after_first_response", "status_code_and_message",
	"special_status_message", "custom_metadata", "unimplemented_method", "unimplemented_service",
}

// TestGRPCInterop runs grpc-go's interop client against its interop server: first
// alone, so that what fails through the sidecar is the sidecar's doing, then through
// it, by every driver, in plain text and with TLS on both sides.
func TestGRPCInterop(t *testing.T) {
	certs := newCerts(t)
	creds, err := credentials.NewServerTLSFromFile(certs.Cert, certs.Key)
	if err != nil {
		t.Fatal(err)
	}
	server, secure := serveInterop(t), serveInterop(t, grpc.Creds(creds))
	run := func(t *testing.T, addr string, args ...string) {
		t.Helper()
		for _, name := range interopCases {
			p := start(t, bin.interop, append([]string{"--server_host=127.0.0.1", "--server_port=" + strconv.Itoa(proc.Port(addr)), "--test_case=" + name}, args...))
			if err := p.Wait(deadline(t, within)); err != nil {
				t.Errorf("%s: %v\n%s", name, err, p.Output())
			}
		}
	}
	t.Run("without a proxy", func(t *testing.T) { run(t, server) })
	for driver := range drivers {
		t.Run(driver+" plain", func(t *testing.T) {
			run(t, startSidecar(t, nil, "--upstream", "http://"+server, "--driver", driver).addr)
		})
		t.Run(driver+" TLS", func(t *testing.T) {
			s := startSidecar(t, nil, append(certs.flags(), "--upstream", "https://"+secure, "--upstream-tls-ca", certs.Cert, "--driver", driver)...)
			run(t, s.addr, "--use_tls", "--use_test_ca", "--ca_file="+certs.Cert, "--server_host_override=localhost")
		})
	}
}

// serveInterop serves grpc-go's interop service and returns its address.
func serveInterop(t *testing.T, opts ...grpc.ServerOption) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(opts...)
	testgrpc.RegisterTestServiceServer(srv, interop.NewTestServer())
	go func() { _ = srv.Serve(l) }() // ends with Stop
	t.Cleanup(srv.Stop)
	return l.Addr().String()
}

// drivers yields the ways in which event loops may wait for sockets.
func drivers(yield func(name string) bool) {
	_ = yield("portable") && yield("epoll")
}

// certs are the files of a certificate for localhost, its own authority.
type certs struct{ rivals.Certs }

func newCerts(t *testing.T) certs {
	t.Helper()
	c, err := rivals.NewCerts(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return certs{c}
}

// flags have the sidecar show the certificate to callers.
func (c certs) flags() []string { return []string{"--tls-cert", c.Cert, "--tls-key", c.Key} }
