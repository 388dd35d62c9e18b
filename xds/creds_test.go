package xds

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rawv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// authority is a CA.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
	n    int64
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	a := &authority{t: t}
	a.cert, a.key, a.pem, _ = a.issue(&x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

func (a *authority) issue(c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey, string, string) {
	a.t.Helper()
	a.n++
	c.SerialNumber, c.NotBefore = big.NewInt(a.n), time.Now().Add(-time.Hour)
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(time.Hour)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

// leaf issues a certificate for names, IP addresses or URIs.
func (a *authority) leaf(names ...string) (chain, key string) {
	a.t.Helper()
	c := &x509.Certificate{Subject: pkix.Name{CommonName: names[0]}}
	for _, name := range names {
		switch u, err := url.Parse(name); {
		case err == nil && u.Scheme != "":
			c.URIs = append(c.URIs, u)
		case net.ParseIP(name) != nil:
			c.IPAddresses = append(c.IPAddresses, net.ParseIP(name))
		case strings.Contains(name, "@"):
			c.EmailAddresses = append(c.EmailAddresses, name)
		default:
			c.DNSNames = append(c.DNSNames, name)
		}
	}
	_, _, chain, key = a.issue(c)
	return chain, key
}

// socket is a transport_socket out of YAML's JSON.
func socket(t testing.TB, context string) *corev3.TransportSocket {
	t.Helper()
	var up tlsv3.UpstreamTlsContext
	if err := protojson.Unmarshal([]byte(context), &up); err != nil {
		t.Fatal(err)
	}
	return socketOf(t, &up)
}

func socketOf(t testing.TB, m proto.Message) *corev3.TransportSocket {
	t.Helper()
	config, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return &corev3.TransportSocket{Name: "envoy.transport_sockets.tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: config}}
}

func quote(t testing.TB, s string) string {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// trusting is a context that trusts a CA and has more fields.
func trusting(t testing.TB, ca *authority, validation, more string) string {
	t.Helper()
	return fmt.Sprintf(`{"commonTlsContext":{"validationContext":{"trustedCa":{"inlineString":%s}%s}}%s}`, quote(t, ca.pem), validation, more)
}

// shake makes a handshake with a server, and returns what it saw and what the
// client found wrong.
func shake(t testing.TB, creds credentials.TransportCredentials, server *tls.Config) (seen tls.ConnectionState, client error) {
	t.Helper()
	l := bufconn.Listen(1 << 16) // both sides can write before they read
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		s, _ := l.Accept()
		accepted <- s
	}()
	c, err := l.Dial()
	s := <-accepted
	if err != nil || s == nil {
		t.Fatal(err)
	}
	defer s.Close()
	done := make(chan struct{})
	conn := tls.Server(s, server)
	go func() {
		err := conn.Handshake()
		if err == nil {
			_, err = conn.Write([]byte("x")) // in TLS 1.3 a client learns here what the server thinks of it
		}
		if err != nil {
			s.Close()
		}
		close(done)
	}()
	up, info, err := creds.ClientHandshake(context.Background(), "xds.example:18000", c)
	if err == nil {
		if _, ok := info.(credentials.TLSInfo); !ok {
			t.Errorf("info is %T", info)
		}
		_, err = up.Read(make([]byte, 1))
	}
	c.Close()
	<-done
	return conn.ConnectionState(), err
}

func serving(t testing.TB, chain, key string) *tls.Config {
	t.Helper()
	pair, err := tls.X509KeyPair([]byte(chain), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS10}
}

func TestWhoIsTrusted(t *testing.T) {
	ca, other := newAuthority(t, "the mesh"), newAuthority(t, "a stranger")
	chain, key := ca.leaf("xds.example", "*.wild.example", "127.0.0.1", "spiffe://mesh/ns/system/sa/pilot", "ops@mesh.example")
	server := serving(t, chain, key)
	block, _ := pem.Decode([]byte(chain))
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	sum, spki := sha256.Sum256(leaf.Raw), sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	san := func(kind, matcher string) string {
		return fmt.Sprintf(`,"matchTypedSubjectAltNames":[{"sanType":%q,"matcher":%s}]`, kind, matcher)
	}
	colons := strings.ToUpper(hex.EncodeToString(sum[:1])) + ":" + hex.EncodeToString(sum[1:])
	for name, c := range map[string]struct{ context, want string }{
		"ca":                  {trusting(t, ca, "", ""), ""},
		"wrong ca":            {trusting(t, other, "", ""), `the server's certificate for spiffe://mesh/ns/system/sa/pilot, xds.example, *.wild.example, 127.0.0.1, ops@mesh.example, issued by "CN=the mesh", is not trusted by trusted_ca given inline: x509: certificate signed by unknown authority`},
		"wrong ca, accepted":  {trusting(t, other, `,"trustChainVerification":"ACCEPT_UNTRUSTED"`, ""), ""},
		"nobody is verified":  {`{}`, ""},
		"dns":                 {trusting(t, ca, san("DNS", `{"exact":"xds.example"}`), ""), ""},
		"dns, wildcard":       {trusting(t, ca, san("DNS", `{"exact":"a.wild.example"}`), ""), ""},
		"dns, two labels":     {trusting(t, ca, san("DNS", `{"exact":"a.b.wild.example"}`), ""), "no entry of match_typed_subject_alt_names"},
		"dns, case":           {trusting(t, ca, san("DNS", `{"exact":"XDS.example"}`), ""), "no entry of match_typed_subject_alt_names"},
		"dns, ignored case":   {trusting(t, ca, san("DNS", `{"exact":"XDS.example","ignoreCase":true}`), ""), ""},
		"another kind":        {trusting(t, ca, san("URI", `{"exact":"xds.example"}`), ""), "no entry of match_typed_subject_alt_names"},
		"ip":                  {trusting(t, ca, san("IP_ADDRESS", `{"exact":"127.0.0.1"}`), ""), ""},
		"email":               {trusting(t, ca, san("EMAIL", `{"suffix":"@mesh.example"}`), ""), ""},
		"spiffe":              {trusting(t, ca, san("URI", `{"prefix":"spiffe://mesh/"}`), ""), ""},
		"contains":            {trusting(t, ca, san("URI", `{"contains":"/sa/pilot"}`), ""), ""},
		"regex":               {trusting(t, ca, san("URI", `{"safeRegex":{"regex":"spiffe://[a-z]+/.*"}}`), ""), ""},
		"regex, whole":        {trusting(t, ca, san("URI", `{"safeRegex":{"regex":"spiffe://[a-z]+"}}`), ""), "no entry of match_typed_subject_alt_names"},
		"any kind":            {trusting(t, ca, `,"matchSubjectAltNames":[{"exact":"127.0.0.1"}]`, ""), ""},
		"hash":                {fmt.Sprintf(`{"commonTlsContext":{"validationContext":{"verifyCertificateHash":[%q]}}}`, colons), ""},
		"key":                 {fmt.Sprintf(`{"commonTlsContext":{"validationContext":{"verifyCertificateSpki":[%q]}}}`, base64.StdEncoding.EncodeToString(spki[:])), ""},
		"another hash":        {trusting(t, ca, fmt.Sprintf(`,"verifyCertificateHash":[%q]`, hex.EncodeToString(spki[:])), ""), "none of verify_certificate_hash"},
		"sni as name":         {trusting(t, ca, "", `,"sni":"xds.example","autoSniSanValidation":true`), ""},
		"another sni as name": {trusting(t, ca, "", `,"sni":"y.example","autoSniSanValidation":true`), "not y.example"},
		"depth":               {trusting(t, ca, `,"maxVerifyDepth":0`, ""), ""},
		"system":              {`{"commonTlsContext":{"validationContext":{"systemRootCerts":{}}}}`, "not trusted by trusted_ca of the system"},
		"version":             {trusting(t, ca, "", `,"sni":"s"`), ""},
	} {
		t.Run(name, func(t *testing.T) {
			creds, err := Credentials(socket(t, c.context), nil)
			if err != nil {
				t.Fatal(err)
			}
			seen, got := shake(t, creds.Clone(), server)
			if c.want == "" && got != nil || c.want != "" && (got == nil || !strings.Contains(got.Error(), c.want)) {
				t.Errorf("error %v, want %q", got, c.want)
			}
			if c.want == "" && strings.Contains(c.context, `"sni":"s"`) && seen.ServerName != "s" {
				t.Errorf("SNI %q", seen.ServerName)
			}
			if c.want == "" && !strings.Contains(c.context, "sni") && seen.ServerName != "" {
				t.Errorf("SNI %q, and none is configured", seen.ServerName)
			}
		})
	}
}

func TestTLSParameters(t *testing.T) {
	ca := newAuthority(t, "ca")
	chain, key := ca.leaf("a")
	server := serving(t, chain, key)
	with := func(params string) string { return `{"commonTlsContext":{"tlsParams":{` + params + `}}}` }
	for name, c := range map[string]struct {
		context string
		version uint16
		suite   uint16
	}{
		"none":    {`{}`, tls.VersionTLS13, 0},
		"at most": {with(`"tlsMaximumProtocolVersion":"TLSv1_2","cipherSuites":["[ECDHE-ECDSA-AES256-GCM-SHA384|ECDHE-RSA-AES256-GCM-SHA384]"],"ecdhCurves":["P-256"]`), tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384},
		"least":   {with(`"tlsMinimumProtocolVersion":"TLSv1_3"`), tls.VersionTLS13, 0},
	} {
		t.Run(name, func(t *testing.T) {
			creds, err := Credentials(socket(t, c.context), nil)
			if err != nil {
				t.Fatal(err)
			}
			seen, err := shake(t, creds, server)
			if err != nil || seen.Version != c.version || c.suite != 0 && seen.CipherSuite != c.suite {
				t.Errorf("version %x, suite %x, error %v", seen.Version, seen.CipherSuite, err)
			}
		})
	}
	creds, err := Credentials(socket(t, `{}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	server.NextProtos = []string{"http/1.1"}
	if _, err := shake(t, creds, server); err == nil {
		t.Error("a server without HTTP/2 was accepted")
	}
	server.NextProtos = nil
	if _, err := shake(t, creds, server); err != nil {
		t.Errorf("a server without ALPN: %v", err)
	}
}

func TestCredentialsThatCannotBeFollowed(t *testing.T) {
	ca := newAuthority(t, "ca")
	chain, _ := ca.leaf("a")
	_, key := ca.leaf("b")
	inline := func(s string) string { return `{"inlineString":` + quote(t, s) + `}` }
	for name, c := range map[string]struct{ context, want string }{
		"crl":       {trusting(t, ca, `,"crl":{"filename":"x"}`, ""), "crl: not supported on a management stream"},
		"validator": {trusting(t, ca, `,"customValidatorConfig":{"name":"x"}`, ""), "custom_validator_config: not supported"},
		"log":       {`{"commonTlsContext":{"keyLog":{"path":"x"}}}`, "common_tls_context.key_log: not supported"},
		"policy":    {`{"commonTlsContext":{"tlsParams":{"signatureAlgorithms":["x"]}}}`, "common_tls_context.tls_params.signature_algorithms: not supported"},
		"host":      {`{"autoHostSni":true}`, "auto_host_sni: not supported"},
		"cipher":    {`{"commonTlsContext":{"tlsParams":{"cipherSuites":["RC4-SHA"]}}}`, `tls_params.cipher_suites[0]: "RC4-SHA" is not supported: supported are ECDHE-ECDSA-AES128-GCM-SHA256`},
		"curve":     {`{"commonTlsContext":{"tlsParams":{"ecdhCurves":["P-256","P-1"]}}}`, `tls_params.ecdh_curves[1]: "P-1" is not supported`},
		"old":       {`{"commonTlsContext":{"tlsParams":{"tlsMaximumProtocolVersion":"TLSv1_1"}}}`, "use TLS 1.2 at least"},
		"mismatch":  {`{"commonTlsContext":{"tlsCertificates":[{"certificateChain":` + inline(chain) + `,"privateKey":` + inline(key) + `}]}}`, "private key given inline does not belong to the certificate given inline"},
		"no pem":    {`{"commonTlsContext":{"validationContext":{"trustedCa":{"inlineString":"x"}}}}`, "trusted_ca given inline: holds no PEM block CERTIFICATE"},
		"env":       {`{"commonTlsContext":{"validationContext":{"trustedCa":{"environmentVariable":"QUADNINE_NO_SUCH"}}}}`, "environment variable QUADNINE_NO_SUCH is not set"},
		"untrusted": {`{"commonTlsContext":{"validationContext":{"matchSubjectAltNames":[{"exact":"a"}]}}}`, "names are matched without a trusted_ca"},
		"hash":      {`{"commonTlsContext":{"validationContext":{"verifyCertificateHash":["abc"]}}}`, `verify_certificate_hash[0]: "abc" is no SHA-256`},
		"regex":     {trusting(t, ca, `,"matchTypedSubjectAltNames":[{"sanType":"URI","matcher":{"safeRegex":{"regex":"("}}}]`, ""), "match_typed_subject_alt_names[0]: error parsing regexp"},
		"other":     {trusting(t, ca, `,"matchTypedSubjectAltNames":[{"sanType":"OTHER_NAME","matcher":{"exact":"a"}}]`, ""), "OTHER_NAME is not supported"},
		"unnamed":   {`{"commonTlsContext":{"validationContextSdsSecretConfig":{"name":"ca"}}}`, `secret "ca" is not in static_resources.secrets`},
		"sds":       {`{"commonTlsContext":{"validationContextSdsSecretConfig":{"name":"ca","sdsConfig":{"ads":{}}}}}`, `secret "ca": sds_config: a management stream takes secrets from files only`},
		"pkcs12":    {`{"commonTlsContext":{"tlsCertificates":[{"pkcs12":{"filename":"x"}}]}}`, "pkcs12: not supported"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Credentials(socket(t, c.context), nil)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "transport_socket.typed_config: ") {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
	if _, err := Credentials(socketOf(t, &tlsv3.DownstreamTlsContext{}), nil); err == nil || !strings.Contains(err.Error(), "use UpstreamTlsContext") {
		t.Error(err)
	}
	if _, err := Credentials(&corev3.TransportSocket{Name: "x"}, nil); err == nil {
		t.Error("no configuration")
	}
	for _, ts := range []*corev3.TransportSocket{nil, socketOf(t, &rawv3.RawBuffer{})} {
		creds, err := Credentials(ts, nil)
		if err != nil || creds.Info().SecurityProtocol != "insecure" {
			t.Errorf("%v: %v, %v", ts, creds, err)
		}
	}
}

// secretsFile writes secrets as a DiscoveryResponse, in the format of the name.
func secretsFile(t testing.TB, path string, secrets ...*tlsv3.Secret) {
	t.Helper()
	r := &discoveryv3.DiscoveryResponse{}
	for _, s := range secrets {
		r.Resources = append(r.Resources, wrap(t, s))
	}
	var data []byte
	var err error
	switch filepath.Ext(path) {
	case ".pb":
		data, err = proto.Marshal(r)
	default: // JSON is YAML as well
		data, err = protojson.Marshal(r)
	}
	if err != nil {
		t.Fatal(err)
	}
	next := path + ".next"
	if err := os.WriteFile(next, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}

func identity(name, chain, key string) *tlsv3.Secret {
	return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
		CertificateChain: &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: []byte(chain)}},
		PrivateKey:       &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: key}},
	}}}
}

func trust(name, ca string) *tlsv3.Secret {
	return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
		TrustedCa: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: ca}},
	}}}
}

func TestSecretsFromFiles(t *testing.T) {
	ca := newAuthority(t, "ca")
	chain, key := ca.leaf("cp")
	server := serving(t, chain, key)
	for _, ext := range []string{".json", ".yaml", ".pb"} {
		path := filepath.Join(t.TempDir(), "secrets"+ext)
		context := fmt.Sprintf(`{"commonTlsContext":{"combinedValidationContext":{
			"defaultValidationContext":{"matchTypedSubjectAltNames":[{"sanType":"DNS","matcher":{"exact":"cp"}}]},
			"validationContextSdsSecretConfig":{"name":"ca","sdsConfig":{"pathConfigSource":{"path":%s}}}}}}`, quote(t, path))
		creds, err := Credentials(socket(t, context), nil)
		if err != nil {
			t.Fatal(err) // the file may still come
		}
		if _, err := shake(t, creds, server); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("without the file: %v", err)
		}
		secretsFile(t, path, trust("other", ""), trust("ca", ca.pem))
		if _, err := shake(t, creds, server); err != nil {
			t.Errorf("%s: %v", ext, err)
		}
		// A file that cannot be used: what was read before goes on.
		if err := os.WriteFile(path, []byte("\xff{"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := shake(t, creds, server); err != nil {
			t.Errorf("%s: %v", ext, err)
		}
		stranger := newAuthority(t, "stranger")
		chain, key := stranger.leaf("cp")
		if _, err := shake(t, creds, serving(t, chain, key)); err == nil || !strings.Contains(err.Error(), "read earlier") {
			t.Errorf("%s: %v", ext, err)
		}
		secretsFile(t, path, trust("ca", stranger.pem))
		if _, err := shake(t, creds, serving(t, chain, key)); err != nil {
			t.Errorf("%s, after a rotation: %v", ext, err)
		}
		secretsFile(t, path, trust("x", stranger.pem))
		if _, err := Credentials(socket(t, context), nil); err == nil || !strings.Contains(err.Error(), `has no secret of this name, only: "x"`) {
			t.Errorf("%s: %v", ext, err)
		}
	}
	if _, err := secretFile(filepath.Join(t.TempDir(), "x.toml"), "x"); err == nil {
		t.Error("no file")
	}
	// By name, of the bootstrap.
	creds, err := Credentials(socket(t, `{"commonTlsContext":{"validationContextSdsSecretConfig":{"name":"ca"}}}`), func(name string) *tlsv3.Secret {
		if name == "ca" {
			return trust("ca", ca.pem)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := shake(t, creds, server); err != nil {
		t.Error(err)
	}
}

// TestMutualTLS is a stream to go-control-plane with TLS on both sides, over
// which the certificates rotate.
func TestMutualTLS(t *testing.T) {
	ca, other := newAuthority(t, "the mesh"), newAuthority(t, "the next mesh")
	dir := t.TempDir()
	certificate, trusted := filepath.Join(dir, "cert.json"), filepath.Join(dir, "ca.json")
	put := func(a *authority, name string) {
		chain, key := a.leaf(name)
		secretsFile(t, certificate, identity("xds_certificate", chain, key))
	}
	put(ca, "sidecar-1")
	secretsFile(t, trusted, trust("xds_trusted_ca", ca.pem))
	setting := fmt.Sprintf(`{"sni":"cp","commonTlsContext":{
		"tlsCertificateSdsSecretConfigs":[{"name":"xds_certificate","sdsConfig":{"pathConfigSource":{"path":%s}}}],
		"validationContextSdsSecretConfig":{"name":"xds_trusted_ca","sdsConfig":{"pathConfigSource":{"path":%s}}}}}`, quote(t, certificate), quote(t, trusted))
	creds, err := Credentials(socket(t, setting), nil)
	if err != nil {
		t.Fatal(err)
	}

	m := linear(t)
	m.set(world("", []string{"a"}, []string{"r"}))
	chain, key := ca.leaf("cp")
	server := serving(t, chain, key)
	server.ClientAuth = tls.RequireAndVerifyClientCert
	server.ClientCAs = x509.NewCertPool()
	server.ClientCAs.AppendCertsFromPEM([]byte(ca.pem))
	peers := make(chan string, 100)
	server.VerifyConnection = func(s tls.ConnectionState) error {
		peers <- s.PeerCertificates[0].Subject.CommonName
		return nil
	}
	m.extra = append(m.extra, serverCredentials(server))
	m.start()
	defer m.stop()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = m.server.Serve(l) }()

	sink := newFakeSink()
	sink.heard = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	o := ClientOptions{Sink: sink, Servers: []ServerConfig{{Name: "cp", Addresses: []string{l.Addr().String()}, Credentials: creds}}}
	c := NewClient(o)
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	hear := func(n int) {
		for range n {
			<-sink.heard
		}
	}
	hear(5) // connected, and a response of four kinds
	if name := <-peers; name != "sidecar-1" {
		t.Errorf("peer %s", name)
	}
	// The files change under the stream, which goes on.
	put(ca, "sidecar-2")
	m.set(world("x", []string{"a"}, []string{"r"}))
	hear(1) // the cluster
	if len(peers) != 0 || len(m.streams) != 1 {
		t.Errorf("%d handshakes more, streams %q", len(peers), m.streams)
	}
	// The next connection has the new certificate.
	cancel()
	if err := drain(done, sink.heard); err != nil {
		t.Error(err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	c = NewClient(o)
	go func() { done <- c.Run(ctx) }()
	hear(5)
	if name := <-peers; name != "sidecar-2" {
		t.Errorf("peer %s", name)
	}
	cancel()
	if err := drain(done, sink.heard); err != nil {
		t.Error(err)
	}

	// A CA that did not sign the server's certificate.
	secretsFile(t, trusted, trust("xds_trusted_ca", other.pem))
	want := `Unavailable: connection error: desc = "transport: authentication handshake failed: the server's certificate for cp, issued by \"CN=the mesh\", is not trusted by trusted_ca given inline: x509: certificate signed by unknown authority`
	refused(t, o, sink, want)
	// A client that the server does not know.
	secretsFile(t, trusted, trust("xds_trusted_ca", ca.pem))
	put(other, "stranger")
	refused(t, o, sink, "check the client certificate")
}

// refused runs a client until its first failure.
func refused(t *testing.T, o ClientOptions, sink *fakeSink, want string) {
	t.Helper()
	sink.connected = nil
	c := NewClient(o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	<-sink.heard
	cancel()
	if err := drain(done, sink.heard); err != nil {
		t.Error(err)
	}
	if len(sink.connected) == 0 || !strings.Contains(strings.ReplaceAll(strings.Join(sink.connected, "\n"), `\\"`, `"`), want) {
		t.Errorf("connected %q, want %q", sink.connected, want)
	}
}

// drain waits for the end and lets the sink talk meanwhile.
func drain(done chan error, heard chan struct{}) error {
	for {
		select {
		case err := <-done:
			return err
		case <-heard:
		}
	}
}

func TestGoogleCredentials(t *testing.T) {
	ca := newAuthority(t, "ca")
	chain, key := ca.leaf("xds.example")
	server := serving(t, chain, key)
	var ssl corev3.GrpcService_GoogleGrpc_ChannelCredentials
	if err := protojson.Unmarshal([]byte(`{"sslCredentials":{"rootCerts":{"inlineString":`+quote(t, ca.pem)+`}}}`), &ssl); err != nil {
		t.Fatal(err)
	}
	creds, err := GoogleCredentials(&ssl)
	if err != nil {
		t.Fatal(err)
	}
	if seen, err := shake(t, creds, server); err != nil || seen.ServerName != "xds.example" {
		t.Errorf("SNI %q, error %v", seen.ServerName, err)
	}
	chain, key = ca.leaf("y.example")
	if _, err := shake(t, creds, serving(t, chain, key)); err == nil || !strings.Contains(err.Error(), "not xds.example") {
		t.Error(err)
	}
	var google corev3.GrpcService_GoogleGrpc_ChannelCredentials
	if err := protojson.Unmarshal([]byte(`{"googleDefault":{}}`), &google); err != nil {
		t.Fatal(err)
	}
	if _, err := GoogleCredentials(&google); err == nil || !strings.Contains(err.Error(), "use ssl_credentials") {
		t.Error(err)
	}
	if creds, err := GoogleCredentials(nil); err != nil || creds.Info().SecurityProtocol != "insecure" {
		t.Error(err)
	}
}
