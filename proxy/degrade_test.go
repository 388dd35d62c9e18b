package proxy

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

func keyOf(tenant, metric string) quadnine.Key { return quadnine.Key{Tenant: tenant, Metric: metric} }

// faulty is an upstream whose tenants can be switched to a fault.
type faulty struct {
	status atomic.Pointer[map[string]int] // by tenant; 0 and absent are well, -1 hangs, -2 breaks off
	served atomic.Int64
}

func (f *faulty) set(m map[string]int) { f.status.Store(&m) }

func (f *faulty) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	f.served.Add(1)
	body, _ := io.ReadAll(req.Body)
	tenant := req.URL.Query().Get("tenant")
	status := 0
	if m := f.status.Load(); m != nil {
		status = (*m)[tenant]
	}
	switch {
	case status == -1:
		<-req.Context().Done()
	case status == -2:
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, "part")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	case status != 0:
		http.Error(w, "broken", status)
	default:
		fmt.Fprintf(w, "%s %s %s %s", tenant, req.URL.Query().Get("metric"), req.Header.Get("Authorization"), body)
	}
}

func TestBreakerOpensAnswersStaleAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Degrade: []string{"/api"}})
		app := new(faulty)
		r.app("app:80", app.ServeHTTP)
		bad, good := query+"?tenant=bad&metric=pv", query+"?tenant=good&metric=pv"
		r.get(bad).want(t, 200, "bad pv").header(t, "Cache-Status", "quadnine; fwd=bypass")
		app.set(map[string]int{"bad": 500})
		time.Sleep(3 * time.Second)
		for range 4 { // more than 3 failures in the last minute
			r.get(bad).want(t, 200, "bad pv").header(t, "X-Quadnine-Degraded", "stale; reason=upstream-5xx; age=3")
			r.get(good).want(t, 200, "good pv").header(t, "X-Quadnine-Degraded", "")
		}
		if s := r.server.Explain(keyOf("bad", "pv")).Breaker.State; s != policy.StateOpen {
			t.Fatalf("after 4 failures the breaker is %v", s)
		}
		served := app.served.Load()
		r.get(bad).want(t, 200, "bad pv").header(t, "X-Quadnine-Degraded", "stale; reason=breaker-open; age=3").
			header(t, "Cache-Status", "quadnine; hit; ttl=57; detail=breaker-open").header(t, "Age", "3")
		cold := r.get(bad+"&from=1").want(t, 503, "breaker")
		if ra := cold.Header.Get("Retry-After"); ra != "30" {
			t.Fatalf("Retry-After %q, want 30", ra)
		}
		if app.served.Load() != served {
			t.Fatal("an open breaker let a request through")
		}
		app.set(nil)
		time.Sleep(30 * time.Second)
		r.get(bad).want(t, 200, "bad pv").header(t, "X-Quadnine-Degraded", "") // the probe
		if s := r.server.Explain(keyOf("bad", "pv")).Breaker.State; s != policy.StateClosed {
			t.Fatalf("after a good probe the breaker is %v", s)
		}
		for id, want := range map[telemetry.CounterID]uint64{telemetry.BreakerOpened: 1, telemetry.BreakerHalfOpened: 1, telemetry.BreakerClosed: 1} {
			if n := r.reg.Total(id); n != want {
				t.Fatalf("transition %d counted %d times", id, n)
			}
		}
		r.settled()
	})
}

func TestEveryUpstreamFailureIsAnsweredStale(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		reason string
	}{"5xx": {503, "upstream-5xx"}, "hang": {-1, "upstream-timeout"}, "partial body": {-2, "upstream-reset"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, snapshot.Source{Degrade: []string{"/api"}, Timeout: time.Second})
				app := new(faulty)
				r.app("app:80", app.ServeHTTP)
				r.get(query+"?tenant=a").want(t, 200, "a ")
				app.set(map[string]int{"a": c.status})
				got := r.get(query+"?tenant=a").want(t, 200, "a ")
				if d := got.Header.Get("X-Quadnine-Degraded"); !strings.HasPrefix(d, "stale; reason="+c.reason+"; age=") {
					t.Fatalf("X-Quadnine-Degraded: %q", d)
				}
				r.settled()
			})
		})
	}
}

func TestUpstreamErrorPassesWhereNothingIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Degrade: []string{"/api"}})
		app := new(faulty)
		r.app("app:80", app.ServeHTTP)
		app.set(map[string]int{"a": 503})
		r.get(query+"?tenant=a").want(t, 503, "broken")
		r.get("/other?tenant=a").want(t, 503, "broken")
		r.settled()
	})
}

func TestWithoutDegradeNothingIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{})
		app := new(faulty)
		r.app("app:80", app.ServeHTTP)
		r.get(query+"?tenant=a").want(t, 200, "a ").header(t, "Cache-Status", "")
		app.set(map[string]int{"a": 500})
		r.get(query+"?tenant=a").want(t, 500, "broken")
		if n := r.reg.Total(telemetry.CacheStores); n != 0 {
			t.Fatalf("%d replies stored", n)
		}
	})
}

func TestTwoUsersOfATenantNeverShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Degrade: []string{"/api"}})
		app := new(faulty)
		r.app("app:80", app.ServeHTTP)
		r.get(query+"?tenant=a", "Authorization", "alice").want(t, 200, "alice")
		app.set(map[string]int{"a": 500})
		r.get(query+"?tenant=a", "Authorization", "alice").want(t, 200, "alice")
		if got := r.get(query+"?tenant=a", "Authorization", "bob"); got.StatusCode == http.StatusOK {
			t.Fatalf("bob got %q", got.body)
		}
		if got := r.get(query + "?tenant=a"); got.StatusCode == http.StatusOK {
			t.Fatalf("a caller without credentials got %q", got.body)
		}
	})
}

func TestPostedQueriesAreKeyedByTheirBody(t *testing.T) {
	for _, size := range []int{10, hashInline + 1, collectLimit} {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, snapshot.Source{Degrade: []string{"/api"}})
				app := new(faulty)
				r.app("app:80", app.ServeHTTP)
				one, two := strings.Repeat("1", size), strings.Repeat("2", size)
				r.do(r.request(http.MethodPost, query+"?tenant=a", strings.NewReader(one))).want(t, 200, one)
				app.set(map[string]int{"a": 500})
				r.do(r.request(http.MethodPost, query+"?tenant=a", strings.NewReader(one))).want(t, 200, one)
				if got := r.do(r.request(http.MethodPost, query+"?tenant=a", strings.NewReader(two))); got.StatusCode != http.StatusInternalServerError {
					t.Fatalf("another query got %d", got.StatusCode)
				}
				r.settled()
			})
		})
	}
}

func TestLongPostStreamsAndIsNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Degrade: []string{"/api"}})
		app := new(faulty)
		r.app("app:80", app.ServeHTTP)
		long := strings.Repeat("x", 3*collectLimit)
		if got := r.do(r.request(http.MethodPost, query+"?tenant=a", strings.NewReader(long))).want(t, 200, ""); !strings.Contains(got.body, long) {
			t.Fatalf("body of %d bytes came back as %d", len(long), len(got.body))
		}
		if n := r.reg.Total(telemetry.CacheStores); n != 0 {
			t.Fatalf("%d stored", n)
		}
		r.settled()
	})
}

func TestReplyLongerThanTheBoundStreamsWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Degrade: []string{"/api"}})
		long := strings.Repeat("0123456789abcdef", 1<<17) // 2 MiB, the bound is 1
		r.app("app:80", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, long) })
		if got := r.get(query).want(t, 200, ""); got.body != long {
			t.Fatalf("%d of %d bytes", len(got.body), len(long))
		}
		r.settled()
	})
}

func TestClientErrorsOpenNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Degrade: []string{"/api"}})
		app := new(faulty)
		r.app("app:80", app.ServeHTTP)
		app.set(map[string]int{"a": 404, "b": 400, "c": 429})
		for _, tenant := range []string{"a", "b", "c"} {
			for range 50 {
				r.get(query + "?tenant=" + tenant)
			}
			if v := r.server.Explain(keyOf(tenant, "")).Breaker; v.State != policy.StateClosed || v.Failures != 0 {
				t.Fatalf("tenant %s: %v with %d failures", tenant, v.State, v.Failures)
			}
		}
	})
}

func TestDeadAppOpensTheClusterNotTheKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Degrade: []string{"/api"}})
		app := new(faulty)
		l := r.app("app:80", app.ServeHTTP)
		for i := range 20 {
			r.get(fmt.Sprintf("%s?tenant=t-%d", query, i)).want(t, 200, "t-")
		}
		l.Kill()
		synctest.Wait()
		for range 20 {
			for i := range 20 {
				r.get(fmt.Sprintf("%s?tenant=t-%d", query, i)).want(t, 200, "t-")
			}
			time.Sleep(100 * time.Millisecond)
		}
		for v := range r.server.Breakers() {
			if v.State != policy.StateClosed {
				t.Fatalf("%v is %v: the app is dead, not the key", v.Key, v.State)
			}
		}
		if s := r.server.Clusters()[0].State(); s != "open" {
			t.Fatalf("the cluster breaker is %s", s)
		}
		r.get(query+"?tenant=cold").want(t, 503, "")
		if dials := r.net.Dials("app:80"); dials > 12 {
			t.Fatalf("%d dials to a dead app", dials)
		}
		r.app("app:80", app.ServeHTTP)
		time.Sleep(1100 * time.Millisecond)
		r.get(query+"?tenant=t-1").want(t, 200, "t-1").header(t, "X-Quadnine-Degraded", "")
		if s := r.server.Clusters()[0].State(); s != "closed" {
			t.Fatalf("the cluster breaker is %s after a good dial", s)
		}
		r.settled()
	})
}

func TestRingOfDeadAppsMakesAtMostTwoHops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Upstreams: []string{"h2c://dead-0:80"}, Peers: []string{"h2c://sidecar-1:80"}, Trust: []string{"192.0.2.0/24"}})
		var regs []*telemetry.Registry
		regs = append(regs, r.reg)
		for i := 1; i < 3; i++ {
			next := "h2c://sidecar-2:80"
			if i == 2 {
				next = "h2c://sidecar:80"
			}
			_, reg := r.sidecar(fmt.Sprintf("sidecar-%d:80", i), snapshot.Source{
				Upstreams: []string{fmt.Sprintf("h2c://dead-%d:80", i)}, Peers: []string{next}, Trust: []string{"192.0.2.0/24"},
			})
			regs = append(regs, reg)
		}
		const n = 20
		for range n {
			r.get("/").want(t, 503, "quadnine: ")
		}
		synctest.Wait()
		hops := []uint64{0, 0, 0}
		for i, reg := range regs {
			for _, tot := range reg.Tenants() {
				hops[i] += tot.Requests()
			}
		}
		if hops[0] != n || hops[1] > n || hops[2] != 0 {
			t.Fatalf("requests seen by the three sidecars: %v, want %d, at most %d, 0", hops, n, n)
		}
	})
}

func TestPeerAnswersForADeadApp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Peers: []string{"h2c://peer:80"}, Trust: []string{"192.0.2.0/24"}, Degrade: []string{"/api"}})
		r.app("peer:80", func(w http.ResponseWriter, req *http.Request) {
			_, _ = io.WriteString(w, "peer, hop "+req.Header.Get("X-Quadnine-Hop"))
		})
		r.get("/x").want(t, 200, "peer, hop 1").header(t, "X-Quadnine-Degraded", "peer; reason=connect-failed")
		r.get(query, "x-quadnine-hop", "1").want(t, 503, "") // it came from a peer: no further
		r.settled()
	})
}

func TestRequiredTenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, err := snapshot.Parse("quadnine.yaml", []byte("tenantBreaker:\n  requireTenant: true\n"))
		if err != nil {
			t.Fatal(err)
		}
		r := newRig(t, snapshot.Source{File: f})
		app := new(faulty)
		r.app("app:80", app.ServeHTTP)
		r.get("/").want(t, 400, "no tenant in header x-tenant-id, query parameter tenant")
		r.get("/", "X-Tenant-Id", "a").want(t, 200, "")
	})
}
