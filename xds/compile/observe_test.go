package compile

import (
	"bufio"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/proxy"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// observed is a case of TestObserved: a configuration in YAML, and what callers
// and apps see of it. The fields that it names are the ones that it observes.
type observed struct {
	name     string
	listener string   // fields of the Listener
	hcm      string   // fields of the connection manager
	filters  string   // HTTP filters before the router, each followed by a comma
	table    string   // fields of the RouteConfiguration, or else
	routes   string   // its routes for every host; "" sends everything to a
	clusters []string // besides a and b
	ends     []string // ClusterLoadAssignments
	runtime  string   // fields of a layer
	observe  func(t *testing.T, s *scene)
}

// TestObserved: a field that is accepted is seen on the wire.
func TestObserved(t *testing.T) {
	for _, cases := range [][]observed{observedListeners, observedManagers, observedRoutes, observedClusters, observedTLS, observedPolicies, observedRetries} {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { c.observe(t, newScene(t, c)) })
			})
		}
	}
}

// scene is a sidecar that runs by compiled resources, on a network in memory. Its
// apps a and b are at 10.0.0.1:80 and 10.0.0.2:80.
type scene struct {
	t      *testing.T
	net    *testkit.Net
	server *proxy.Server
	snap   *snapshot.Snapshot
	h1, h2 *http.Client
	notes  []string
	a, b   *testApp
	papers *papers // nil: c names none
}

// testApp is an upstream that answers with what it was asked.
type testApp struct {
	name   string
	asked  atomic.Int64
	status atomic.Int64 // 0: 200
	handle atomic.Pointer[http.HandlerFunc]
}

// echo is its answer.
type echo struct {
	App, Proto, Host, Path string
	Header                 http.Header
}

func (a *testApp) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	a.asked.Add(1)
	if f := a.handle.Load(); f != nil {
		(*f)(w, req)
		return
	}
	if s := a.status.Load(); s != 0 {
		w.WriteHeader(int(s))
	}
	_ = json.NewEncoder(w).Encode(echo{a.name, req.Proto, req.Host, req.RequestURI, req.Header})
}

// does has the app answer with f.
func (a *testApp) does(f http.HandlerFunc) { a.handle.Store(&f) }

// fields turns YAML into what JSON would decode to.
func fields(t testing.TB, text string) map[string]any {
	t.Helper()
	out := make(map[string]any)
	if err := yaml.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return out
}

// encoded turns fields into the bytes of m.
func encoded(t testing.TB, m proto.Message, fields map[string]any) []byte {
	t.Helper()
	text, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return wire(t, m, string(text))
}

const (
	speaksH2 = `typed_extension_protocol_options: {h: {"@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {http2_protocol_options: {}}}}`
	toA      = `[{match: {prefix: /}, route: {cluster: a}}]`
)

// endpointsAt is the endpoints of a STATIC cluster.
func endpointsAt(addresses ...string) string {
	var b strings.Builder
	for _, a := range addresses {
		host, port, _ := net.SplitHostPort(a)
		b.WriteString("{endpoint: {address: {socket_address: {address: " + host + ", port_value: " + port + "}}}},")
	}
	return "load_assignment: {cluster_name: x, endpoints: [{lb_endpoints: [" + b.String() + "]}]}"
}

// listenerWire is c's listener, encoded.
func (c observed) listenerWire(t testing.TB) []byte {
	t.Helper()
	manager := fields(t, `
"@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
stat_prefix: s
rds: {route_config_name: r, config_source: {ads: {}}}
http_filters: [`+c.filters+`{name: envoy.filters.http.router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]`)
	maps.Copy(manager, fields(t, c.hcm))
	listener := fields(t, `{name: in, address: {socket_address: {address: 192.0.2.9, port_value: 80}}}`)
	chain := map[string]any{"filters": []any{map[string]any{"name": "m", "typed_config": manager}}}
	listener["filter_chains"] = []any{chain}
	for k, v := range fields(t, c.listener) {
		switch {
		case k == "filter_chain": // fields of the chain that is there
			more, _ := v.(map[string]any)
			maps.Copy(chain, more)
		case v == "chain": // the chain stands here instead
			delete(listener, "filter_chains")
			listener[k] = chain
		default:
			listener[k] = v
		}
	}
	return encoded(t, new(listenerv3.Listener), listener)
}

// configuration compiles what c says.
func (c observed) configuration(t testing.TB) (*snapshot.Snapshot, []string) {
	t.Helper()
	var notes []string
	to := New()
	s := &snapshot.Snapshot{Tables: make(map[string]*snapshot.RouteTable), Clusters: make(map[string]*snapshot.Cluster)}
	must := func(n Notes, err error) {
		t.Helper()
		notes = append(notes, n.Ignored...)
		if err != nil {
			t.Fatalf("refused: %v", err)
		}
	}
	l, n, err := to.Listener(c.listenerWire(t))
	must(n, err)
	s.Listeners = []*snapshot.Listener{l}

	table := fields(t, c.table)
	if c.table == "" {
		if c.routes == "" {
			c.routes = toA
		}
		table = fields(t, "virtual_hosts: [{name: v, domains: ['*'], routes: "+c.routes+"}]")
	}
	table["name"] = "r"
	s.Tables["r"], n, err = to.Routes(encoded(t, new(routev3.RouteConfiguration), table))
	must(n, err)

	assignments := make(map[string]*snapshot.Assignment)
	for _, text := range c.ends {
		name, a, n, err := to.Assignment(encoded(t, new(endpointv3.ClusterLoadAssignment), fields(t, text)))
		must(n, err)
		assignments[name] = a
	}
	for _, text := range append([]string{
		"{name: a, type: STATIC, " + speaksH2 + ", " + endpointsAt("10.0.0.1:80") + "}",
		"{name: b, type: STATIC, " + speaksH2 + ", " + endpointsAt("10.0.0.2:80") + "}",
	}, c.clusters...) {
		one, n, err := to.Cluster(encoded(t, new(clusterv3.Cluster), fields(t, text)))
		must(n, err)
		s.Clusters[one.Name] = &snapshot.Cluster{ClusterSettings: one, Assignment: one.Static}
		if one.Static == nil {
			s.Clusters[one.Name].Assignment = assignments[one.Service]
		}
	}
	if c.runtime != "" {
		layer, n, err := to.Runtime(encoded(t, new(runtimev3.Runtime), fields(t, c.runtime)))
		must(n, err)
		s.Runtime = snapshot.NewRuntime([]snapshot.RuntimeLayer{layer})
	}
	return s, notes
}

// newScene starts a sidecar by c, and its apps.
func newScene(t *testing.T, c observed, change ...func(*proxy.Options)) *scene {
	t.Helper()
	s := &scene{t: t, net: testkit.NewNet()}
	c, s.papers = c.issue(t)
	s.snap, s.notes = c.configuration(t)
	o := proxy.Options{
		Snapshot: new(snapshot.Snapshot), Registry: telemetry.NewRegistry(), Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Dial: s.net.Dial,
		ListenOn: func(l *snapshot.Listener) (net.Listener, error) { return s.net.Listen(l.Address), nil },
	}
	for _, f := range change {
		f(&o)
	}
	var err error
	if s.server, err = proxy.New(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.server.Close)
	s.a, s.b = s.app("a", "10.0.0.1:80"), s.app("b", "10.0.0.2:80")
	s.apply(s.snap)
	for p, c := range map[testkit.Protocol]**http.Client{testkit.H1: &s.h1, testkit.H2: &s.h2} {
		client, closeIdle := testkit.Client(s.net, p)
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		*c = client
		t.Cleanup(closeIdle)
	}
	return s
}

func (s *scene) apply(snap *snapshot.Snapshot) {
	s.t.Helper()
	for _, l := range snap.Listeners {
		if err := s.server.Listen(l); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := s.server.Apply(snap); err != nil {
		s.t.Fatal(err)
	}
}

// app starts an upstream that speaks both protocols.
func (s *scene) app(name, address string) *testApp {
	a := &testApp{name: name}
	l := testkit.Serve(s.net, address, a, testkit.H1, testkit.H2)
	s.t.Cleanup(func() {
		l.Kill()
		time.Sleep(time.Second) // net/http's server lingers half a second on some closes
	})
	return a
}

// got is an answer.
type got struct {
	*http.Response
	body string
}

// get asks over HTTP/2.
func (s *scene) get(path string, headers ...string) got {
	s.t.Helper()
	return s.ask(s.h2, http.MethodGet, path, nil, headers...)
}

// ask sends a request and reads the answer.
func (s *scene) ask(c *http.Client, method, path string, body io.Reader, headers ...string) got {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, "http://192.0.2.9:80"+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Errorf("%s %s: %v", method, path, err)
	}
	return got{resp, string(b)}
}

// is checks the status.
func (g got) is(t *testing.T, status int) got {
	t.Helper()
	if g.StatusCode != status {
		t.Errorf("%s: %d %q, want %d (%v)", g.Request.URL.Path, g.StatusCode, g.body, status, g.Header)
	}
	return g
}

// seen is what the app saw.
func (g got) seen(t *testing.T) (e echo) {
	t.Helper()
	if err := json.Unmarshal([]byte(g.body), &e); err != nil {
		t.Fatalf("%d %q: %v", g.StatusCode, g.body, err)
	}
	return e
}

// same reports what is not what was wanted.
func same[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// dial opens a connection to the sidecar and writes text.
func (s *scene) dial(text string) (net.Conn, *bufio.Reader) {
	s.t.Helper()
	c, err := s.net.Dial(s.t.Context(), "192.0.2.9:80")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, text); err != nil {
		s.t.Fatal(err)
	}
	return c, bufio.NewReader(c)
}

// after returns when f is done, rounded.
func after(f func()) time.Duration {
	begin := time.Now()
	f()
	return time.Since(begin).Round(100 * time.Millisecond)
}

// drain reads until the connection ends.
func drain(r io.Reader) string {
	b, _ := io.ReadAll(r)
	return string(b)
}
