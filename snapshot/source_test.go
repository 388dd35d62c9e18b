package snapshot

import (
	"strings"
	"testing"
	"time"
)

// good is a Source without a fault.
func good() Source {
	return Source{Role: "inbound", Upstreams: []string{"http://127.0.0.1:8080"}, Timeout: time.Second, Idle: time.Second}
}

func TestCompileNamesTheFlag(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Source)
		want   string
	}{
		"role":         {func(s *Source) { s.Role = "sideways" }, `--role: "sideways" is no role: use inbound (in front of the local app) or outbound`},
		"no upstream":  {func(s *Source) { s.Upstreams = nil }, `--upstream: give at least one, like --upstream http://127.0.0.1:8080`},
		"no URL":       {func(s *Source) { s.Upstreams = []string{"127.0.0.1:8080"} }, `--upstream: "127.0.0.1:8080" is no URL: write http://host:port (h2c:// and h1:// force the protocol)`},
		"no host":      {func(s *Source) { s.Upstreams = []string{"http://:8080"} }, `--upstream: "http://:8080" has no host: write http://127.0.0.1:port for the local app`},
		"https mixed":  {func(s *Source) { s.Upstreams = []string{"https://app", "http://app"} }, `--upstream: some URLs are https:// and others are not: use one for all, because an endpoint in plain text would get what was meant to be secret`},
		"no key":       {func(s *Source) { s.TLS.Cert = "c.pem" }, `--tls-key: is missing: --tls-cert needs the key that belongs to it`},
		"no cert":      {func(s *Source) { s.TLS.Key = "k.pem" }, `--tls-cert: is missing: --tls-key needs the certificate that it belongs to`},
		"client ca":    {func(s *Source) { s.TLS.ClientCA = "ca.pem" }, `--tls-client-ca: needs --tls-cert and --tls-key: callers show certificates over TLS only`},
		"client san":   {func(s *Source) { s.TLS = SourceTLS{Cert: "c", Key: "k", ClientNames: []string{"a"}} }, `--tls-client-san: needs --tls-client-ca: without it anybody could claim a name`},
		"san":          {func(s *Source) { s.TLS = SourceTLS{Cert: "c", Key: "k", ClientCA: "a", ClientNames: []string{"*"}} }, `--tls-client-san: "*" is no name: write all of it, like spiffe://example.org/ns/shop/sa/cart, or its beginning and a star`},
		"upstream ca":  {func(s *Source) { s.TLS.UpstreamCA = "ca.pem" }, `--upstream-tls-ca: has no effect without an https:// upstream or peer`},
		"upstream key": {func(s *Source) { s.Upstreams, s.TLS.UpstreamCert = []string{"https://app"}, "c.pem" }, `--upstream-tls-key: is missing: --upstream-tls-cert needs the key that belongs to it`},
		"scheme":       {func(s *Source) { s.Upstreams = []string{"grpc://app"} }, `--upstream: "grpc://app": unknown scheme "grpc": use http, h2c, h1 or https`},
		"path":         {func(s *Source) { s.Upstreams = []string{"http://app/api"} }, `--upstream: "http://app/api": only a host and a port may follow the scheme: paths are forwarded unchanged`},
		"user":         {func(s *Source) { s.Upstreams = []string{"http://me@app"} }, `--upstream: "http://me@app": only a host and a port may follow the scheme: paths are forwarded unchanged`},
		"port 0":       {func(s *Source) { s.Upstreams = []string{"http://app:0"} }, `--upstream: "http://app:0": port 0 is not within 1 to 65535`},
		"port 65536":   {func(s *Source) { s.Upstreams = []string{"http://app:65536"} }, `--upstream: "http://app:65536": port 65536 is not within 1 to 65535`},
		"peer":         {func(s *Source) { s.Peers, s.Trust = []string{"ftp://p"}, []string{"10.0.0.0/8"} }, `--peer: "ftp://p": unknown scheme "ftp": use http, h2c, h1 or https`},
		"peer trust":   {func(s *Source) { s.Peers = []string{"http://p"} }, `--peer: needs --trust with the peers' addresses (a CIDR): without it their x-quadnine-hop mark is ignored and a request could circle among sidecars`},
		"peer role":    {func(s *Source) { s.Role, s.Peers, s.Trust = "outbound", []string{"http://p"}, []string{"::1"} }, `--peer: an outbound listener has no peers: list every endpoint with --upstream`},
		"trust":        {func(s *Source) { s.Trust = []string{"localhost"} }, `--trust: "localhost" is no CIDR: write 10.0.0.0/8 or an address`},
		"timeout":      {func(s *Source) { s.Timeout = 0 }, `--timeout: is 0s: want more than 0`},
		"idle timeout": {func(s *Source) { s.Idle = -time.Second }, `--idle-timeout: is -1s: want more than 0`},
		"degrade":      {func(s *Source) { s.Degrade = []string{"api"} }, `--degrade: "api" is no path prefix: it starts with / and has no query`},
		"degrade ?":    {func(s *Source) { s.Degrade = []string{"/api?x"} }, `--degrade: "/api?x" is no path prefix: it starts with / and has no query`},
		"upgrade":      {func(s *Source) { s.Upgrades = []string{"websocket", "a b"} }, `--upgrade: "a b" is no protocol to change to: name some like websocket, or none alone`},
		"upgrade h2c":  {func(s *Source) { s.Upgrades = []string{"h2c"} }, `--upgrade: h2c is no longer an upgrade (RFC 9113 section 3.1): callers speak HTTP/2 from the start`},
		"upgrade none": {func(s *Source) { s.Upgrades = []string{"none", "websocket"} }, `--upgrade: "none" is no protocol to change to: name some like websocket, or none alone`},
		"file":         {func(s *Source) { s.File = &File{TenantBreaker: &TenantBreaker{MaxKeys: 1 << 30}} }, `tenantBreaker.maxKeys is 1073741824: want 1 to 16777216`},
	} {
		t.Run(name, func(t *testing.T) {
			src := good()
			c.change(&src)
			s, err := Compile(src)
			if err == nil || err.Error() != c.want || s != nil {
				t.Errorf("error %v\nwant  %s", err, c.want)
			}
		})
	}
}

// TestCompileTellsEverything: one run of the command shows all that is wrong.
func TestCompileTellsEverything(t *testing.T) {
	_, err := Compile(Source{Role: "x", Upstreams: []string{"x"}, Trust: []string{"x"}, Degrade: []string{"x"}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, flag := range []string{"--role", "--upstream", "--trust", "--timeout", "--idle-timeout", "--degrade"} {
		if strings.Count(err.Error(), flag+": ") != 1 {
			t.Errorf("%s is not named once in:\n%v", flag, err)
		}
	}
}

func TestCompileEndpoints(t *testing.T) {
	src := good()
	src.Role = "outbound"
	src.Upstreams = []string{"http://app", "h2c://10.0.0.1:81/", "h1://[::1]:8080"}
	s, err := Compile(src)
	if err != nil {
		t.Fatal(err)
	}
	want := []Endpoint{{Address: "app:80", Weight: 1}, {Address: "10.0.0.1:81", Protocol: H2C, Weight: 1}, {Address: "[::1]:8080", Protocol: H1, Weight: 1}}
	got := s.Clusters[LocalCluster].Assignment.Endpoints
	if len(got) != len(want) || s.Clusters[PeersCluster] != nil || s.Listeners[0].Role != Outbound {
		t.Fatalf("got %+v", s)
	}
	for i, e := range got {
		if e != want[i] {
			t.Errorf("endpoint %d: %+v, want %+v", i, e, want[i])
		}
	}
}
