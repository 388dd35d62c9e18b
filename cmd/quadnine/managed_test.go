package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/quadnine/quadnine/xds"
	xdsv1 "github.com/quadnine/quadnine/xds/api/quadnine/xds/v1"
	"github.com/quadnine/quadnine/xds/bootstrap"
)

// managedResources are one listener with its table, cluster and endpoints. They
// answer with the version, %[1]s, in x-config. %[3]s is the pattern of a route that
// nobody asks for.
const managedResources = `
"@type": type.googleapis.com/envoy.config.listener.v3.Listener
name: web
address: {socket_address: {address: 127.0.0.1, port_value: 0}}
filter_chains:
- filters:
  - name: envoy.filters.network.http_connection_manager
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: web
      rds: {route_config_name: web, config_source: {ads: {}, resource_api_version: V3}}
      http_filters:
      - name: envoy.filters.http.router
        typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
---
"@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
name: app-%[1]s
type: EDS
eds_cluster_config: {eds_config: {ads: {}, resource_api_version: V3}}
---
"@type": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment
cluster_name: app-%[1]s
endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %[2]s}}}}]}]
---
"@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
name: web
virtual_hosts:
- name: all
  domains: ["*"]
  response_headers_to_add: [{header: {key: x-config, value: "%[1]s"}}]
  routes:
  - {match: {safe_regex: {regex: "%[3]s"}}, direct_response: {status: 204}}
  - {match: {prefix: /}, route: {cluster: app-%[1]s}}
`

// managers is a management server on one address, which may be away: a
// go-control-plane server, or something else that listens there.
type managers struct {
	t     *testing.T
	app   string // port of the upstream
	cache cache.SnapshotCache
	nacks chan *status.Status
	addr  string
	end   func()
}

func newManagers(t *testing.T) *managers {
	t.Helper()
	app := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "app") })}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = app.Serve(ln) })
	t.Cleanup(func() { _ = app.Close(); wg.Wait() })
	m := &managers{t: t, cache: cache.NewSnapshotCache(false, cache.IDHash{}, nil), nacks: make(chan *status.Status, 1024)}
	_, m.app, _ = net.SplitHostPort(ln.Addr().String())
	free := freeAddrs(t, 1)
	m.addr = free[0]
	t.Cleanup(m.stop)
	return m
}

// set makes a version what the nodes are to have. A regex that is not valid makes
// it bad. replace are pairs of what is to be replaced in it and by what.
func (m *managers) set(version, regex string, replace ...string) {
	m.t.Helper()
	text := strings.NewReplacer(replace...).Replace(fmt.Sprintf(managedResources, version, m.app, regex))
	all, err := bootstrap.Resources("resources", []byte(text))
	if err != nil {
		m.t.Fatal(err)
	}
	byType := make(map[string][]types.Resource)
	for _, r := range all {
		url := "type.googleapis.com/" + string(r.Message.ProtoReflect().Descriptor().FullName())
		byType[url] = append(byType[url], r.Message)
	}
	s, err := cache.NewSnapshot(version, byType)
	if err == nil {
		err = m.cache.SetSnapshot(m.t.Context(), "sidecar", s)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// serve has something listen on the address until stop.
func (m *managers) serve(f func(net.Listener), end func()) {
	m.t.Helper()
	var ln net.Listener
	eventually(m.t, "the server's address is free", func() (ok bool) { // a connection may have got its port
		var err error
		ln, err = net.Listen("tcp", m.addr)
		return err == nil
	})
	var wg sync.WaitGroup
	wg.Go(func() { f(ln) })
	m.end = func() { _ = ln.Close(); end(); wg.Wait() }
}

// start serves what is set.
func (m *managers) start() {
	m.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	note := func(why *status.Status) {
		if why != nil {
			select {
			case m.nacks <- why:
			default:
			}
		}
	}
	ads := serverv3.NewServer(ctx, m.cache, serverv3.CallbackFuncs{
		StreamRequestFunc:      func(_ int64, r *discoveryv3.DiscoveryRequest) error { note(r.GetErrorDetail()); return nil },
		StreamDeltaRequestFunc: func(_ int64, r *discoveryv3.DeltaDiscoveryRequest) error { note(r.GetErrorDetail()); return nil },
	})
	g := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, ads)
	m.serve(func(ln net.Listener) { _ = g.Serve(ln) }, func() { cancel(); g.Stop() })
}

// stop leaves nobody at the address.
func (m *managers) stop() {
	if m.end != nil {
		m.end()
		m.end = nil
	}
}

// bootstrap is what a sidecar is told of the server.
func (m *managers) bootstrap(variant string) string {
	_, port, _ := net.SplitHostPort(m.addr)
	text := fmt.Sprintf(strings.Replace(demoBootstrap, "id: demo", "id: sidecar", 1), port)
	if variant == xds.VariantSotw {
		text = strings.Replace(text, "DELTA_GRPC", "GRPC", 1)
	}
	return text
}

// served is a sidecar, in this process or in one of its own.
type served struct {
	t      *testing.T
	admin  string
	client http.Client // to the listener
	stop   func()
}

func (m *managers) served(admin string, end func()) *served {
	tr := new(http.Transport)
	s := &served{t: m.t, admin: admin, client: http.Client{Transport: tr}, stop: sync.OnceFunc(func() { tr.CloseIdleConnections(); end() })}
	m.t.Cleanup(s.stop)
	return s
}

// sidecar starts one in this process.
func (m *managers) sidecar(variant, state string) *served {
	m.t.Helper()
	boot, err := bootstrap.Load(bootstrap.Options{YAML: m.bootstrap(variant)})
	if err != nil {
		m.t.Fatal(err)
	}
	side, err := startSidecar(m.t.Context(), sidecarConfig{
		managed: managedConfig{boot: boot, stateDir: state}, admin: "127.0.0.1:0", level: slog.LevelWarn, logTo: m.t.Output(),
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return m.served(side.AdminAddr(), func() {
		if err := side.stop(5 * time.Second); err != nil {
			m.t.Error(err)
		}
	})
}

// process starts one in a process of its own, which stop kills with -9.
func (m *managers) process(variant, state string) *served {
	m.t.Helper()
	dir := m.t.TempDir()
	boot, address := filepath.Join(dir, "boot.yaml"), filepath.Join(dir, "admin")
	if err := os.WriteFile(boot, []byte(m.bootstrap(variant)), 0o600); err != nil {
		m.t.Fatal(err)
	}
	var log bytes.Buffer
	c := exec.Command("quadnine", "-c", boot, "--admin", "127.0.0.1:0", "--admin-address-path", address, "--state-dir", state)
	c.Stderr = &log
	if err := c.Start(); err != nil {
		m.t.Fatal(err)
	}
	s := m.served("", func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		if m.t.Failed() {
			m.t.Log(log.String())
		}
	})
	eventually(m.t, "the admin address is written", func() bool {
		b, err := os.ReadFile(address)
		s.admin = string(b)
		return err == nil && s.admin != ""
	})
	return s
}

func (s *served) page(path string) string { return body("http://" + s.admin + path) }

// says waits until a page of the admin port has a text in it, or has not.
func (s *served) says(path, text string, has bool) {
	s.t.Helper()
	what := fmt.Sprintf("%s says %q", path, text)
	if !has {
		what = fmt.Sprintf("%s no longer says %q", path, text)
	}
	eventually(s.t, what, func() bool { page := s.page(path); return page != "" && strings.Contains(page, text) == has })
}

// get asks the listener for what version of the configuration answers; "" when
// there is none.
func (s *served) get() string {
	_, addr, ok := strings.Cut(s.page("/listeners"), "::")
	if !ok {
		return ""
	}
	resp, err := s.client.Get("http://" + strings.TrimSpace(addr) + "/")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || string(b) != "app" {
		return fmt.Sprint(resp.Status, " ", string(b), " ", resp.Header)
	}
	return resp.Header.Get("x-config")
}

func (s *served) answers(version string) {
	s.t.Helper()
	eventually(s.t, "version "+version+" answers", func() bool { return s.get() == version })
}

// watch asks again and again until stop, which fails the test if anything but an
// answer of a version came.
func (s *served) watch() (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				if n == 0 {
					s.t.Error("nothing was asked meanwhile")
				}
				return
			default:
			}
			if got := s.get(); len(got) != 1 {
				s.t.Errorf("request %d: got %q, want the answer of a version", n, got)
				return
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

// TestBadResource: who sent it, who watches and who asks are all told why, and the
// one before serves.
func TestBadResource(t *testing.T) {
	t.Parallel()
	for _, variant := range []string{xds.VariantDelta, xds.VariantSotw} {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			m := newManagers(t)
			m.set("1", "/never")
			m.start()
			s := m.sidecar(variant, "none")
			s.answers("1")
			s.says("/ready", "LIVE", true)
			s.says("/stats/prometheus", `quadnine_xds_resources_rejected{api="RDS"} 0`, true)
			says(t, exitOK, "connected for", "xds", "status", "--admin", s.admin, "--check")
			stop := s.watch()
			m.set("2", "/[")
			why := <-m.nacks
			const reason = "virtual_hosts[0].routes[0].match.safe_regex.regex"
			if !strings.Contains(why.GetMessage(), `RouteConfiguration "web": `+reason+`: `) || len(why.GetDetails()) != 1 {
				t.Errorf("the server is told %v", why)
			}
			one := new(xdsv1.RejectedResource)
			if err := why.GetDetails()[0].UnmarshalTo(one); err != nil || one.GetName() != "web" || one.GetPath() != reason || one.GetReason() == "" {
				t.Errorf("the server is told %v: %v", one, err)
			}
			s.says("/xds/status", reason, true)
			s.says("/stats/prometheus", `quadnine_xds_resources_rejected{api="RDS"} 1`, true)
			says(t, exitShort, reason, "xds", "status", "--admin", s.admin, "--check")
			if got := s.get(); got != "1" {
				t.Errorf("%q answers", got)
			}
			m.set("3", "/never")
			s.answers("3")
			stop()
			s.says("/stats/prometheus", `quadnine_xds_resources_rejected{api="RDS"} 0`, true)
			s.says("/xds/status", reason, false)
			says(t, exitOK, "connected for", "xds", "status", "--admin", s.admin, "--check")
		})
	}
}

// TestListenerIsRenamed: a listener of another name takes over the address, and
// no caller finds it closed.
func TestListenerIsRenamed(t *testing.T) {
	t.Parallel()
	m := newManagers(t)
	free := freeAddrs(t, 1)
	_, port, _ := net.SplitHostPort(free[0])
	m.set("1", "/never", "port_value: 0", "port_value: "+port)
	m.start()
	s := m.sidecar(xds.VariantDelta, "none")
	s.client.Transport.(*http.Transport).DisableKeepAlives = true
	s.answers("1")
	stop := s.watch()
	for i := range 8 {
		version, name := strconv.Itoa(i+2), "other"
		if i%2 == 1 {
			name = "web"
		}
		m.set(version, "/never", "port_value: 0", "port_value: "+port, "name: web\naddress", "name: "+name+"\naddress")
		s.answers(version)
		s.says("/listeners", name+"::", true)
	}
	stop()
}

// TestConfigurationWhileDraining: a listener that comes when no connection is taken
// any more is no fault of the server's.
func TestConfigurationWhileDraining(t *testing.T) {
	t.Parallel()
	m := newManagers(t)
	m.set("1", "/never")
	m.start()
	s := m.sidecar(xds.VariantDelta, "none")
	s.answers("1")
	resp, err := http.Post("http://"+s.admin+"/drain_listeners", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	s.says("/ready", "DRAINING", true)
	m.set("2", "/never", "name: web\naddress", "name: other\naddress")
	s.says("/config_dump?resource=dynamic_active_clusters", "app-2", true)
	s.says("/xds/status", `"other"`, true)
	s.says("/xds/status", "server closed", false)
	select {
	case why := <-m.nacks:
		t.Errorf("the server is told %v", why)
	default:
	}
}

// TestRestartWithoutServer: a sidecar that starts while no management server is
// there serves what it had, says so, and follows the server when that is back.
func TestRestartWithoutServer(t *testing.T) {
	t.Parallel()
	for _, how := range []struct {
		name, variant string
		start         func(m *managers, variant, state string) *served
	}{{"stopped", xds.VariantSotw, (*managers).sidecar}, {"killed", xds.VariantDelta, (*managers).process}} {
		t.Run(how.name, func(t *testing.T) {
			t.Parallel()
			m, state := newManagers(t), t.TempDir()
			m.set("1", "/never")
			m.start()
			s := how.start(m, how.variant, state)
			s.answers("1")
			if how.name == "killed" { // what is not written yet is lost then
				eventually(t, "the configuration is stored", func() bool {
					_, err := os.Stat(filepath.Join(state, "last-good.xds"))
					return err == nil
				})
			}
			m.stop()
			s.stop()

			begin := time.Now()
			s = how.start(m, how.variant, state)
			s.answers("1")
			t.Logf("first answer %v after the start", time.Since(begin).Round(time.Millisecond))
			s.says("/ready", "LIVE\nstale config, age ", true)
			s.says("/stats/prometheus", "quadnine_xds_connected 0", true)
			says(t, exitOK, "stale: CDS, EDS, LDS, RDS come from disk", "xds", "status", "--admin", s.admin)
			stop := s.watch()
			m.set("2", "/never")
			m.start()
			s.answers("2")
			stop()
			s.says("/ready", "stale", false)
			s.says("/ready", "LIVE", true)
		})
	}
}

// TestServerAbsentAtStart: nothing is served, and that is said, until it comes.
func TestServerAbsentAtStart(t *testing.T) {
	t.Parallel()
	m := newManagers(t)
	s := m.sidecar(xds.VariantDelta, t.TempDir())
	s.says("/ready", "PRE_INITIALIZING\nwaits for CDS of the management server", true)
	s.says("/xds/status", "connection refused", true)
	m.set("1", "/never")
	m.start()
	s.answers("1")
	s.says("/ready", "LIVE", true)
}

// TestServerGoesBad: whatever stands where the management server was, the last
// good configuration serves, and the trouble is told.
func TestServerGoesBad(t *testing.T) {
	t.Parallel()
	accept := func(f func(net.Conn)) func(net.Listener) {
		return func(ln net.Listener) {
			for {
				nc, err := ln.Accept()
				if err != nil {
					return
				}
				f(nc)
				_ = nc.Close()
			}
		}
	}
	for _, tc := range []struct {
		name, variant string
		f             func(m *managers)
		told          string // in /xds/status
	}{
		{"absent", xds.VariantDelta, func(*managers) {}, "connection refused"},
		{"flapping", xds.VariantSotw, func(m *managers) { m.serve(accept(func(net.Conn) {}), func() {}) }, "Unavailable"},
		{"HTTP/1", xds.VariantDelta, func(m *managers) {
			h := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Minute}
			m.serve(func(ln net.Listener) { _ = h.Serve(ln) }, func() { _ = h.Close() })
		}, "Unavailable"},
		{"garbage", xds.VariantSotw, func(m *managers) {
			m.serve(accept(func(nc net.Conn) { _, _ = nc.Write(bytes.Repeat([]byte{0, 0, 9, 0xff}, 4096)) }), func() {})
		}, "Unavailable"},
		{"100 MB", xds.VariantDelta, func(m *managers) {
			g := grpc.NewServer()
			discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, huge{})
			m.serve(func(ln net.Listener) { _ = g.Serve(ln) }, g.Stop)
		}, "larger than the limit of"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m := newManagers(t)
			m.set("1", "/never")
			m.start()
			s := m.sidecar(tc.variant, t.TempDir())
			s.answers("1")
			stop := s.watch()
			m.stop()
			tc.f(m)
			s.says("/xds/status", tc.told, true)
			s.says("/ready", "LIVE", true)
			m.stop()
			m.set("2", "/never")
			m.start()
			s.answers("2")
			stop()
		})
	}
}

// huge is a management server whose first response is of 100 MB.
type huge struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
}

func hugeBody() *anypb.Any {
	const url = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	return &anypb.Any{TypeUrl: url, Value: make([]byte, 100<<20)}
}

func (huge) StreamAggregatedResources(s discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	b := hugeBody()
	return s.Send(&discoveryv3.DiscoveryResponse{TypeUrl: b.GetTypeUrl(), Nonce: "n", Resources: []*anypb.Any{b}})
}

func (huge) DeltaAggregatedResources(s discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	b := hugeBody()
	return s.Send(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: b.GetTypeUrl(), Nonce: "n", Resources: []*discoveryv3.Resource{{Name: "c", Resource: b}}})
}
