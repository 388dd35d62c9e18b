package differential

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/quadnine/quadnine/internal/testkit"
)

// papers are the certificates of a stand.
type papers struct {
	ca, stranger *testkit.CA
	named        map[string]testkit.Pair // by the $name that stands for it
}

// newPapers issues what the cases name: $a-cert and $a-key are a.test's, $ca is who
// issued all of them.
func newPapers(t *testing.T) *papers {
	t.Helper()
	p := &papers{ca: testkit.NewCA(t, "ca"), stranger: testkit.NewCA(t, "stranger"), named: make(map[string]testkit.Pair)}
	for name, of := range map[string][]string{"a": {"a.test"}, "b": {"b.test"}, "w": {"*.a.test"}, "new": {"a.test", "new.test"}, "client": {"spiffe://td/client"}, "spiffe": {"a.test", "spiffe://td/sidecar"}, "both": {"spiffe://td/both", "both.test", "other.test"}} {
		p.named[name] = p.ca.Issue(of...)
	}
	return p
}

// print puts the papers into YAML.
func (p *papers) print(text string) string {
	quote := func(b []byte) string { j, _ := json.Marshal(string(b)); return string(j) }
	for name, pair := range p.named {
		text = strings.ReplaceAll(text, "$"+name+"-cert", quote(pair.Cert))
		text = strings.ReplaceAll(text, "$"+name+"-key", quote(pair.Key))
	}
	return strings.ReplaceAll(text, "$ca", quote(p.ca.PEM))
}

// tlsSocket is a transport socket with a certificate.
func tlsSocket(of, context, common string) string {
	return `{name: tls, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, ` + context + `common_tls_context: {` + common +
		`tls_certificates: [{certificate_chain: {inline_string: $` + of + `-cert}, private_key: {inline_string: $` + of + `-key}}]}}}`
}

// tlsChain is a filter chain that sends everything to one backend.
func tlsChain(backend, match, socket string) string {
	if socket != "" {
		socket = "transport_socket: " + socket + ", "
	}
	return `{filter_chain_match: {` + match + `}, ` + socket + `filters: [{name: envoy.filters.network.http_connection_manager, typed_config: {
 "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: d,
 route_config: {virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: ` + backend + `}}]}]}, http_filters: [` + routerFilter + `]}}]}`
}

// telling is a listener that asks for certificates, with fields of its manager.
func telling(fields string) part {
	chain := tlsChain("b0", "", tlsSocket("spiffe", "", `validation_context: {trusted_ca: {inline_string: $ca}}, `))
	return part{noTable: true, noProbe: true, listener: "{filter_chains: [" + strings.Replace(chain, "stat_prefix: d,", "stat_prefix: d, "+fields+",", 1) + "]}"}
}

const inspector = `listener_filters: [{name: envoy.filters.listener.tls_inspector, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}}], `

// hello is a caller of a case, and what has to come of it.
type hello struct {
	name    string // SNI
	alpn    []string
	client  string // whose certificate it shows: a name of papers, "stranger", or ""
	min     uint16
	max     uint16
	plain   bool   // no TLS at all
	version bool   // the version is part of what comes of it
	told    bool   // so is what the backend is told of the certificate; want is how it begins
	want    string // what Envoy does
}

func (h hello) String() string {
	return fmt.Sprintf("SNI %q ALPN %q certificate %q versions %x to %x plain %v", h.name, h.alpn, h.client, h.min, h.max, h.plain)
}

// config is h's, for one connection.
func (h hello) config(t *testing.T, p *papers) *tls.Config {
	t.Helper()
	c := &tls.Config{ServerName: h.name, InsecureSkipVerify: true, NextProtos: h.alpn, MinVersion: h.min, MaxVersion: h.max}
	var own tls.Certificate
	switch h.client {
	case "":
		return c
	case "stranger":
		own = p.stranger.Issue("spiffe://td/client").TLS(t)
	default:
		own = p.named[h.client].TLS(t)
	}
	// Whoever is asked for: Go's choice would be not to show one of a stranger.
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil }
	return c
}

// call asks x as h says, and returns what came of it: who answered, with which
// certificate; or that nobody did, and by which alert.
func (h hello) call(t *testing.T, x *proxy, p *papers) (outcome, alert string) {
	t.Helper()
	raw, err := net.Dial("tcp", x.addr)
	if err != nil {
		return "closed", err.Error()
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(within))
	conn, shown := raw, ""
	if !h.plain {
		c := tls.Client(raw, h.config(t, p))
		if err := c.Handshake(); err != nil {
			return "refused", alertOf(err)
		}
		s := c.ConnectionState()
		shown = " by " + strings.Join(s.PeerCertificates[0].DNSNames, "+")
		if s.NegotiatedProtocol != "" {
			shown += " over " + s.NegotiatedProtocol
		}
		if h.version {
			shown += " in " + tls.VersionName(s.Version)
		}
		if s.NegotiatedProtocol == "h2" { // the rest is HTTP/2's
			return "ready" + shown, ""
		}
		conn = c
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: q.example\r\nX-Forwarded-Client-Cert: By=x;Hash=y\r\nConnection: close\r\n\r\n"); err != nil {
		return "refused", alertOf(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "refused", alertOf(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	by := res.Header.Get("X-Backend")
	if by == "" {
		by = bodyClass(string(body))
	}
	if e := new(echo); h.told && json.Unmarshal(body, e) == nil {
		shown += " told " + strings.Join(e.Headers["X-Forwarded-Client-Cert"], " | ")
	}
	return fmt.Sprintf("%d %s%s", res.StatusCode, by, shown), ""
}

// comes reports whether an outcome is what Envoy has to do.
func (h hello) comes(outcome string) bool {
	return outcome == h.want || h.told && strings.HasPrefix(outcome, h.want)
}

// alertOf is which alert ended a handshake; an end without one is the same by
// whichever sign it is seen.
func alertOf(err error) string {
	if alert, ok := errors.AsType[tls.AlertError](err); ok {
		return alert.Error()
	}
	if text := err.Error(); strings.Contains(text, "remote error: tls: ") {
		return text[strings.Index(text, "remote error: tls: ")+len("remote error: "):]
	}
	return "closed"
}

// tlsCase is a listener, and who calls.
type tlsCase struct {
	name string
	part
	hellos []hello
}

var tlsCases = []tlsCase{
	{"tls names", part{noTable: true, noProbe: true, listener: "{" + inspector + "filter_chains: [" + tlsChain("b0", `server_names: [a.test]`, tlsSocket("a", "", "")) + ", " + tlsChain("b1", `server_names: ["*.a.test"]`, tlsSocket("w", "", "")) + ", " + tlsChain("b2", `server_names: [b.test, "*.test"]`, tlsSocket("b", "", "")) + "]}"}, []hello{
		{name: "a.test", want: "200 b0 by a.test"},
		{name: "A.TEST", want: "200 b0 by a.test"},
		{name: "x.a.test", want: "200 b1 by *.a.test"},
		{name: "y.x.a.test", want: "200 b1 by *.a.test"},
		{name: "b.test", want: "200 b2 by b.test"},
		{name: "c.test", want: "200 b2 by b.test"},
		{name: "test", want: "refused"},
		{name: "", want: "refused"},
		{plain: true, want: "refused"},
	}},
	{"tls default chain", part{noTable: true, noProbe: true, listener: "{" + inspector + "filter_chains: [" + tlsChain("b0", `server_names: [a.test]`, tlsSocket("a", "", "")) + "], default_filter_chain: " + tlsChain("b1", "", tlsSocket("b", "", "")) + "}"}, []hello{
		{name: "a.test", want: "200 b0 by a.test"}, {name: "x.test", want: "200 b1 by b.test"}, {name: "", want: "200 b1 by b.test"},
	}},
	{"tls transports", part{noTable: true, noProbe: true, listener: "{" + inspector + "filter_chains: [" + tlsChain("b0", `transport_protocol: tls`, tlsSocket("a", "", "")) + ", " + tlsChain("b1", `transport_protocol: raw_buffer`, "") + "]}"}, []hello{
		{name: "a.test", want: "200 b0 by a.test"}, {plain: true, want: "200 b1"},
	}},
	{"tls names without an inspector", part{noTable: true, noProbe: true, listener: "{filter_chains: [" + tlsChain("b0", `server_names: [a.test]`, tlsSocket("a", "", "")) + ", " + tlsChain("b1", `transport_protocol: raw_buffer`, tlsSocket("b", "", "")) + "]}"}, []hello{
		{name: "a.test", want: "200 b1 by b.test"}, {name: "", want: "200 b1 by b.test"}, {plain: true, want: "refused"},
	}},
	{"tls protocols of chains", part{noTable: true, noProbe: true, listener: "{" + inspector + "filter_chains: [" + tlsChain("b0", `application_protocols: [own]`, tlsSocket("a", "", "")) + ", " + tlsChain("b1", `server_names: [a.test]`, tlsSocket("b", "", "")) + "], default_filter_chain: " + tlsChain("b2", "", tlsSocket("w", "", "")) + "}"}, []hello{
		{name: "x.test", alpn: []string{"own"}, want: "200 b0 by a.test"}, {name: "a.test", alpn: []string{"own"}, want: "200 b1 by b.test"}, {name: "x.test", want: "200 b2 by *.a.test"},
	}},
	{"tls alpn", part{noTable: true, noProbe: true, listener: "{" + inspector + "filter_chains: [" + tlsChain("b0", "", tlsSocket("a", "", `alpn_protocols: [h2, http/1.1], `)) + "]}"}, []hello{
		{alpn: []string{"http/1.1", "h2"}, want: "ready by a.test over h2"}, {alpn: []string{"http/1.1"}, want: "200 b0 by a.test over http/1.1"}, {want: "200 b0 by a.test"}, {alpn: []string{"own"}, want: "200 b0 by a.test"},
	}},
	{"tls client certificates", part{noTable: true, noProbe: true, listener: "{" + inspector + "filter_chains: [" + tlsChain("b0", "", tlsSocket("a", "require_client_certificate: true, ", `validation_context: {trusted_ca: {inline_string: $ca}, match_typed_subject_alt_names: [{san_type: URI, matcher: {exact: "spiffe://td/client"}}]}, `)) + "]}"}, []hello{
		{client: "client", want: "200 b0 by a.test"},
		{want: "refused"},
		{client: "a", want: "refused"},
		{client: "stranger", want: "refused"},
		{plain: true, want: "refused"},
		{client: "client", max: tls.VersionTLS12, want: "200 b0 by a.test"},
		{max: tls.VersionTLS12, want: "refused"},
		{client: "a", max: tls.VersionTLS12, want: "refused"},
		{client: "stranger", max: tls.VersionTLS12, want: "refused"},
	}},
	{"tls client certificates allowed", part{noTable: true, noProbe: true, listener: "{" + inspector + "filter_chains: [" + tlsChain("b0", "", tlsSocket("a", "", `validation_context: {trusted_ca: {inline_string: $ca}}, `)) + "]}"}, []hello{
		{client: "client", want: "200 b0 by a.test"}, {want: "200 b0 by a.test"}, {client: "stranger", want: "refused"},
	}},
	{"tls client certificates told", telling("forward_client_cert_details: APPEND_FORWARD, set_current_client_cert_details: {subject: true, uri: true, dns: true, cert: true, chain: true}"), []hello{
		{client: "both", told: true, want: "200 b0 by a.test told By=x;Hash=y,By=spiffe://td/sidecar;Hash="}, {client: "client", told: true, want: "200 b0 by a.test told By=x;Hash=y,By="}, {told: true, want: "200 b0 by a.test told "},
	}},
	{"tls client certificates set", telling("forward_client_cert_details: SANITIZE_SET, set_current_client_cert_details: {uri: true}"), []hello{
		{client: "both", told: true, want: "200 b0 by a.test told By=spiffe://td/sidecar;Hash="}, {told: true, want: "200 b0 by a.test told "},
	}},
	{"tls client certificates forwarded", telling("forward_client_cert_details: FORWARD_ONLY"), []hello{
		{client: "both", told: true, want: "200 b0 by a.test told By=x;Hash=y"}, {told: true, want: "200 b0 by a.test told "},
	}},
	{"tls client certificates always forwarded", telling("forward_client_cert_details: ALWAYS_FORWARD_ONLY"), []hello{
		{told: true, want: "200 b0 by a.test told By=x;Hash=y"},
	}},
	{"tls versions", part{noTable: true, noProbe: true, listener: "{" + inspector + "filter_chains: [" + tlsChain("b0", "", tlsSocket("a", "", `tls_params: {tls_minimum_protocol_version: TLSv1_3}, `)) + "]}"}, []hello{
		{version: true, want: "200 b0 by a.test in TLS 1.3"}, {max: tls.VersionTLS12, want: "refused"},
	}},
	{"tls versions by default", part{noTable: true, noProbe: true, listener: "{" + inspector + "filter_chains: [" + tlsChain("b0", "", tlsSocket("a", "", "")) + "]}"}, []hello{
		{version: true, want: "200 b0 by a.test in TLS 1.3"},
		{max: tls.VersionTLS12, version: true, want: "200 b0 by a.test in TLS 1.2"},
		{min: tls.VersionTLS10, max: tls.VersionTLS11, want: "refused"},
	}},
	{"tls old version", part{noTable: true, noProbe: true, listener: "{" + inspector + "filter_chains: [" + tlsChain("b0", "", tlsSocket("a", "", `tls_params: {tls_maximum_protocol_version: TLSv1_2}, `)) + "]}"}, []hello{
		{version: true, want: "200 b0 by a.test in TLS 1.2"}, {min: tls.VersionTLS13, want: "refused"},
	}},
}

// TestTLS: who is served by which chain, and who is not.
func TestTLS(t *testing.T) {
	s := newStand(t, "DELTA_GRPC")
	s.papers = newPapers(t)
	for _, c := range tlsCases {
		t.Run(c.name, func(t *testing.T) {
			s.begin(t, c.name)
			for k, v := range s.push(t, step{part: c.part}) {
				if !v.ok {
					t.Fatalf("%s refuses %s %s: %s", k.node, k.typeURL, k.name, v.text)
				}
			}
			s.greet(t, c.name, c.hellos)
		})
	}
}

// begin gives a case a listener of its own.
func (s *stand) begin(t *testing.T, name string) {
	t.Helper()
	s.seq++
	s.name = name
	a := addrs(t, 2)
	s.envoy.point(t, a[0])
	s.ours.point(t, a[1])
}

// greet sends every caller to both. The first one's answer is waited for: with it the
// configuration is in use.
func (s *stand) greet(t *testing.T, name string, hellos []hello) {
	t.Helper()
	for i, h := range hellos {
		var outcomes, alerts [2]string
		for j, x := range s.both() {
			if i == 0 {
				until(deadline(t, within/2), func() bool { got, _ := h.call(t, x, s.papers); return h.comes(got) })
			}
			outcomes[j], alerts[j] = h.call(t, x, s.papers)
		}
		if !h.comes(outcomes[0]) {
			t.Errorf("%s: %v: Envoy answers %q, %q, want %q: the case does not test what it is for", name, h, outcomes[0], alerts[0], h.want)
		}
		var found []difference
		if outcomes[0] != outcomes[1] {
			found = append(found, difference{"outcome", outcomes[0], outcomes[1]})
		}
		// An alert can be lost when the connection ends while something is sent.
		if alerts[0] != alerts[1] && alerts[0] != "closed" && alerts[1] != "closed" {
			found = append(found, difference{"alert " + alerts[0], alerts[0], alerts[1]})
		}
		report(t, name, h.String(), found)
	}
}

// secureBackend is a backend that speaks TLS with a certificate, and knows who may
// call. It returns its port.
func (s *stand) secureBackend(t *testing.T, id string, own testkit.Pair) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{own.TLS(t)}, ClientAuth: tls.RequestClientCert},
		ErrorLog:  log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			shown := "nobody"
			if of := r.TLS.PeerCertificates; len(of) > 0 {
				shown = nameOf(of[0])
			}
			w.Header().Set("X-Backend", id+" to "+shown+" for "+r.TLS.ServerName)
		}),
	}
	go func() { _ = srv.ServeTLS(l, "", "") }()
	t.Cleanup(func() { _ = srv.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func nameOf(c *x509.Certificate) string {
	if len(c.URIs) > 0 {
		return c.URIs[0].String()
	}
	return strings.Join(c.DNSNames, "+")
}

// TestTLSUpstream: which backends are believed, and what callers get otherwise.
func TestTLSUpstream(t *testing.T) {
	s := newStand(t, "DELTA_GRPC")
	s.papers = newPapers(t)
	ports := map[string]string{
		"good": s.secureBackend(t, "good", s.papers.ca.Issue("app.test")), "other": s.secureBackend(t, "other", s.papers.ca.Issue("other.test")),
		"stranger": s.secureBackend(t, "stranger", s.papers.stranger.Issue("app.test")), "plain": s.backends[0].port(),
	}
	const checked = `validation_context: {trusted_ca: {inline_string: $ca}, match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: app.test}}]}`
	for _, c := range []struct{ name, to, context, want string }{
		{"upstream tls", "good", `sni: app.test, common_tls_context: {tls_certificates: [{certificate_chain: {inline_string: $client-cert}, private_key: {inline_string: $client-key}}], ` + checked + `}`, "200 good to spiffe://td/client for app.test"},
		{"upstream tls unverified", "stranger", `common_tls_context: {}`, "200 stranger to nobody for"},
		{"upstream tls other name", "other", `sni: app.test, common_tls_context: {` + checked + `}`, "503 upstream connect error"},
		{"upstream tls stranger", "stranger", `sni: app.test, common_tls_context: {` + checked + `}`, "503 upstream connect error"},
		{"upstream tls to plain text", "plain", `sni: app.test, common_tls_context: {` + checked + `}`, "503 upstream connect error"},
		{"upstream tls by hostname", "good", `auto_host_sni: true, auto_sni_san_validation: true, common_tls_context: {validation_context: {trusted_ca: {inline_string: $ca}}}`, "200 good to nobody for app.test"},
		{"upstream tls by another hostname", "other", `auto_host_sni: true, auto_sni_san_validation: true, common_tls_context: {validation_context: {trusted_ca: {inline_string: $ca}}}`, "503 upstream connect error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.begin(t, c.name)
			cluster := fmt.Sprintf(`{name: up$seq, type: STATIC, connect_timeout: 5s, load_assignment: {cluster_name: x, endpoints: [{lb_endpoints: [{endpoint: {hostname: app.test, address: {socket_address: {address: 127.0.0.1, port_value: %s}}}}]}]},
 transport_socket: {name: tls, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, %s}}}`, ports[c.to], c.context)
			for k, v := range s.push(t, step{part: part{clusters: []string{cluster}, routes: `[{match: {prefix: /}, route: {cluster: up$seq}}]`}}) {
				if !v.ok {
					t.Fatalf("%s refuses %s %s: %s", k.node, k.typeURL, k.name, v.text)
				}
			}
			s.greet(t, c.name, []hello{{plain: true, want: c.want}})
		})
	}
}

// TestTLSSecrets: certificates that come apart, over the aggregated stream; a new one
// is shown to new connections, and no stream ends for it; one that cannot be used is
// refused, and the one before stays.
func TestTLSSecrets(t *testing.T) {
	for variant := range variants {
		t.Run(variant, func(t *testing.T) {
			s := newStand(t, variant)
			s.papers = newPapers(t)
			s.begin(t, "tls secrets")
			listener := "{filter_chains: [" + tlsChain("b0", "", `{name: tls, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, require_client_certificate: true, common_tls_context: {
 alpn_protocols: [h2, http/1.1], tls_certificate_sds_secret_configs: [{name: own, sds_config: {ads: {}, resource_api_version: V3}}],
 combined_validation_context: {default_validation_context: {match_typed_subject_alt_names: [{san_type: URI, matcher: {prefix: "spiffe://td/"}}]}, validation_context_sds_secret_config: {name: trust, sds_config: {ads: {}, resource_api_version: V3}}}}}}`) + "]}"
			trust := `{name: trust, validation_context: {trusted_ca: {inline_string: $ca}}}`
			own := func(cert, key string) string {
				return `{name: own, tls_certificate: {certificate_chain: {inline_string: $` + cert + `-cert}, private_key: {inline_string: $` + key + `-key}}}`
			}
			with := func(secrets ...string) step {
				return step{part: part{noTable: true, noProbe: true, listener: listener, secrets: secrets}}
			}
			taken := func(said map[resourceKey]verdict) {
				t.Helper()
				for k, v := range said {
					if !v.ok {
						t.Errorf("%s refuses %s %s: %s", k.node, k.typeURL, k.name, v.text)
					}
				}
			}
			taken(s.push(t, with(own("a", "a"), trust)))
			s.greet(t, "tls secrets", []hello{{client: "client", want: "200 b0 by a.test"}, {want: "refused"}, {client: "stranger", want: "refused"}})

			held := make(map[*proxy]*http.Client)
			key := fmt.Sprint("rotation-", variant)
			done := make(chan string, 2)
			for _, x := range s.both() {
				c := &http.Transport{TLSClientConfig: hello{client: "client"}.config(t, s.papers), ForceAttemptHTTP2: true, MaxConnsPerHost: 1}
				t.Cleanup(c.CloseIdleConnections)
				held[x] = &http.Client{Transport: c, Timeout: within}
				go func() { done <- fetch(held[x], x, key) }()
				<-s.backends[0].holding(key).arrived
			}
			taken(s.push(t, with(own("new", "new"), trust)))
			s.greet(t, "tls secrets", []hello{{client: "client", want: "200 b0 by a.test+new.test"}})
			s.backends[0].release(key)
			for range s.both() {
				if got := <-done; got != "200 b0 over HTTP/2.0" {
					t.Errorf("a stream that was open meanwhile came to %q", got)
				}
			}

			before := make(map[string]int)
			for _, x := range s.both() {
				before[x.node] = s.cp.nacked(x.node)
			}
			s.push(t, with(own("a", "b"), trust))
			for _, x := range s.both() {
				if !until(deadline(t, within/2), func() bool { return s.cp.nacked(x.node) > before[x.node] }) {
					t.Errorf("%s does not refuse a key of another certificate", x.node)
				}
				if got := fetch(held[x], x, ""); got != "200 b0 over HTTP/2.0" {
					t.Errorf("%s: the connection that was open came to %q", x.node, got)
				}
			}
			s.greet(t, "tls secrets", []hello{{client: "client", want: "200 b0 by a.test+new.test"}})
			taken(s.push(t, with(own("b", "b"), trust)))
			s.greet(t, "tls secrets", []hello{{client: "client", want: "200 b0 by b.test"}})
		})
	}
}

// fetch asks x over HTTP/2; with a key the backend answers when it is released.
func fetch(c *http.Client, x *proxy, key string) string {
	req, err := http.NewRequest(http.MethodGet, "https://"+x.addr+"/", http.NoBody)
	if err != nil {
		return err.Error()
	}
	if key != "" {
		req.Header.Set("Q-Hold", key)
	}
	res, err := c.Do(req)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return fmt.Sprintf("%d %s over %s", res.StatusCode, res.Header.Get("X-Backend"), res.Proto)
}

// secretOf makes a Secret of YAML.
func (s *stand) secretOf(t *testing.T, text string) *tlsv3.Secret {
	t.Helper()
	return fill(t, new(tlsv3.Secret), plain(t, s.expand(text)))
}

// secureBy is a listener with one chain and a TLS context.
func secureBy(context string) part {
	return part{noTable: true, listener: "{filter_chains: [" + tlsChain("b0", "", `{name: tls, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, `+context+`}}`) + "]}"}
}

const ownPaper = `tls_certificates: [{certificate_chain: {inline_string: $a-cert}, private_key: {inline_string: $a-key}}]`

// secureTo is a cluster with a TLS context.
func secureTo(context string) part {
	return cluster(fits + `, transport_socket: {name: tls, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, ` + context + `}}`)
}

// chained is a listener with these matches.
func chained(matches ...string) part {
	var all []string
	for _, m := range matches {
		all = append(all, tlsChain("b0", m, tlsSocket("a", "", "")))
	}
	return part{noTable: true, listener: "{" + inspector + "filter_chains: [" + strings.Join(all, ", ") + "]}"}
}

var measuredTLS = []judged{
	ack("tls server", listenerType, secureBy(`common_tls_context: {`+ownPaper+`}`)),
	nack("tls without certificate", listenerType, secureBy(`common_tls_context: {}`)),
	nack("tls bad certificate", listenerType, secureBy(`common_tls_context: {tls_certificates: [{certificate_chain: {inline_string: x}, private_key: {inline_string: $a-key}}]}`)),
	nack("tls key of another", listenerType, secureBy(`common_tls_context: {tls_certificates: [{certificate_chain: {inline_string: $a-cert}, private_key: {inline_string: $b-key}}]}`)),
	nack("tls file that is not there", listenerType, secureBy(`common_tls_context: {tls_certificates: [{certificate_chain: {filename: /no/such}, private_key: {filename: /no/such}}]}`)),
	nack("tls names without ca", listenerType, secureBy(`common_tls_context: {`+ownPaper+`, validation_context: {match_typed_subject_alt_names: [{san_type: URI, matcher: {exact: x}}]}}`)),
	nack("tls bad ca", listenerType, secureBy(`common_tls_context: {`+ownPaper+`, validation_context: {trusted_ca: {inline_string: x}}}`)),
	nack("tls bad hash", listenerType, secureBy(`common_tls_context: {`+ownPaper+`, validation_context: {verify_certificate_hash: [`+strings.Repeat("x", 64)+`]}}`)),
	nack("tls unknown suite", listenerType, secureBy(`common_tls_context: {`+ownPaper+`, tls_params: {cipher_suites: [NOPE]}}`)),
	nack("tls unknown curve", listenerType, secureBy(`common_tls_context: {`+ownPaper+`, tls_params: {ecdh_curves: [NOPE]}}`)),
	ack("tls suites", listenerType, secureBy(`common_tls_context: {`+ownPaper+`, tls_params: {cipher_suites: ["[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]", ECDHE-RSA-AES256-GCM-SHA384, AES128-GCM-SHA256], ecdh_curves: [X25519, P-256]}}`)),
	nack("tls unknown static secret", listenerType, secureBy(`common_tls_context: {tls_certificate_sds_secret_configs: [{name: nobody}]}`)),
	ack("tls secret of an unknown cluster", listenerType, secureBy(`common_tls_context: {tls_certificate_sds_secret_configs: [{name: s, sds_config: {resource_api_version: V3, api_config_source: {api_type: GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: nobody}}]}}}]}`)),
	nack("tls client's context", listenerType, part{noTable: true, listener: "{filter_chains: [" + tlsChain("b0", "", `{name: tls, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext}}`) + "]}"}),
	ack("chains apart", listenerType, chained(`server_names: [a.test]`, `server_names: ["*.a.test"]`, `server_names: [a.test], application_protocols: [h2]`, `server_names: [a.test], destination_port: 1`)),
	nack("chains alike", listenerType, chained(`server_names: [a.test]`, `server_names: [a.test]`)),
	nack("chains that overlap", listenerType, chained(`server_names: [a.test, b.test]`, `server_names: [b.test, c.test]`)),
	nack("half a wildcard", listenerType, chained(`server_names: ["a*.test"]`)),
	ack("tls client", clusterType, secureTo(`sni: a.test`)),
	ack("tls client with nothing", clusterType, secureTo(`common_tls_context: {}`)),
	nack("tls client with two certificates", clusterType, secureTo(`common_tls_context: {tls_certificates: [{certificate_chain: {inline_string: $a-cert}, private_key: {inline_string: $a-key}}, {certificate_chain: {inline_string: $b-cert}, private_key: {inline_string: $b-key}}]}`)),
	nack("protocol negotiated in plain text", clusterType, cluster(fits+`, typed_extension_protocol_options: {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {"@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, auto_config: {}}}`)),
}

// TestTLSVerdicts: what of TLS is refused, and what is taken.
func TestTLSVerdicts(t *testing.T) {
	s := newStand(t, "DELTA_GRPC")
	s.papers = newPapers(t)
	for _, j := range measuredTLS {
		t.Run(j.name, func(t *testing.T) { s.judge(t, j) })
	}
}
