package xds

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/log"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
)

// manager is go-control-plane in this process: what most management servers are
// made of.
type manager struct {
	t     testing.TB
	cache cache.Cache
	set   func(resources [kinds][]proto.Message)
	sets  int
	extra []grpc.ServerOption

	mu       sync.Mutex
	service  func(*grpc.Server) // in the place of go-control-plane, if set
	server   *grpc.Server
	cancel   context.CancelFunc
	listener *bufconn.Listener // nil while it is down
	streams  []string          // variants, as opened
	open     int
	most     int      // streams open at once
	acks     int      // requests with a nonce and without an error
	nacks    []string // texts
	sent     int      // responses
}

// snapshots keeps one snapshot a node; with ads it holds back what is not named.
func snapshots(t testing.TB, ads bool) *manager {
	t.Helper()
	c := cache.NewSnapshotCache(ads, cache.IDHash{}, log.NewDefaultLogger())
	m := &manager{t: t, cache: c}
	m.set = func(resources [kinds][]proto.Message) {
		m.sets++
		all := make(map[string][]types.Resource)
		for k, list := range resources {
			for _, r := range list {
				all[Kind(k).TypeURL()] = append(all[Kind(k).TypeURL()], r)
			}
		}
		s, err := cache.NewSnapshot(fmt.Sprint("v", m.sets), all)
		if err == nil {
			err = c.SetSnapshot(context.Background(), "node", s)
		}
		if err != nil {
			t.Error(err)
		}
	}
	return m
}

// linear keeps one collection a type.
func linear(t testing.TB) *manager {
	t.Helper()
	caches := make(map[string]cache.Cache)
	var byKind [kinds]*cache.LinearCache
	for _, k := range Kinds() {
		byKind[k] = cache.NewLinearCache(k.TypeURL())
		caches[k.TypeURL()] = byKind[k]
	}
	m := &manager{t: t, cache: &cache.MuxCache{
		Classify:      func(r *cache.Request) string { return r.GetTypeUrl() },
		ClassifyDelta: func(r *cache.DeltaRequest) string { return r.GetTypeUrl() },
		Caches:        caches,
	}}
	m.set = func(resources [kinds][]proto.Message) {
		for k, list := range resources {
			all := make(map[string]types.Resource)
			for _, r := range list {
				all[cache.GetResourceName(r)] = r
			}
			byKind[k].SetResources(all)
		}
	}
	return m
}

// start serves until the end of the test, or stop.
func (m *manager) start() {
	ctx, cancel := context.WithCancel(context.Background())
	server := grpc.NewServer(m.extra...)
	if m.service != nil {
		m.service(server)
	} else {
		discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, serverv3.NewServer(ctx, m.cache, m.callbacks()))
	}
	l := bufconn.Listen(1 << 20)
	m.mu.Lock()
	m.server, m.listener, m.cancel = server, l, cancel
	m.mu.Unlock()
	go func() { _ = server.Serve(l) }()
}

func (m *manager) stop() {
	m.mu.Lock()
	server, cancel := m.server, m.cancel
	m.server, m.listener = nil, nil
	m.mu.Unlock()
	if server != nil {
		server.Stop()
		cancel()
	}
}

func (m *manager) dial(ctx context.Context) (net.Conn, error) {
	m.mu.Lock()
	l := m.listener
	m.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("connection refused")
	}
	return l.DialContext(ctx)
}

func (m *manager) callbacks() serverv3.CallbackFuncs {
	opened := func(variant string) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.streams = append(m.streams, variant)
		m.open++
		m.most = max(m.most, m.open)
		return nil
	}
	closed := func(int64, *corev3.Node) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.open--
	}
	asked := func(nonce, nack string) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		switch {
		case nack != "":
			m.nacks = append(m.nacks, nack)
		case nonce != "":
			m.acks++
		}
		return nil
	}
	sent := func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.sent++
	}
	return serverv3.CallbackFuncs{
		StreamOpenFunc:        func(context.Context, int64, string) error { return opened(VariantSotw) },
		DeltaStreamOpenFunc:   func(context.Context, int64, string) error { return opened(VariantDelta) },
		StreamClosedFunc:      closed,
		DeltaStreamClosedFunc: closed,
		StreamRequestFunc: func(_ int64, r *discoveryv3.DiscoveryRequest) error {
			return asked(r.GetResponseNonce(), r.GetErrorDetail().GetMessage())
		},
		StreamDeltaRequestFunc: func(_ int64, r *discoveryv3.DeltaDiscoveryRequest) error {
			return asked(r.GetResponseNonce(), r.GetErrorDetail().GetMessage())
		},
		StreamResponseFunc: func(context.Context, int64, *discoveryv3.DiscoveryRequest, *discoveryv3.DiscoveryResponse) {
			sent()
		},
		StreamDeltaResponseFunc: func(int64, *discoveryv3.DeltaDiscoveryRequest, *discoveryv3.DeltaDiscoveryResponse) { sent() },
	}
}

func serverCredentials(c *tls.Config) grpc.ServerOption { return grpc.Creds(credentials.NewTLS(c)) }

// run runs a client of the managers in a bubble of fake time, until the test ends.
func run(t *testing.T, o ClientOptions, managers ...*manager) *Client {
	t.Helper()
	for i := range managers {
		o.Servers = append(o.Servers, ServerConfig{Name: fmt.Sprint("m", i)})
	}
	o.Node = &corev3.Node{Id: "node", Cluster: "cluster"}
	o.Dial = func(ctx context.Context, s ServerConfig) (net.Conn, error) {
		return managers[s.Name[1]-'0'].dial(ctx)
	}
	c := NewClient(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		for _, m := range managers {
			m.stop()
		}
		synctest.Wait()
	})
	return c
}

// world is a configuration: clusters with their assignments, a listener a table.
func world(differs string, clusters, tables []string) (w [kinds][]proto.Message) {
	for _, name := range clusters {
		w[KindCluster] = append(w[KindCluster], cluster(name, differs))
		w[KindEndpoints] = append(w[KindEndpoints], assignment(name))
	}
	for _, name := range tables {
		w[KindListener] = append(w[KindListener], listener("l-"+name, name))
		w[KindRoutes] = append(w[KindRoutes], table(name))
	}
	return w
}

// holds checks what the sink has, by kind.
func (s *fakeSink) holds(t *testing.T, clusters, assignments, listeners, tables string) {
	t.Helper()
	for k, want := range []string{clusters, assignments, listeners, tables} {
		var got []string
		for name := range s.have[k] {
			got = append(got, name)
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("%v: %q, want %q", Kind(k), got, want)
		}
	}
}

func plain(t testing.TB) *manager { t.Helper(); return snapshots(t, false) }

func complete(t testing.TB) *manager { t.Helper(); return snapshots(t, true) }

// managed is a kind of manager by name.
var managed = map[string]func(t testing.TB) *manager{
	"snapshots":     plain,
	"snapshots-ads": complete,
	"linear":        linear,
}

func eachManager(t *testing.T, f func(t *testing.T, variant string, m *manager)) {
	t.Helper()
	for name, create := range managed {
		for _, variant := range []string{VariantSotw, VariantDelta} {
			t.Run(name+"/"+variant, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { f(t, variant, create(t)) })
			})
		}
	}
}

func TestRealServers(t *testing.T) {
	eachManager(t, func(t *testing.T, variant string, m *manager) {
		t.Helper()
		sink := newFakeSink()
		m.set(world("", []string{"a", "b"}, []string{"r"}))
		m.start()
		c := run(t, ClientOptions{Variant: variant, Sink: sink, SetNodeOnFirstOnly: true}, m)
		wait(time.Second)
		sink.holds(t, "a b", "a b", "l-r", "r")
		if m.acks < 4 || len(m.nacks) != 0 {
			t.Errorf("%d ACKs, NACKs %q", m.acks, m.nacks)
		}

		// A cluster and a table more, one of each less.
		m.set(world("", []string{"b", "c"}, []string{"s"}))
		wait(time.Second)
		if sink.have[KindEndpoints]["c"] == "" || sink.have[KindRoutes]["s"] == "" {
			t.Errorf("what was added is not there: %v", sink.have)
		}
		if _, ok := sink.have[KindCluster]["a"]; ok {
			t.Error("what was removed is there")
		}

		// One bad cluster among good ones: told once, and a second later if the
		// server insists.
		sink.change(func() { sink.reject["bad"] = Rejected{Path: "lb_policy", Reason: "no"} })
		m.set(world("x", []string{"bad", "c"}, []string{"s"}))
		wait(500 * time.Millisecond)
		if want := `Cluster "bad": lb_policy: no`; !slices.Equal(m.nacks, []string{want}) {
			t.Errorf("NACKs %q", m.nacks)
		}
		if st := c.Status(); len(st.Kinds) != 4 || st.Kinds[0].Nack == "" || !st.Connected || st.Variant != variant {
			t.Errorf("status %+v", st)
		}
		sink.change(func() { delete(sink.reject, "bad") })
		m.set(world("y", []string{"bad", "c"}, []string{"s"}))
		wait(2 * time.Second)
		if sink.have[KindCluster]["bad"] == "" || sink.have[KindEndpoints]["bad"] == "" {
			t.Errorf("what was mended is not there: %v", sink.have)
		}

		// The server goes and comes back, with something new.
		m.stop()
		wait(10 * time.Second)
		if c.Status().Connected || c.Status().Err == nil {
			t.Errorf("status without a server: %+v", c.Status())
		}
		m.set(world("z", []string{"d"}, []string{"s", "t"}))
		m.start()
		wait(10 * time.Second)
		if sink.have[KindEndpoints]["d"] == "" || sink.have[KindRoutes]["t"] == "" || len(sink.have[KindCluster]) != 1 {
			t.Errorf("after a restart: %v", sink.have)
		}
		if len(sink.missing) != 0 {
			t.Errorf("missing %q", sink.missing)
		}
		if m.most != 1 {
			t.Errorf("%d streams at once", m.most)
		}
		for _, v := range m.streams {
			if v != variant {
				t.Errorf("streams %q", m.streams)
			}
		}
	})
}

// TestNackStorm: a plain snapshot cache answers every NACK at once with the same.
func TestNackStorm(t *testing.T) {
	eachManager(t, func(t *testing.T, variant string, m *manager) {
		t.Helper()
		sink := newFakeSink()
		sink.reject["bad"] = Rejected{Reason: "no"}
		m.set(world("", []string{"a", "bad"}, []string{"r"}))
		m.start()
		run(t, ClientOptions{Variant: variant, Sink: sink}, m)
		const seconds = 20
		wait(seconds * time.Second)
		if n := len(m.nacks); n < 1 || n > seconds+1 {
			t.Errorf("%d NACKs in %d s", n, seconds)
		}
		if n := len(sink.updates); n > 8 {
			t.Errorf("%d updates: what is known to be bad was validated again", n)
		}
		t.Logf("%d NACKs, %d responses, %d updates in %d s", len(m.nacks), m.sent, len(sink.updates), seconds)
		// The rest goes on meanwhile, within the pace of the NACKs.
		before := m.sent
		for i := range 10 {
			m.set(world(strconv.Itoa(i), []string{"a", "bad", fmt.Sprint("c", i)}, []string{"r"}))
			wait(1500 * time.Millisecond)
			if sink.have[KindCluster][fmt.Sprint("c", i)] == "" {
				t.Fatalf("change %d did not arrive: %v", i, sink.have)
			}
		}
		if n := m.sent - before; n > 100 {
			t.Errorf("%d responses for 10 changes", n)
		}
	})
}

// TestNoLostSubscription changes what is wanted and what there is at the same
// time, in every interleaving that chance brings.
func TestNoLostSubscription(t *testing.T) {
	for name, create := range managed {
		if name == "snapshots-ads" {
			continue // it answers nothing while one name of the snapshot is not asked for
		}
		for _, variant := range []string{VariantSotw, VariantDelta} {
			t.Run(name+"/"+variant, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := create(t)
					sink := newFakeSink()
					m.start()
					c := run(t, ClientOptions{Variant: variant, Sink: sink}, m)
					for round := range 200 {
						var clusters []string
						for i := range 5 {
							clusters = append(clusters, fmt.Sprint("c", round+i))
						}
						m.set(world(strconv.Itoa(round), clusters, []string{fmt.Sprint("r", round%3)}))
						c.Resubscribe()
						if round%7 == 0 {
							wait(time.Duration(round) * time.Microsecond)
						}
						if round == 100 {
							m.stop()
							m.start()
						}
					}
					wait(time.Minute)
					for i := range 5 {
						if name := fmt.Sprint("c", 199+i); sink.have[KindEndpoints][name] == "" {
							t.Errorf("%s was never received", name)
						}
					}
					if sink.have[KindRoutes]["r1"] == "" {
						t.Errorf("the table was never received: %v", sink.have[KindRoutes])
					}
				})
			})
		}
	}
}
