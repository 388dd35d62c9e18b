package xds

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/proxy"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
	"github.com/quadnine/quadnine/xds/compile"
)

// inlinePEM is PEM in a configuration.
func inlinePEM(p []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: p}}
}

// certificateSecret is a certificate as a server sends it.
func certificateSecret(name string, p testkit.Pair) *tlsv3.Secret {
	return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
		CertificateChain: inlinePEM(p.Cert), PrivateKey: inlinePEM(p.Key),
	}}}
}

// trustSecret is who is trusted, as a server sends it.
func trustSecret(name string, ca *testkit.CA) *tlsv3.Secret {
	return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inlinePEM(ca.PEM)}}}
}

// byStream is a stream of its own, over a static cluster.
func byStream(cluster string, api corev3.ApiConfigSource_ApiType) *corev3.ConfigSource {
	return &corev3.ConfigSource{ResourceApiVersion: corev3.ApiVersion_V3, ConfigSourceSpecifier: &corev3.ConfigSource_ApiConfigSource{ApiConfigSource: &corev3.ApiConfigSource{
		ApiType: api, TransportApiVersion: corev3.ApiVersion_V3, SetNodeOnFirstMessageOnly: true,
		GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: cluster}}}},
	}}}
}

func byFile(path string) *corev3.ConfigSource {
	return &corev3.ConfigSource{ConfigSourceSpecifier: &corev3.ConfigSource_PathConfigSource{PathConfigSource: &corev3.PathConfigSource{Path: path}}}
}

// within is from with an initial_fetch_timeout.
func within(d time.Duration, from *corev3.ConfigSource) *corev3.ConfigSource {
	out := proto.CloneOf(from)
	out.InitialFetchTimeout = durationpb.New(d)
	return out
}

func sds(name string, from *corev3.ConfigSource) *tlsv3.SdsSecretConfig {
	return &tlsv3.SdsSecretConfig{Name: name, SdsConfig: from}
}

func tlsSocket(t testing.TB, name string, context proto.Message) *corev3.TransportSocket {
	t.Helper()
	return &corev3.TransportSocket{Name: name, ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: wrap(t, context)}}
}

// secureListener is a listener with the secret "inbound", whose callers have to be
// spiffe://td/caller by the word of the secret "trust".
func secureListener(t testing.TB, from *corev3.ConfigSource) *listenerv3.Listener {
	t.Helper()
	l := httpListener(t, "l", manyRoutes("r", 1, []string{"up"}, "up"), "")
	l.FilterChains[0].TransportSocket = tlsSocket(t, "tls", &tlsv3.DownstreamTlsContext{
		RequireClientCertificate: wrapperspb.Bool(true),
		CommonTlsContext: &tlsv3.CommonTlsContext{
			TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{sds("inbound", from)},
			ValidationContextType: &tlsv3.CommonTlsContext_CombinedValidationContext{CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
				DefaultValidationContext: &tlsv3.CertificateValidationContext{MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{{
					SanType: tlsv3.SubjectAltNameMatcher_URI,
					Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: "spiffe://td/caller"}},
				}}},
				ValidationContextSdsSecretConfig: sds("trust", from),
			}},
		},
	})
	return l
}

// secureCluster is a cluster whose app is shown the secret "outbound" and verified by
// the secret "trust".
func secureCluster(t testing.TB, from *corev3.ConfigSource) *clusterv3.Cluster {
	t.Helper()
	c := &clusterv3.Cluster{Name: "up", ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}, LoadAssignment: oneEndpoint("up", "10.0.0.1")}
	c.TransportSocket = tlsSocket(t, "tls", &tlsv3.UpstreamTlsContext{Sni: "app.test", CommonTlsContext: &tlsv3.CommonTlsContext{
		TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{sds("outbound", from)},
		ValidationContextType:          &tlsv3.CommonTlsContext_ValidationContextSdsSecretConfig{ValidationContextSdsSecretConfig: sds("trust", from)},
	}})
	return c
}

// downstreamOf is TLS with a certificate inside.
func downstreamOf(p testkit.Pair) *tlsv3.DownstreamTlsContext {
	return &tlsv3.DownstreamTlsContext{CommonTlsContext: &tlsv3.CommonTlsContext{TlsCertificates: []*tlsv3.TlsCertificate{
		{CertificateChain: inlinePEM(p.Cert), PrivateKey: inlinePEM(p.Key)},
	}}}
}

// secureRig is a sidecar with its app and its callers, who all trust one authority,
// on a network in memory.
type secureRig struct {
	*testing.T
	*Applier
	net       *testkit.Net
	ca        *testkit.CA
	suppliers *Suppliers
	log       *logged

	mu   sync.Mutex
	seen []string // the names of the certificates that the app was shown
}

// logged is everything that was written to a log.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newSecureRig(t *testing.T, options func(*ApplierOptions), supply *SupplierOptions) *secureRig {
	t.Helper()
	r := &secureRig{T: t, net: testkit.NewNet(), ca: testkit.NewCA(t, "ca"), log: new(logged)}
	log := slog.New(slog.NewTextHandler(io.MultiWriter(r.log, t.Output()), &slog.HandlerOptions{Level: slog.LevelDebug}))
	server, err := proxy.New(proxy.Options{
		Snapshot: new(snapshot.Snapshot), Registry: telemetry.NewRegistry(), Log: log, Dial: r.net.Dial,
		ListenOn: func(l *snapshot.Listener) (net.Listener, error) { return r.net.Listen(l.Address), nil },
	})
	must(t, err)
	t.Cleanup(server.Close)
	o := ApplierOptions{Plane: server, Compiler: compile.New(), Dynamic: Kinds(), StateDir: t.TempDir(), Log: log}
	if options != nil {
		options(&o)
	}
	if supply != nil {
		o.Supplier = supply.Check
	}
	r.Applier = NewApplier(o)
	t.Cleanup(func() { must(t, r.Close()) })
	if supply != nil {
		supply.Applier, supply.Sink, supply.Log = r.Applier, r.Applier, log
		r.suppliers = NewSuppliers(*supply)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { r.suppliers.Run(ctx); close(done) }()
		t.Cleanup(func() { cancel(); <-done })
	}
	must(t, r.Start())
	r.app()
	return r
}

// app serves https://app.test at 10.0.0.1:80 to callers whom the authority knows.
func (r *secureRig) app() {
	l := r.net.Listen("10.0.0.1:80")
	config := &tls.Config{
		Certificates: []tls.Certificate{r.ca.Issue("app.test").TLS(r)}, ClientCAs: r.ca.Pool(), ClientAuth: tls.RequireAndVerifyClientCert,
		NextProtos: []string{"http/1.1"},
	}
	s := &http.Server{ErrorLog: slog.NewLogLogger(slog.NewTextHandler(r.Output(), nil), slog.LevelInfo), Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.seen = append(r.seen, req.TLS.PeerCertificates[0].URIs[0].String())
		fmt.Fprint(w, "hello")
	})}
	go func() { _ = s.Serve(tls.NewListener(l, config)) }()
	r.Cleanup(func() {
		l.Kill()
		time.Sleep(time.Second) // net/http's server lingers half a second on some closes
	})
}

// caller is a client whose connections are its own.
type caller struct {
	r *secureRig
	c *http.Client
	p *http.Transport
}

func (r *secureRig) caller(names ...string) *caller {
	r.Helper()
	config := &tls.Config{RootCAs: r.ca.Pool(), ServerName: "inbound.test"}
	if len(names) > 0 {
		config.Certificates = []tls.Certificate{r.ca.Issue(names...).TLS(r)}
	}
	p := &http.Transport{TLSClientConfig: config, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return r.net.Dial(ctx, "127.0.0.1:10000") }}
	r.Cleanup(p.CloseIdleConnections)
	return &caller{r, &http.Client{Transport: p, Timeout: time.Minute}, p}
}

// get asks the sidecar, and returns who answered, by its certificate's first name but
// one, or why nobody did.
func (c *caller) get() (by string, err error) {
	c.r.Helper()
	res, err := c.c.Get("https://inbound.test/r0/")
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusOK || string(body) != "hello" {
		return "", fmt.Errorf("%d %s %w", res.StatusCode, body, err)
	}
	return res.TLS.PeerCertificates[0].DNSNames[1], err
}

// answers checks who answers c.
func (c *caller) answers(want string) {
	c.r.Helper()
	if got, err := c.get(); err != nil || got != want {
		c.r.Errorf("answered by %q, %v; want %q", got, err, want)
	}
}

// inboundPair is a certificate for callers, told from others by a second name.
func (r *secureRig) inboundPair(second string) testkit.Pair {
	return r.ca.Issue("inbound.test", second)
}

// shown returns the name on the certificate that the app was shown last.
func (r *secureRig) shown() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.seen) == 0 {
		return ""
	}
	return r.seen[len(r.seen)-1]
}

// inSecureBubble runs f with a rig in fake time.
func inSecureBubble(t *testing.T, supply *SupplierOptions, f func(r *secureRig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(newSecureRig(t, nil, supply)) })
}
