package differential

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quadnine/quadnine/bench/proc"
)

// proxy is one of the two programs, as it runs.
type proxy struct {
	*proc.Proc

	node  string // its node id
	admin string
	addr  string // where its listener is, of the case that runs
	dir   string // its working directory
	start func(t *testing.T)

	h2, h1 *http.Client // of the case that runs
}

// stand is everything that the cases of a test share.
type stand struct {
	backends     []*backend
	nobody       string // a port at which nobody listens
	cp           *management
	envoy, ours  *proxy
	seq, version int
	papers       *papers // nil: no case needs any
	name         string  // of the case that runs
}

func (s *stand) both() []*proxy { return []*proxy{s.envoy, s.ours} }

// bootstrap is the one text that both start from. Only the admin address is
// said apart, on the command line.
const bootstrap = `
node: {cluster: differential}
dynamic_resources:
  ads_config:
    api_type: %s
    transport_api_version: V3
    set_node_on_first_message_only: true
    grpc_services: [{envoy_grpc: {cluster_name: xds}}]
  lds_config: {ads: {}, resource_api_version: V3}
  cds_config: {ads: {}, resource_api_version: V3}
layered_runtime:
  layers:
  - {name: rtds, rtds_layer: {name: rt, rtds_config: {ads: {}, resource_api_version: V3}}}
  - {name: admin, admin_layer: {}}
static_resources:
  clusters:
  - name: xds
    type: STATIC
    connect_timeout: 1s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {connection_keepalive: {interval: 30s, timeout: 5s}}}
    load_assignment: {cluster_name: xds, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: %s, port_value: %s}}}}]}]}
`

// variants yields the names that a stand's variant may have.
func variants(yield func(variant string) bool) {
	_ = yield("DELTA_GRPC") && yield("GRPC")
}

// newStand starts the backends b0 to b5, the management server and both proxies,
// with a configuration that has no listener.
func newStand(t *testing.T, variant string) *stand {
	t.Helper()
	s := new(stand)
	for i := range 6 {
		s.backends = append(s.backends, startBackend(t, fmt.Sprintf("b%d", i)))
	}
	a := addrs(t, 4)
	s.cp = startManagement(t, a[0])
	_, s.nobody, _ = net.SplitHostPort(a[3])
	host, port, _ := net.SplitHostPort(a[0])
	text := fmt.Sprintf(bootstrap, variant, host, port)
	s.envoy = newProxy(t, "envoy", "envoy", text, a[1])
	if self {
		s.ours = newProxy(t, "envoy", "quadnine", text, a[2])
	} else {
		s.ours = newProxy(t, "quadnine", "quadnine", text, a[2])
	}
	s.empty(t)
	for _, p := range s.both() {
		p.start(t)
	}
	for _, p := range s.both() {
		p.ready(t)
	}
	return s
}

// empty gives both a configuration without a listener.
func (s *stand) empty(t *testing.T) (keys []resourceKey) {
	t.Helper()
	for _, p := range s.both() {
		c := s.build(t, part{routes: "[]"}, "127.0.0.1:1")
		c.listeners, c.routes = nil, nil
		keys = append(keys, s.cp.set(t, p.node, c)...)
	}
	return keys
}

// newProxy prepares a proxy: start starts it, again if need be.
func newProxy(t *testing.T, kind, node, text, admin string) *proxy {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "bootstrap.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(admin)
	p := &proxy{node: node, admin: admin, dir: dir}
	args := []string{
		"-c", path, "--service-node", node, "--concurrency", "1",
		"--config-yaml", fmt.Sprintf("admin: {address: {socket_address: {address: %s, port_value: %s}}}", host, port),
	}
	program := bin.envoy
	if kind == "envoy" {
		args = append(args, "--disable-hot-restart", "--log-level", "error", "--file-flush-interval-msec", "50", "--drain-time-s", "2", "--parent-shutdown-time-s", "3")
	} else {
		program = bin.quadnine
		args = append(args, "--state-dir", filepath.Join(dir, "state"), "--drain-time-s", "2")
	}
	p.start = func(t *testing.T) {
		t.Helper()
		var err error
		if p.Proc, err = proc.Start(program, args, proc.Dir(dir)); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if p.Proc == nil {
			return
		}
		p.Stop()
		if t.Failed() {
			t.Logf("output of %s (node %s):\n%s", kind, node, tail(p.Output(), 6000))
		}
	})
	return p
}

// tail returns the last n bytes of s.
func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// ready waits until /ready says 200.
func (x *proxy) ready(t *testing.T) {
	t.Helper()
	err := x.Await(deadline(t, within), "answer /ready with 200", func(ctx context.Context) bool {
		status, _ := x.ask(ctx, http.MethodGet, "/ready")
		return status == http.StatusOK
	})
	if err != nil {
		t.Fatal(err)
	}
}

// ask asks the admin server; status 0 when it does not answer.
func (x *proxy) ask(ctx context.Context, method, path string) (status int, body string) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+x.admin+path, http.NoBody)
	if err != nil {
		return 0, err.Error()
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(b)
}

// point makes the proxy's clients new, for a listener at addr.
func (x *proxy) point(t *testing.T, addr string) {
	t.Helper()
	x.addr = addr
	x.h2, x.h1 = x.client(t, true), x.client(t, false)
}

// client returns a client that sends whatever URL it is given to the proxy's listener.
func (x *proxy) client(t *testing.T, h2 bool) *http.Client {
	t.Helper()
	addr := x.addr
	tr := &http.Transport{
		Protocols: new(http.Protocols), MaxIdleConnsPerHost: 256, DisableCompression: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	}
	tr.Protocols.SetUnencryptedHTTP2(h2)
	tr.Protocols.SetHTTP1(!h2)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// push gives both the resources of a step at their listeners' addresses, and
// returns what each said. It returns when both use them.
func (s *stand) push(t *testing.T, st step) map[resourceKey]verdict {
	t.Helper()
	s.version++
	var keys []resourceKey
	for _, x := range s.both() {
		c := s.build(t, st.part, x.addr)
		keys = append(keys, wants(s.cp.set(t, x.node, c), c)...)
	}
	said := s.cp.settle(t, keys)
	if st.noTable || st.noProbe || st.fails != "" && st.fails != clusterType {
		return said
	}
	for _, v := range said {
		if !v.ok && st.fails == "" {
			return said // there is nothing to wait for
		}
	}
	for _, x := range s.both() {
		s.inUse(t, x, strings.Contains(st.hcm, "HTTP1"))
	}
	return said
}

// inUse waits until the newest table of a proxy answers.
func (s *stand) inUse(t *testing.T, x *proxy, h1 bool) {
	t.Helper()
	want, last := fmt.Sprintf("version %d", s.version), answer{}
	ok := until(deadline(t, within/2), func() bool {
		r := get("/").on(probeHost)
		r.h1 = h1
		last = x.send(t, r)
		return last.status == http.StatusOK && last.body == want
	})
	if !ok {
		_, status := x.ask(deadline(t, within), http.MethodGet, "/xds/status")
		t.Fatalf("%s does not use version %d of the table: %d %q %s\n%s", x.node, s.version, last.status, last.body, last.err, tail(status, 3000))
	}
}

// askTest is ask without a caller to tell.
func (x *proxy) askTest(method, path string) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	x.ask(ctx, method, path)
}
