package control

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/quadnine/quadnine/xds/compile"
)

// rig is a server of a directory, and the way to it.
type rig struct {
	t      *testing.T
	dir    string
	server *Server
	conn   *grpc.ClientConn
}

const clusterURL = "type.googleapis.com/envoy.config.cluster.v3.Cluster"

func cluster(name, timeout string) string {
	return fmt.Sprintf("---\n\"@type\": %s\nname: %s\ntype: EDS\nconnect_timeout: %s\neds_cluster_config: {eds_config: {ads: {}}}\n", clusterURL, name, timeout) +
		fmt.Sprintf("---\n\"@type\": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment\ncluster_name: %s\nendpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 9090}}}}]}]\n", name)
}

func listener(name string, port int) string {
	return fmt.Sprintf(`---
"@type": type.googleapis.com/envoy.config.listener.v3.Listener
name: %s
address: {socket_address: {address: 127.0.0.1, port_value: %d}}
filter_chains:
- filters:
  - name: envoy.filters.network.http_connection_manager
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: in
      rds: {route_config_name: routes, config_source: {ads: {}}}
      http_filters:
      - name: envoy.filters.http.router
        typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
`, name, port)
}

func routes(to string) string {
	return fmt.Sprintf(`---
"@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
name: routes
virtual_hosts:
- name: all
  domains: ["*"]
  routes:
  - match: {prefix: /}
    route: {cluster: %s}
`, to)
}

// newRig serves files: pairs of name and content.
func newRig(t *testing.T, files ...string) *rig {
	t.Helper()
	dir := t.TempDir()
	(&rig{t: t, dir: dir}).write(files...)
	return newRigAt(t, dir)
}

func newRigAt(t *testing.T, dir string) *rig {
	t.Helper()
	r := &rig{t: t, dir: dir}
	var err error
	if r.server, err = Open(Options{Dir: r.dir, Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	l := bufconn.Listen(1 << 20)
	g := grpc.NewServer()
	ctx, cancel := context.WithCancel(t.Context())
	r.server.Register(ctx, g)
	done := make(chan error, 1)
	go func() { done <- g.Serve(l) }()
	t.Cleanup(func() {
		cancel()
		g.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	r.conn, err = grpc.NewClient("passthrough:rig", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.conn.Close() })
	return r
}

func (r *rig) write(files ...string) {
	r.t.Helper()
	for i := 0; i < len(files); i += 2 {
		path := filepath.Join(r.dir, files[i])
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			r.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(files[i+1]), 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
}

// change writes files and serves them.
func (r *rig) change(files ...string) {
	r.t.Helper()
	r.write(files...)
	if err := r.server.Reload(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// client is a node: it asks for clusters and listeners, and for what they name,
// and answers each response at once.
type client struct {
	t      *testing.T
	delta  bool
	id     string
	reject func(k Kind, name string) string // why; "" takes it
	stop   func()
	done   chan struct{}
	sotw   discovery.AggregatedDiscoveryService_StreamAggregatedResourcesClient
	incr   discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesClient

	mu    sync.Mutex
	log   []string                 // "CDS a b" of each response, "NACK CDS", in order
	has   [kinds]map[string]string // versions, or bytes, by name
	names [kinds][]string
	nonce [kinds]string
	last  [kinds]string // accepted version
	moved chan struct{}
}

func (r *rig) connect(id string, delta bool, reject func(k Kind, name string) string) *client {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	c := &client{t: r.t, delta: delta, id: id, reject: reject, done: make(chan struct{}), moved: make(chan struct{})}
	c.stop = func() { cancel(); <-c.done }
	for k := range c.has {
		c.has[k] = make(map[string]string)
	}
	ads := discovery.NewAggregatedDiscoveryServiceClient(r.conn)
	var err error
	if delta {
		c.incr, err = ads.DeltaAggregatedResources(ctx)
	} else {
		c.sotw, err = ads.StreamAggregatedResources(ctx)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(c.stop)
	node := &core.Node{Id: id, Cluster: strings.TrimRight(id, "0123456789"), UserAgentName: "test"}
	for _, k := range []Kind{Clusters, Listeners} {
		if delta {
			err = c.incr.Send(&discovery.DeltaDiscoveryRequest{Node: node, TypeUrl: k.TypeURL()})
		} else {
			err = c.sotw.Send(&discovery.DiscoveryRequest{Node: node, TypeUrl: k.TypeURL()})
		}
		if err != nil {
			r.t.Fatal(err)
		}
		node = nil
	}
	go c.run()
	return c
}

func (c *client) run() {
	defer close(c.done)
	for {
		if c.delta {
			resp, err := c.incr.Recv()
			if err != nil {
				return
			}
			c.takeDelta(resp)
		} else {
			resp, err := c.sotw.Recv()
			if err != nil {
				return
			}
			c.takeSotw(resp)
		}
		c.mu.Lock()
		close(c.moved)
		c.moved = make(chan struct{})
		c.mu.Unlock()
	}
}

func (c *client) note(k Kind, names, removed []string, why string) {
	slices.Sort(names)
	words := append([]string{k.String()}, names...)
	for _, n := range removed {
		words = append(words, "-"+n)
	}
	line := strings.Join(words, " ")
	if why != "" {
		line = "NACK " + line
	}
	c.log = append(c.log, line)
}

func (c *client) takeDelta(resp *discovery.DeltaDiscoveryResponse) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, _ := KindOf(resp.GetTypeUrl())
	var names []string
	var why strings.Builder
	for _, r := range resp.GetResources() {
		names = append(names, r.GetName())
		if w := c.why(k, r.GetName(), string(r.GetResource().GetValue())); w != "" {
			why.WriteString(w)
			continue
		}
		c.has[k][r.GetName()] = string(r.GetResource().GetValue())
	}
	for _, n := range resp.GetRemovedResources() {
		delete(c.has[k], n)
	}
	c.note(k, names, resp.GetRemovedResources(), why.String())
	ack := &discovery.DeltaDiscoveryRequest{TypeUrl: resp.GetTypeUrl(), ResponseNonce: resp.GetNonce()}
	if why.String() != "" {
		ack.ErrorDetail = &rpc.Status{Code: 3, Message: why.String()}
	}
	_ = c.incr.Send(ack)
	if want := c.wanted(k); want.kind != 0 {
		more := &discovery.DeltaDiscoveryRequest{TypeUrl: want.kind.TypeURL()}
		for _, n := range want.names {
			if !slices.Contains(c.names[want.kind], n) {
				more.ResourceNamesSubscribe = append(more.ResourceNamesSubscribe, n)
			}
		}
		c.names[want.kind] = want.names
		if more.GetResourceNamesSubscribe() != nil {
			_ = c.incr.Send(more)
		}
	}
}

func (c *client) why(k Kind, name, body string) string {
	if c.reject == nil {
		return ""
	}
	if w := c.reject(k, name+" "+body); w != "" {
		return fmt.Sprintf("%s %q: %s", k.What(), name, w)
	}
	return ""
}

// secretive is the id of a client that asks for the secret "own".
const secretive = "secretive"

type wanted struct {
	kind  Kind
	names []string
}

// wanted returns what a response of k makes the client ask for.
func (c *client) wanted(k Kind) wanted {
	switch k {
	case Clusters:
		return wanted{Endpoints, sortedKeys(c.has[k])}
	case Listeners:
		if len(c.has[k]) > 0 {
			return wanted{Routes, []string{"routes"}}
		}
	case Routes:
		if c.id == secretive {
			return wanted{Secrets, []string{"own"}}
		}
	}
	return wanted{}
}

func (c *client) takeSotw(resp *discovery.DiscoveryResponse) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, _ := KindOf(resp.GetTypeUrl())
	var names []string
	var why strings.Builder
	there := make(map[string]bool)
	for _, r := range resp.GetResources() {
		n := compile.NameIn(r.GetValue())
		names, there[n] = append(names, n), true
		if w := c.why(k, n, string(r.GetValue())); w != "" {
			why.WriteString(w)
			continue
		}
		c.has[k][n] = string(r.GetValue())
	}
	if k.whole() {
		for n := range c.has[k] {
			if !there[n] {
				delete(c.has[k], n)
			}
		}
	}
	c.note(k, names, nil, why.String())
	c.nonce[k] = resp.GetNonce()
	ack := &discovery.DiscoveryRequest{TypeUrl: resp.GetTypeUrl(), ResponseNonce: resp.GetNonce(), ResourceNames: c.names[k]}
	if why.String() == "" {
		c.last[k] = resp.GetVersionInfo()
	} else {
		ack.ErrorDetail = &rpc.Status{Code: 3, Message: why.String()}
	}
	ack.VersionInfo = c.last[k]
	_ = c.sotw.Send(ack)
	if want := c.wanted(k); want.kind != 0 && !slices.Equal(want.names, c.names[want.kind]) {
		c.names[want.kind] = want.names
		_ = c.sotw.Send(&discovery.DiscoveryRequest{TypeUrl: want.kind.TypeURL(), ResourceNames: want.names, VersionInfo: c.last[want.kind], ResponseNonce: c.nonce[want.kind]})
	}
}

// until waits for a condition on what the client has.
func (c *client) until(what string, ok func() bool) {
	c.t.Helper()
	timeout := time.After(5 * time.Second)
	for {
		c.mu.Lock()
		good, moved := ok(), c.moved
		c.mu.Unlock()
		if good {
			return
		}
		select {
		case <-moved:
		case <-timeout:
			c.t.Fatalf("%s (%s): never %s; responses:\n%s", c.id, streamID{delta: c.delta}.variant(), what, strings.Join(c.said(), "\n"))
		}
	}
}

// holds waits until a resource's bytes hold text.
func (c *client) holds(k Kind, name, text string) {
	c.t.Helper()
	c.until(fmt.Sprintf("%s %s has %q", k, name, text), func() bool { return strings.Contains(c.has[k][name], text) })
}

// said returns the lines of the log so far.
func (c *client) said() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.log)
}

func (c *client) count(prefix string) (n int) {
	for _, l := range c.said() {
		if strings.HasPrefix(l, prefix) {
			n++
		}
	}
	return n
}

// idle waits until the server waits for nothing from any node.
func (r *rig) idle() {
	r.t.Helper()
	deadline := time.After(5 * time.Second)
	for {
		r.server.mu.Lock()
		done, wake := r.server.settled(Kinds()), r.server.wake
		r.server.mu.Unlock()
		if done {
			return
		}
		select {
		case <-wake:
		case <-deadline:
			r.t.Fatal("the server still waits for answers")
		}
	}
}

func bothVariants(t *testing.T, f func(t *testing.T, delta bool)) {
	t.Helper()
	for name, delta := range map[string]bool{"sotw": false, "delta": true} {
		t.Run(name, func(t *testing.T) { f(t, delta) })
	}
}
