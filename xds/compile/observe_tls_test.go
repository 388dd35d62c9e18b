package compile

import (
	"bufio"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quadnine/quadnine/internal/testkit"
)

// papers are the certificates of a scene.
type papers struct {
	ca, other *testkit.CA
	own, two  testkit.Pair // of the sidecar: for a.test, and for b.test
	caller    testkit.Pair // spiffe://td/caller
	dir       string       // with cert.pem, key.pem and ca.pem
}

// printed is what of a configuration stands for a paper: $cert and the like.
var printed = map[string]func(p *papers) string{
	"$cert2":  func(p *papers) string { return quoted(p.two.Cert) },
	"$key2":   func(p *papers) string { return quoted(p.two.Key) },
	"$cert":   func(p *papers) string { return quoted(p.own.Cert) },
	"$key":    func(p *papers) string { return quoted(p.own.Key) },
	"$ca":     func(p *papers) string { return quoted(p.ca.PEM) },
	"$rawkey": func(p *papers) string { return quoted([]byte(base64.StdEncoding.EncodeToString(p.own.Key))) },
	"$hash":   func(p *papers) string { return hex.EncodeToString(sum(certificateOf(p.caller).Raw)) },
	"$spki": func(p *papers) string {
		return base64.StdEncoding.EncodeToString(sum(certificateOf(p.caller).RawSubjectPublicKeyInfo))
	},
	"$dir": func(p *papers) string { return p.dir },
}

func quoted(text []byte) string {
	b, _ := json.Marshal(string(text))
	return string(b)
}

func sum(data []byte) []byte {
	s := sha256.Sum256(data)
	return s[:]
}

func certificateOf(p testkit.Pair) *x509.Certificate {
	block, _ := pem.Decode(p.Cert)
	c, _ := x509.ParseCertificate(block.Bytes)
	return c
}

// issue makes the papers that c names, and returns c with them.
func (c observed) issue(t *testing.T) (observed, *papers) {
	t.Helper()
	if !strings.Contains(c.listener+strings.Join(c.clusters, ""), "$") {
		return c, nil
	}
	p := &papers{ca: testkit.NewCA(t, "ca"), other: testkit.NewCA(t, "other"), dir: t.TempDir()}
	p.own, p.two, p.caller = p.ca.Issue("a.test", "127.0.0.1"), p.ca.Issue("b.test"), p.ca.Issue("spiffe://td/caller", "caller.test")
	p.own.Store(t, p.dir)
	testkit.Replace(t, filepath.Join(p.dir, "ca.pem"), p.ca.PEM)
	fill := func(text string) string {
		for _, name := range []string{"$cert2", "$key2", "$cert", "$key", "$ca", "$rawkey", "$hash", "$spki", "$dir"} {
			if strings.Contains(text, name) {
				text = strings.ReplaceAll(text, name, printed[name](p))
			}
		}
		return text
	}
	c.listener = fill(c.listener)
	clusters := make([]string, len(c.clusters))
	for i, text := range c.clusters {
		clusters[i] = fill(text)
	}
	c.clusters = clusters
	return c, p
}

// secured is what a connection over TLS came to.
type secured struct {
	tls.ConnectionState
	answer string // the app's name; "" without an answer
	status int
	header http.Header // that the app saw
	err    error
}

// over asks the sidecar over TLS by HTTP/1.1, on a connection of its own.
func (s *scene) over(config *tls.Config) (out secured) {
	s.t.Helper()
	raw, err := s.net.Dial(s.t.Context(), "192.0.2.9:80")
	if err != nil {
		return secured{err: err}
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(time.Minute))
	c := tls.Client(raw, config)
	if out.err = c.Handshake(); out.err != nil {
		return out
	}
	out.ConnectionState = c.ConnectionState()
	go func() { // beside reading: tickets may come, and a pipe holds nothing
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nhost: a.test\r\nx-forwarded-client-cert: theirs\r\nconnection: close\r\n\r\n")
	}()
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if out.err = err; err != nil {
		return out
	}
	defer res.Body.Close()
	out.status = res.StatusCode
	var e echo
	out.err = json.NewDecoder(res.Body).Decode(&e)
	out.answer, out.header = e.App, e.Header
	return out
}

// trusting is a caller who knows the authority, and asks for a name.
func (s *scene) trusting(name string, own ...testkit.Pair) *tls.Config {
	s.t.Helper()
	c := &tls.Config{RootCAs: s.papers.ca.Pool(), ServerName: name}
	for _, p := range own {
		c.Certificates = append(c.Certificates, p.TLS(s.t))
	}
	return c
}

// served checks that a caller gets an answer.
func (s *scene) served(what string, config *tls.Config) secured {
	s.t.Helper()
	got := s.over(config)
	if got.err != nil || got.answer == "" {
		s.t.Errorf("%s: %q, %v; want an answer", what, got.answer, got.err)
	}
	return got
}

// refused checks that a caller gets none.
func (s *scene) refused(what string, config *tls.Config) {
	s.t.Helper()
	if got := s.over(config); got.err == nil {
		s.t.Errorf("%s: is served", what)
	}
}

// socket is a transport socket of one side, with fields of its context.
func socket(side, fields string) string {
	return `{name: tls, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.` + side + `TlsContext, ` + fields + `}}`
}

const (
	ownCertificate  = `tls_certificates: [{certificate_chain: {inline_string: $cert}, private_key: {inline_string: $key}}]`
	byCallers       = `validation_context: {trusted_ca: {inline_string: $ca}}`
	serverOfCallers = `common_tls_context: {` + ownCertificate + `, `
)

// secureChain is the listener's chain with a TLS context.
func secureChain(fields string) string {
	return "{filter_chain: {transport_socket: " + socket("Downstream", fields) + "}}"
}

// chainTo is a filter chain with routes of its own, to one app.
func chainTo(app, match, transport string) string {
	return `{filter_chain_match: {` + match + `}, ` + transport + `filters: [{name: m, typed_config: {
 "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: s,
 route_config: {virtual_hosts: [{name: v, domains: ['*'], routes: [{match: {prefix: /}, route: {cluster: ` + app + `}}]}]},
 http_filters: [{name: envoy.filters.http.router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]}}]}`
}

const (
	secureA = `transport_socket: {name: tls, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, common_tls_context: {tls_certificates: [{certificate_chain: {inline_string: $cert}, private_key: {inline_string: $key}}]}}}, `
	secureB = `transport_socket: {name: tls, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, common_tls_context: {tls_certificates: [{certificate_chain: {inline_string: $cert2}, private_key: {inline_string: $key2}}]}}}, `
)

// inspected is a listener with a tls_inspector.
const inspected = `listener_filters: [{name: i, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}}], `

// anyCertificate is a caller who does not look at what it is shown.
func anyCertificate(name string) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, ServerName: name}
}

var observedTLS = []observed{
	{name: "TLS", listener: secureChain(`common_tls_context: {tls_certificates: [
 {certificate_chain: {inline_string: $cert}, private_key: {inline_bytes: $rawkey}}, {certificate_chain: {inline_string: $cert2}, private_key: {inline_string: $key2}}]}`), observe: func(t *testing.T, s *scene) {
		t.Helper()
		got := s.served("a caller", s.trusting("a.test"))
		same(t, "names", strings.Join(got.PeerCertificates[0].DNSNames, " "), "a.test")
		got = s.served("a caller for the other name", s.trusting("b.test"))
		same(t, "names", strings.Join(got.PeerCertificates[0].DNSNames, " "), "b.test")
		_, in := s.dial("GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
		if text := drain(in); strings.Contains(text, "HTTP/") {
			t.Errorf("plain text is answered %q", text)
		}
	}},
	{name: "TLS that takes too long", listener: "{filter_chain: {transport_socket_connect_timeout: 3s, transport_socket: " + socket("Downstream", "common_tls_context: {"+ownCertificate+"}") + "}}", observe: func(t *testing.T, s *scene) {
		t.Helper()
		_, in := s.dial("\x16\x03\x01")
		same(t, "the connection ends after", after(func() { drain(in) }), 3*time.Second)
	}},
	{name: "TLS of callers with certificates", listener: secureChain(`require_client_certificate: true, common_tls_context: {` + ownCertificate + `,
 validation_context: {trusted_ca: {inline_string: $ca}, match_typed_subject_alt_names: [{san_type: URI, matcher: {exact: "spiffe://td/caller"}}]}}`), observe: func(t *testing.T, s *scene) {
		t.Helper()
		s.served("the caller", s.trusting("a.test", s.papers.caller))
		s.refused("nobody", s.trusting("a.test"))
		s.refused("another name", s.trusting("a.test", s.papers.ca.Issue("spiffe://td/other")))
		s.refused("the name as another kind", s.trusting("a.test", s.papers.ca.Issue("caller.test")))
		s.refused("another authority's", s.trusting("a.test", s.papers.other.Issue("spiffe://td/caller")))
	}},
	{name: "callers' certificates are told", hcm: "{forward_client_cert_details: APPEND_FORWARD, set_current_client_cert_details: {subject: true, cert: true, chain: true, dns: true, uri: true}}", listener: secureChain(serverOfCallers + byCallers + `}`), observe: func(t *testing.T, s *scene) {
		t.Helper()
		got := s.served("the caller", s.trusting("a.test", s.papers.caller)).header.Get("X-Forwarded-Client-Cert")
		leaf := certificateOf(s.papers.caller)
		text := strings.NewReplacer("\n", "%0A", "+", "%2B", "/", "%2F", "=", "%3D", " ", "%20").Replace(string(s.papers.caller.Cert))
		same(t, "appended", got, "theirs,Hash="+hex.EncodeToString(sum(leaf.Raw))+`;Cert="`+text+`";Chain="`+text+`";Subject="";URI=spiffe://td/caller;DNS=caller.test`)
		same(t, "of nobody", s.served("nobody", s.trusting("a.test")).header.Get("X-Forwarded-Client-Cert"), "")
		set := newScene(t, observed{hcm: "{forward_client_cert_details: SANITIZE_SET, set_current_client_cert_details: {uri: true}}", listener: secureChain(serverOfCallers + byCallers + `}`)})
		same(t, "set", set.served("the caller", set.trusting("a.test", set.papers.caller)).header.Get("X-Forwarded-Client-Cert"), "Hash="+hex.EncodeToString(sum(certificateOf(set.papers.caller).Raw))+";URI=spiffe://td/caller")
		only := newScene(t, observed{hcm: "forward_client_cert_details: FORWARD_ONLY", listener: secureChain(serverOfCallers + byCallers + `}`)})
		same(t, "forwarded", only.served("the caller", only.trusting("a.test", only.papers.caller)).header.Get("X-Forwarded-Client-Cert"), "theirs")
	}},
	{name: "TLS of callers by any name", listener: secureChain(serverOfCallers + `validation_context: {trusted_ca: {inline_string: $ca}, match_subject_alt_names: [{suffix: .TEST, ignore_case: true}, {prefix: "spiffe://td/a"}]}}`), observe: func(t *testing.T, s *scene) {
		t.Helper()
		s.served("nobody, which is allowed", s.trusting("a.test"))
		s.served("a DNS name", s.trusting("a.test", s.papers.caller))
		s.served("a URI", s.trusting("a.test", s.papers.ca.Issue("spiffe://td/abc")))
		s.refused("another URI", s.trusting("a.test", s.papers.ca.Issue("spiffe://td/bcd")))
	}},
	{name: "TLS of callers by their keys", listener: secureChain(serverOfCallers + `validation_context: {trusted_ca: {inline_string: $ca}, verify_certificate_hash: [$hash]}}`), observe: func(t *testing.T, s *scene) {
		t.Helper()
		s.served("the caller", s.trusting("a.test", s.papers.caller))
		s.refused("another certificate", s.trusting("a.test", s.papers.ca.Issue("spiffe://td/caller")))
		other := newScene(t, observed{listener: secureChain(serverOfCallers + `validation_context: {trusted_ca: {inline_string: $ca}, verify_certificate_spki: [$spki]}}`)})
		other.served("the caller", other.trusting("a.test", other.papers.caller))
		other.refused("another key", other.trusting("a.test", other.papers.ca.Issue("spiffe://td/caller")))
	}},
	{name: "TLS of callers who are not trusted", listener: secureChain(`require_client_certificate: true, ` + serverOfCallers + `validation_context: {trusted_ca: {inline_string: $ca}, trust_chain_verification: ACCEPT_UNTRUSTED}}`), observe: func(t *testing.T, s *scene) {
		t.Helper()
		s.served("another authority's", s.trusting("a.test", s.papers.other.Issue("x.test")))
		s.refused("nobody", s.trusting("a.test"))
	}},
	{name: "TLS of long chains", listener: secureChain(`require_client_certificate: true, ` + serverOfCallers + `validation_context: {trusted_ca: {inline_string: $ca}, max_verify_depth: 1}}`), observe: func(t *testing.T, s *scene) {
		t.Helper()
		one := s.papers.ca.Intermediate("one")
		s.served("one between", s.trusting("a.test", one.Issue("x.test")))
		s.refused("two between", s.trusting("a.test", one.Intermediate("two").Issue("x.test")))
	}},
	{name: "TLS versions", listener: secureChain(`common_tls_context: {tls_params: {tls_minimum_protocol_version: TLSv1_2, tls_maximum_protocol_version: TLSv1_2}, ` + ownCertificate + `}`), observe: func(t *testing.T, s *scene) {
		t.Helper()
		same(t, "version", s.served("a caller", s.trusting("a.test")).Version, tls.VersionTLS12)
		new13 := s.trusting("a.test")
		new13.MinVersion = tls.VersionTLS13
		s.refused("a caller of TLS 1.3 only", new13)
		other := newScene(t, observed{listener: secureChain(`common_tls_context: {tls_params: {tls_minimum_protocol_version: TLSv1_3}, ` + ownCertificate + `}`)})
		old := other.trusting("a.test")
		old.MaxVersion = tls.VersionTLS12
		other.refused("a caller of TLS 1.2 only", old)
	}},
	{name: "TLS suites", listener: secureChain(`common_tls_context: {tls_params: {tls_maximum_protocol_version: TLSv1_2, cipher_suites: ["[ECDHE-ECDSA-AES256-GCM-SHA384|ECDHE-RSA-AES256-GCM-SHA384]"], ecdh_curves: [P-384]}, ` + ownCertificate + `}`), observe: func(t *testing.T, s *scene) {
		t.Helper()
		got := s.served("a caller", s.trusting("a.test"))
		same(t, "suite", got.CipherSuite, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384)
		same(t, "curve", got.CurveID, tls.CurveP384)
	}},
	{name: "TLS protocols", listener: secureChain(`common_tls_context: {alpn_protocols: [own, http/1.1], ` + ownCertificate + `}`), observe: func(t *testing.T, s *scene) {
		t.Helper()
		offers := s.trusting("a.test")
		offers.NextProtos = []string{"http/1.1", "own"}
		same(t, "protocol", s.served("who offers both", offers).NegotiatedProtocol, "own")
		same(t, "protocol", s.served("who offers none", s.trusting("a.test")).NegotiatedProtocol, "")
	}},
	{name: "TLS without tickets", listener: secureChain(`disable_stateless_session_resumption: true, ` + serverOfCallers + byCallers + `}`), observe: func(t *testing.T, s *scene) {
		t.Helper()
		for s, want := range map[*scene]bool{s: false, newScene(t, observed{listener: secureChain(serverOfCallers + byCallers + `}`)}): true} { // asked for a certificate, a caller gets its ticket when the handshake is over
			config := s.trusting("a.test")
			config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			s.served("the first time", config)
			same(t, "resumed", s.served("the second time", config).DidResume, want)
		}
	}},
	{name: "TLS from files", listener: secureChain(`require_client_certificate: true, common_tls_context: {
 tls_certificates: [{certificate_chain: {filename: $dir/cert.pem}, private_key: {filename: $dir/key.pem}, watched_directory: {path: $dir}}],
 validation_context: {trusted_ca: {filename: $dir/ca.pem}, watched_directory: {path: $dir}}}`), observe: func(t *testing.T, s *scene) {
		t.Helper()
		before := s.served("the caller", s.trusting("a.test", s.papers.caller))
		s.papers.ca.Issue("a.test").Store(t, s.papers.dir)
		testkit.Replace(t, filepath.Join(s.papers.dir, "ca.pem"), s.papers.other.PEM)
		s.refused("the caller afterwards", s.trusting("a.test", s.papers.caller))
		now := s.served("another authority's", s.trusting("a.test", s.papers.other.Issue("x.test")))
		if before.PeerCertificates[0].Equal(now.PeerCertificates[0]) {
			t.Error("the certificate is the one before")
		}
	}},
	{name: "chains by name", listener: "{" + inspected + "filter_chains: [" + chainTo("b", `server_names: [b.test]`, secureB) + "," + chainTo("a", `server_names: ["*.test"]`, secureA) + "]}", observe: func(t *testing.T, s *scene) {
		t.Helper()
		for name, app := range map[string]string{"b.test": "b", "a.test": "a", "x.a.test": "a", "B.TEST": "b"} {
			same(t, name, s.over(anyCertificate(name)).answer, app)
		}
		s.refused("a name that no chain has", anyCertificate("example.com"))
	}},
	{name: "chains by transport", listener: "{" + inspected + "filter_chains: [" + chainTo("b", `transport_protocol: tls`, secureA) + "," + chainTo("a", `transport_protocol: raw_buffer`, "") + "]}", observe: func(t *testing.T, s *scene) {
		t.Helper()
		same(t, "over TLS", s.served("a caller", s.trusting("a.test")).answer, "b")
		same(t, "in plain text", s.get("/").seen(t).App, "a")
	}},
	{name: "chains that nothing is told of", listener: "{filter_chains: [" + chainTo("b", `server_names: [a.test]`, secureA) + "], default_filter_chain: " + chainTo("a", "", secureA) + "}", observe: func(t *testing.T, s *scene) {
		t.Helper()
		same(t, "app", s.served("a caller", s.trusting("a.test")).answer, "a")
		if len(s.notes) != 1 || !strings.Contains(s.notes[0], "tls_inspector") {
			t.Errorf("notes %q", s.notes)
		}
	}},
	{name: "chains by protocol", listener: "{" + inspected + "default_filter_chain: " + chainTo("a", "", secureA) + ", filter_chains: [" + chainTo("b", `application_protocols: [own]`, secureA) + "]}", observe: func(t *testing.T, s *scene) {
		t.Helper()
		offers := s.trusting("a.test")
		offers.NextProtos = []string{"own"}
		same(t, "who offers it", s.served("a caller", offers).answer, "b")
		same(t, "who does not", s.served("a caller", s.trusting("a.test")).answer, "a")
	}},
	{name: "chains by port", listener: "{filter_chains: [" + chainTo("b", `destination_port: 80`, "") + "," + chainTo("a", `destination_port: 81`, "") + "]}", observe: func(t *testing.T, s *scene) {
		t.Helper()
		same(t, "at port 80", s.get("/").seen(t).App, "b")
	}},
	{name: "TLS upstream", listener: secureChain(`common_tls_context: {` + ownCertificate + `}`), routes: toSecure, clusters: []string{secureApp("", `sni: app.test, common_tls_context: {tls_certificates: [{certificate_chain: {inline_string: $cert}, private_key: {inline_string: $key}}],
 validation_context: {trusted_ca: {inline_string: $ca}, match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: app.test}}]}}`)}, observe: func(t *testing.T, s *scene) {
		t.Helper()
		app := s.secureApp(s.papers.ca.Issue("app.test"))
		same(t, "app", s.served("a caller", s.trusting("a.test")).answer, "secure")
		same(t, "sni", app.sni, "app.test")
		same(t, "certificate", app.shown, "a.test")
		for what, pair := range map[string]testkit.Pair{"another name": s.papers.ca.Issue("other.test"), "another authority's": s.papers.other.Issue("app.test")} {
			bad := newScene(t, observed{listener: secureChain(`common_tls_context: {` + ownCertificate + `}`), routes: toSecure, clusters: []string{secureApp("", `sni: app.test, common_tls_context: {
 validation_context: {trusted_ca: {inline_string: $ca}, match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: app.test}}]}}`)}})
			if what == "another name" {
				pair = bad.papers.ca.Issue("other.test")
			}
			bad.secureApp(pair)
			if got := bad.over(bad.trusting("a.test")); got.status != http.StatusServiceUnavailable {
				t.Errorf("an app with %s: %d %v, want 503", what, got.status, got.err)
			}
		}
	}},
	{name: "TLS upstream by hostname", listener: secureChain(`common_tls_context: {` + ownCertificate + `}`), routes: toSecure, clusters: []string{secureApp("hostname: app.test, ", `sni: unused.test, auto_host_sni: true, auto_sni_san_validation: true, common_tls_context: {`+byCallers+`}`)}, observe: func(t *testing.T, s *scene) {
		t.Helper()
		app := s.secureApp(s.papers.ca.Issue("app.test"))
		same(t, "app", s.served("a caller", s.trusting("a.test")).answer, "secure")
		same(t, "sni", app.sni, "app.test")
		bad := newScene(t, observed{listener: secureChain(`common_tls_context: {` + ownCertificate + `}`), routes: toSecure, clusters: []string{secureApp("hostname: app.test, ", `auto_host_sni: true, auto_sni_san_validation: true, common_tls_context: {`+byCallers+`}`)}})
		bad.secureApp(bad.papers.ca.Issue("unused.test"))
		same(t, "status", bad.over(bad.trusting("a.test")).status, http.StatusServiceUnavailable)
	}},
	{name: "TLS upstream by its protocol", listener: secureChain(`common_tls_context: {` + ownCertificate + `}`), routes: toSecure, clusters: []string{"{" + `typed_extension_protocol_options: {h: {"@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, auto_config: {http2_protocol_options: {initial_stream_window_size: 70000}}}}, ` + secureApp("", `common_tls_context: {`+byCallers+`}`)[1:]}, observe: func(t *testing.T, s *scene) {
		t.Helper()
		app := s.secureApp(s.papers.ca.Issue("app.test"))
		s.served("a caller", s.trusting("a.test"))
		same(t, "protocol", app.proto, "HTTP/2.0")
	}},
	{name: "TLS by the system's roots", listener: secureChain(`require_client_certificate: true, ` + serverOfCallers + `validation_context: {system_root_certs: {}}}`), observe: func(t *testing.T, s *scene) {
		t.Helper()
		s.refused("an authority's that the system does not know", s.trusting("a.test", s.papers.caller))
		s.refused("nobody", s.trusting("a.test"))
	}},
}

const toSecure = "[{match: {prefix: /}, route: {cluster: secure}}]"

// secureApp is a cluster of one app that speaks TLS.
func secureApp(endpoint, fields string) string {
	return "{name: secure, type: STATIC, transport_socket: " + socket("Upstream", fields) +
		", load_assignment: {cluster_name: x, endpoints: [{lb_endpoints: [{endpoint: {" + endpoint + "address: {socket_address: {address: 10.0.0.3, port_value: 443}}}}]}]}}"
}

// secureSeen is what an app was shown last.
type secureSeen struct{ sni, shown, proto string }

// secureApp starts the app.
func (s *scene) secureApp(p testkit.Pair) *secureSeen {
	s.t.Helper()
	seen := new(secureSeen)
	l := s.net.Listen("10.0.0.3:443")
	config := &tls.Config{Certificates: []tls.Certificate{p.TLS(s.t)}, ClientAuth: tls.RequestClientCert, NextProtos: []string{"h2", "http/1.1"}}
	srv := &http.Server{TLSConfig: config, ErrorLog: slog.NewLogLogger(slog.NewTextHandler(s.t.Output(), nil), slog.LevelInfo), Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		seen.sni, seen.proto = req.TLS.ServerName, req.Proto
		if of := req.TLS.PeerCertificates; len(of) > 0 {
			seen.shown = strings.Join(of[0].DNSNames, " ")
		}
		_ = json.NewEncoder(w).Encode(echo{App: "secure", Proto: req.Proto})
	})}
	go func() { _ = srv.ServeTLS(l, "", "") }()
	s.t.Cleanup(func() {
		l.Kill()
		time.Sleep(time.Second) // net/http's server lingers half a second on some closes
	})
	return seen
}
