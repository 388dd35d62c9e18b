package proxy

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/proxy/upstream"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// newManaged starts a sidecar without configuration, as one that waits for its
// management server.
func newManaged(t *testing.T, change ...func(*Options)) *rig {
	t.Helper()
	r := &rig{t: t, net: testkit.NewNet(), reg: telemetry.NewRegistry()}
	o := Options{
		Snapshot: new(snapshot.Snapshot), Registry: r.reg, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Dial: r.net.Dial,
		ListenOn: func(l *snapshot.Listener) (net.Listener, error) { return r.net.Listen(l.Address), nil },
	}
	for _, f := range change {
		f(&o)
	}
	var err error
	if r.server, err = New(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.server.Close)
	r.client = r.newClient(testkit.H2)
	return r
}

// listener takes requests at address and sends all of them to the cluster.
func listener(name, address, cluster string) *snapshot.Listener {
	l := &snapshot.Listener{Name: name, Address: address, HTTP: snapshot.HTTP{DrainTimeout: 5 * time.Second, IdleTimeout: time.Hour}}
	l.Inline = &snapshot.RouteTable{Name: name, Clusters: []string{cluster}, Hosts: []*snapshot.VirtualHost{{
		Name: name, Domains: []string{"*"},
		Routes: []*snapshot.Route{{Name: cluster, Forward: &snapshot.Forward{Cluster: cluster, NotFoundStatus: 503, Timeout: 15 * time.Second}}},
	}}}
	if err := l.Inline.Finish(nil); err != nil {
		panic(err)
	}
	return l
}

// cluster is one of a management server's.
func cluster(name string, addresses ...string) *snapshot.Cluster {
	c := &snapshot.Cluster{
		ClusterSettings: &snapshot.ClusterSettings{
			Name: name, Protocol: snapshot.H2C, ConnectTimeout: time.Second, IdleTimeout: time.Hour,
			Balance:    snapshot.Balance{Policy: snapshot.RoundRobin, Panic: 50},
			Thresholds: [2]snapshot.Thresholds{snapshot.DefaultThresholds, snapshot.DefaultThresholds},
		},
		Assignment: &snapshot.Assignment{Overprovisioning: 140, Localities: []snapshot.Locality{{}}},
	}
	for _, a := range addresses {
		c.Assignment.Endpoints = append(c.Assignment.Endpoints, snapshot.Endpoint{Address: a, Weight: 1})
	}
	return c
}

func snapshotOf(listeners []*snapshot.Listener, clusters ...*snapshot.Cluster) *snapshot.Snapshot {
	s := &snapshot.Snapshot{Listeners: listeners, Clusters: make(map[string]*snapshot.Cluster)}
	for _, c := range clusters {
		s.Clusters[c.Name] = c
	}
	return s
}

// apply opens and applies.
func (r *rig) apply(s *snapshot.Snapshot) {
	r.t.Helper()
	for _, l := range s.Listeners {
		if err := r.server.Listen(l); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := r.server.Apply(s); err != nil {
		r.t.Fatal(err)
	}
}

// named answers with its name.
func named(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) }
}

// slow answers with its name when it is told to.
func slow(name string, release <-chan struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		select {
		case <-release:
			_, _ = io.WriteString(w, name)
		case <-req.Context().Done():
		}
	}
}

func TestFromNothingToAListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newManaged(t)
		r.app("a:80", named("a"))
		r.apply(snapshotOf([]*snapshot.Listener{listener("in", "sidecar:80", "a")}, cluster("a", "a:80")))
		r.get("/").want(t, 200, "a")
		if n := len(r.server.Addrs("in")); n != 1 {
			t.Errorf("%d addresses", n)
		}
		r.apply(new(snapshot.Snapshot))
		synctest.Wait()
		if _, err := r.net.Dial(t.Context(), "sidecar:80"); err == nil {
			t.Error("the address is still open")
		}
	})
}

// TestSwapUnderLoad: the cluster, its endpoints and the route change in one
// snapshot, again and again, and no request notices.
func TestSwapUnderLoad(t *testing.T) {
	for _, p := range []testkit.Protocol{testkit.H2, testkit.H1} {
		t.Run(string(p), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const swaps, callers = 57, 8
				r := newManaged(t, func(o *Options) { o.Shards = 2 })
				r.client = r.newClient(p)
				for i := range 4 {
					r.app(fmt.Sprintf("app%d:80", i), func(w http.ResponseWriter, req *http.Request) {
						time.Sleep(7 * time.Millisecond)
						_, _ = io.Copy(w, req.Body)
					})
				}
				at := func(i int) *snapshot.Snapshot {
					name := "c" + strconv.Itoa(i)
					return snapshotOf([]*snapshot.Listener{listener("in", "sidecar:80", name)}, cluster(name, fmt.Sprintf("app%d:80", i%4)))
				}
				r.apply(at(0))
				var stop atomic.Bool
				var sent, bad atomic.Int64
				var wg sync.WaitGroup
				for range callers {
					wg.Go(func() {
						for !stop.Load() {
							sent.Add(1)
							got, err := r.try(time.Minute, r.request(http.MethodPost, "/", strings.NewReader("body")))
							if err != nil || got.StatusCode != http.StatusOK || got.body != "body" {
								bad.Add(1)
								t.Logf("got %+v, error %v", got, err)
							}
						}
					})
				}
				for i := range swaps {
					time.Sleep(11 * time.Millisecond)
					r.apply(at(i + 1))
				}
				stop.Store(true)
				wg.Wait()
				if bad.Load() > 0 || sent.Load() < swaps*callers {
					t.Fatalf("%d of %d requests failed", bad.Load(), sent.Load())
				}
				time.Sleep(time.Minute)
				r.settled()
				for _, l := range r.server.loops {
					done := make(chan int)
					l.post(func() { done <- len(l.outcomes) })
					if n := <-done; n > 1 {
						t.Errorf("%d clusters are remembered", n)
					}
				}
			})
		})
	}
}

// TestRemovedListenerDrains: what has begun is finished, the caller is asked to
// go, and after the drain time-out the connection is closed.
func TestRemovedListenerDrains(t *testing.T) {
	t.Run("h2", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newManaged(t)
			release := make(chan struct{})
			r.app("a:80", slow("a", release))
			r.apply(snapshotOf([]*snapshot.Listener{listener("in", "sidecar:80", "a")}, cluster("a", "a:80")))
			w := r.caller()
			w.ask(1, true, "GET", "/")
			synctest.Wait()
			begin := time.Now()
			r.apply(new(snapshot.Snapshot))
			w.until("GOAWAY 2147483647 NO_ERROR")
			w.ask(3, true, "GET", "/") // was on its way
			w.until("GOAWAY 3 NO_ERROR")
			if d := time.Since(begin); d != 5*time.Second {
				t.Errorf("the last GOAWAY came after %v", d)
			}
			close(release)
			served := 0
			for line := range w.frames { // until it is closed
				if strings.HasPrefix(line, "HEADERS ") && strings.Contains(line, ":status=200") {
					served++
				}
			}
			if served != 2 {
				t.Errorf("%d of 2 requests were served", served)
			}
			r.settled()
		})
	})
	t.Run("h1", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newManaged(t)
			r.app("a:80", named("a"))
			r.apply(snapshotOf([]*snapshot.Listener{listener("in", "sidecar:80", "a")}, cluster("a", "a:80")))
			var conns []net.Conn
			for range 2 {
				nc, err := r.net.Dial(t.Context(), "sidecar:80")
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.WriteString(nc, "GET / HTTP/1.1\r\nhost: a\r\n\r\n")
				_ = readUntil(t, nc, "a")
				conns = append(conns, nc)
			}
			begin := time.Now()
			r.apply(new(snapshot.Snapshot))
			synctest.Wait()
			// A request that was on its way is served, and told to be the last.
			_, _ = io.WriteString(conns[0], "GET / HTTP/1.1\r\nhost: a\r\n\r\n")
			b, _ := io.ReadAll(conns[0])
			if got := string(b); !strings.HasPrefix(got, "HTTP/1.1 200") || !strings.Contains(got, "connection: close") {
				t.Errorf("got %q", got)
			}
			_, _ = io.ReadAll(conns[1])
			if d := time.Since(begin); d != 5*time.Second {
				t.Errorf("an idle connection was closed after %v", d)
			}
			for _, nc := range conns {
				_ = nc.Close()
			}
		})
	})
}

// readUntil reads until what came ends with suffix.
func readUntil(t *testing.T, nc net.Conn, suffix string) string {
	t.Helper()
	var got []byte
	for !strings.HasSuffix(string(got), "\r\n\r\n"+suffix) {
		buf := make([]byte, 512)
		n, err := nc.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil {
			t.Fatalf("got %q, then %v", got, err)
		}
	}
	return string(got)
}

// TestChangedAddress: the new one is open before the old one closes, and a
// connection to the old one still has its requests served.
func TestChangedAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newManaged(t)
		r.app("a:80", named("a"))
		r.apply(snapshotOf([]*snapshot.Listener{listener("in", "sidecar:80", "a")}, cluster("a", "a:80")))
		old := r.caller()
		old.ask(1, true, "GET", "/")
		old.until("HEADERS 1 end=false :status=200")
		moved := listener("in", "sidecar:81", "a")
		if err := r.server.Listen(moved); err != nil {
			t.Fatal(err)
		}
		early := make(chan error, 1)
		go func() { // it is open, and waits to be served
			nc, err := r.net.Dial(t.Context(), "sidecar:81")
			if err == nil {
				err = nc.Close()
			}
			early <- err
		}()
		synctest.Wait()
		old.ask(3, true, "GET", "/")
		old.until("HEADERS 3 end=false :status=200")
		r.apply(snapshotOf([]*snapshot.Listener{moved}, cluster("a", "a:80")))
		if err := <-early; err != nil {
			t.Error(err)
		}
		old.until("GOAWAY 2147483647 NO_ERROR")
		old.ask(5, true, "GET", "/")
		old.until("HEADERS 5 end=false :status=200")
		req := r.request(http.MethodGet, "/", nil)
		req.URL.Host = "sidecar:81"
		r.do(req).want(t, 200, "a")
		if _, err := r.net.Dial(t.Context(), "sidecar:80"); err == nil {
			t.Error("the old address is still open")
		}
	})
}

// TestRenamedListenerKeepsItsAddress open throughout.
func TestRenamedListenerKeepsItsAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newManaged(t)
		r.app("a:80", named("a"))
		r.app("b:80", named("b"))
		r.apply(snapshotOf([]*snapshot.Listener{listener("one", "sidecar:80", "a")}, cluster("a", "a:80")))
		r.get("/").want(t, 200, "a")
		r.apply(snapshotOf([]*snapshot.Listener{listener("two", "sidecar:80", "b")}, cluster("b", "b:80")))
		r.client = r.newClient(testkit.H2)
		r.get("/").want(t, 200, "b")
		r.apply(new(snapshot.Snapshot))
		synctest.Wait()
		if _, err := r.net.Dial(t.Context(), "sidecar:80"); err == nil {
			t.Error("the address is still open")
		}
	})
}

// TestRefusedSnapshotChangesNothing.
func TestRefusedSnapshotChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newManaged(t)
		r.app("a:80", named("a"))
		good := snapshotOf([]*snapshot.Listener{listener("in", "sidecar:80", "a")}, cluster("a", "a:80"))
		r.apply(good)
		for part, bad := range map[string][]*snapshot.Listener{
			"same address": {listener("in", "sidecar:80", "a"), listener("other", "sidecar:80", "a")},
			"are called":   {listener("in", "sidecar:80", "a"), listener("in", "sidecar:81", "a")},
			"breakers of bad": {func() *snapshot.Listener {
				l := listener("in", "sidecar:80", "a")
				l.Breaker = &snapshot.Breaker{Scope: "bad"}
				return l
			}()},
		} {
			if err := r.server.Apply(snapshotOf(bad, cluster("b", "b:80"))); err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("error %v, want one with %q", err, part)
			}
			if r.server.Config() != good {
				t.Fatal("another snapshot is in force")
			}
			r.get("/").want(t, 200, "a")
		}
	})
}

// TestUses: a removed cluster may go when nothing runs on it.
func TestUses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newManaged(t)
		release := make(chan struct{})
		r.app("a:80", slow("a", release))
		in := []*snapshot.Listener{listener("in", "sidecar:80", "a")}
		a := cluster("a", "a:80")
		r.apply(snapshotOf(in, a))
		if r.server.Uses("a") || r.server.Uses("unknown") {
			t.Error("in use before the first request")
		}
		done := make(chan reply, 1)
		go func() { done <- r.get("/") }()
		synctest.Wait()
		retained := *a
		retained.Retained = true
		r.apply(snapshotOf(in, &retained))
		empty := retained
		empty.Assignment = new(snapshot.Assignment)
		r.apply(snapshotOf(in, &empty)) // also when its endpoint is gone
		if !r.server.Uses("a") {
			t.Error("not in use with a request on it")
		}
		close(release)
		(<-done).want(t, 200, "a")
		if r.server.Uses("a") {
			t.Error("in use after the last request")
		}
	})
}

// TestColdClusterAnswersAtOnce, and serves once its endpoints are known.
func TestColdClusterAnswersAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newManaged(t)
		r.app("a:80", named("a"))
		in := []*snapshot.Listener{listener("in", "sidecar:80", "a")}
		cold := cluster("a", "a:80")
		warm := *cold
		cold.Assignment = nil
		r.apply(snapshotOf(in, cold))
		begin := time.Now()
		r.get("/").want(t, 503, "")
		if d := time.Since(begin); d > 0 {
			t.Errorf("answered after %v", d)
		}
		r.apply(snapshotOf(in, &warm))
		r.get("/").want(t, 200, "a")
	})
}

// TestThresholdsOnTheWire: what is over them is told to be, at once.
func TestThresholdsOnTheWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newManaged(t, func(o *Options) { o.Shards = 2 })
		release := make(chan struct{})
		r.app("a:80", slow("a", release))
		c := cluster("a", "a:80")
		c.Thresholds[snapshot.PriorityDefault].MaxRequests = 2
		in := listener("in", "sidecar:80", "a")
		in.HTTP.Envoy = true
		r.apply(snapshotOf([]*snapshot.Listener{in}, c))
		var conns []*wire
		for range 2 { // one on each shard
			w := r.caller()
			w.ask(1, true, "GET", "/")
			synctest.Wait()
			conns = append(conns, w)
		}
		got := r.get("/").want(t, 503, "")
		got.header(t, "x-envoy-overloaded", "true")
		if u := r.server.Clusters()[0].Usage(snapshot.PriorityDefault); u.Requests != 2 || u.RequestOverflows != 1 {
			t.Errorf("usage %+v", u)
		}
		close(release)
		for _, w := range conns {
			w.until("HEADERS 1 end=false :status=200")
		}
		r.settled()
	})
}

// TestRefusedApplyChangesNothing: what comes before the fault is not in force
// either.
func TestRefusedApplyChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newManaged(t)
		with := func(threshold int, c policy.CacheConfig) *snapshot.Snapshot {
			cfg := policy.DefaultBreakerConfig()
			cfg.FailureThreshold = threshold
			l := listener("in", "sidecar:80", "a")
			l.Breaker = &snapshot.Breaker{Scope: "listener/in", Config: cfg}
			bad := listener("other", "other:80", "a")
			bad.Cache = &snapshot.Cache{Scope: "listener/other", Config: c}
			return snapshotOf([]*snapshot.Listener{l, bad}, cluster("a", "a:80"))
		}
		r.apply(with(5, policy.DefaultCacheConfig()))
		if err := r.server.Apply(with(9, policy.CacheConfig{MaxBytes: -1})); err == nil {
			t.Fatal("a cache of no size is taken")
		}
		if e := r.server.Explain(quadnine.Key{Tenant: "t", Metric: "m"}); e.Threshold.FailureThreshold != 5 {
			t.Errorf("%d failures open a breaker, want 5 as before", e.Threshold.FailureThreshold)
		}
		r.apply(with(9, policy.DefaultCacheConfig()))
		if e := r.server.Explain(quadnine.Key{Tenant: "t", Metric: "m"}); e.Threshold.FailureThreshold != 9 {
			t.Errorf("%d failures open a breaker, want 9", e.Threshold.FailureThreshold)
		}
	})
}

func TestAddressInUse(t *testing.T) {
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	s, err := New(Options{Snapshot: new(snapshot.Snapshot), Registry: telemetry.NewRegistry(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = s.Listen(listener("in", ln.Addr().String(), "a"))
	if want := "cannot bind " + ln.Addr().String() + ": address already in use"; !errors.Is(err, syscall.EADDRINUSE) || err.Error() != want {
		t.Fatalf("error %v, want %s", err, want)
	}
	if err := s.Serve(ln); !errors.Is(err, errNoListener) {
		t.Fatalf("error %v, want %v", err, errNoListener)
	}
}

// TestViewsOfAManagedConfiguration has what admin pages show.
func TestViewsOfAManagedConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newManaged(t)
		r.app("a:80", func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path == "/bad" {
				w.WriteHeader(http.StatusInternalServerError)
			}
		})
		c := cluster("a", "a:80", "b:80")
		c.Assignment.Localities = []snapshot.Locality{{Region: "r", Zone: "z", SubZone: "s"}}
		c.Assignment.Endpoints[0].Hostname, c.Assignment.Endpoints[0].Weight = "a.example", 5
		c.Assignment.Endpoints[1].Health = snapshot.Unhealthy
		c.Assignment.Endpoints[0].Health = snapshot.Degraded
		r.apply(snapshotOf([]*snapshot.Listener{listener("in", "sidecar:80", "a")}, c))
		for _, path := range []string{"/", "/", "/bad"} {
			r.get(path)
		}
		if a := r.server.Addrs("in"); len(a) != 1 || a[0].String() != "sidecar:80" {
			t.Errorf("addresses %v", a)
		}
		es := r.server.Clusters()[0].Endpoints()
		want := upstream.Info{Hostname: "a.example", Weight: 5, Health: snapshot.Degraded, Region: "r", Zone: "z", SubZone: "s"}
		if got := es[0].Info(); got != want || es[0].Hostname() != "a.example" {
			t.Errorf("info %+v, want %+v", got, want)
		}
		counts := upstream.Counts{Connects: 1, Requests: 3, Successes: 2, Errors: 1}
		if got := es[0].Counts(); got != counts {
			t.Errorf("counts %+v, want %+v", got, counts)
		}
		for i, want := range []string{"/degraded_eds_health", "/failed_eds_health"} {
			if got := es[i].HealthFlags(r.server.Now()); got != want {
				t.Errorf("health flags %q, want %q", got, want)
			}
		}
	})
}

// TestEndpointGaugesAreBounded: 10,000 endpoints make no 10,000 time series.
func TestEndpointGaugesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newManaged(t)
		addresses := make([]string, 10_000)
		for i := range addresses {
			addresses[i] = fmt.Sprintf("10.0.%d.%d:80", i/250, i%250)
		}
		r.apply(snapshotOf(nil, cluster("a", addresses...)))
		w := httptest.NewRecorder()
		r.reg.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		if n := strings.Count(w.Body.String(), `endpoint="10.0.`); n != 2*maxEndpointSamples {
			t.Errorf("%d time series of endpoints, want %d of each kind", n, maxEndpointSamples)
		}
	})
}
