package differential

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// load sends requests one after another until stop is called, which returns the
// answers that are not 200, by brief, and how many were sent.
func (x *proxy) load(t *testing.T, target string) (stop func() (bad map[string]int, sent int)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var (
		wg   sync.WaitGroup
		bad  = make(map[string]int)
		sent int
	)
	wg.Go(func() {
		for ctx.Err() == nil {
			a := x.send(t, get(target))
			sent++
			if a.status != http.StatusOK || a.err != "" {
				bad[a.brief()+" "+bodyClass(a.body)+class(a.err)]++
			}
		}
	})
	return func() (map[string]int, int) {
		cancel()
		wg.Wait()
		return bad, sent
	}
}

// TestManagementServerRestarts: killed under load and started again, with an
// empty memory and then with a changed configuration.
func TestManagementServerRestarts(t *testing.T) {
	for variant := range variants {
		t.Run(variant, func(t *testing.T) {
			s := newStand(t, variant)
			s.run(t, []trial{{"management server restarts", []step{{part: eds("", lb("b0", "")), do: func(t *testing.T, s *stand) {
				t.Helper()
				var stops []func() (map[string]int, int)
				for _, x := range s.both() {
					stops = append(stops, x.load(t, "/"))
				}
				first := eds("", lb("b0", ""))
				for range soak(1, 5) {
					s.cp.stop()
					for _, x := range s.both() {
						if a := x.send(t, get("/")); a.brief() != "200 b0" {
							t.Errorf("%s without a management server: %s %q", x.node, a.brief(), a.body)
						}
					}
					s.cp.start(t)
					for _, x := range s.both() { // what it had
						s.cp.set(t, x.node, s.build(t, first, x.addr))
					}
				}
				s.push(t, step{part: eds("", lb("b1", ""))})
				for i, x := range s.both() {
					x.eventually(t, get("/"), "200 b1")
					bad, sent := stops[i]()
					t.Logf("%s: %d requests, not 200: %v", x.node, sent, bad)
					if len(bad) > 0 && x == s.ours {
						t.Errorf("%d requests of %s: %v", sent, x.node, bad)
					}
				}
			}}}}})
		})
	}
}

// TestKilledWhileServerIsDown: the sidecar is killed with -9 while no management
// server is there, starts again, and serves what it had.
func TestKilledWhileServerIsDown(t *testing.T) {
	if self {
		return // Envoy keeps nothing
	}
	for variant := range variants {
		t.Run(variant, func(t *testing.T) {
			s := newStand(t, variant)
			s.run(t, []trial{{"killed while the server is down", []step{{part: eds("", lb("b0", "")), do: func(t *testing.T, s *stand) {
				t.Helper()
				x := s.ours
				x.stored(t)
				s.cp.stop()
				x.Kill()
				began := time.Now()
				x.start(t)
				x.eventually(t, get("/"), "200 b0")
				took := time.Since(began)
				status, body := x.ask(deadline(t, within), http.MethodGet, "/ready")
				if status != http.StatusOK || !strings.Contains(body, "stale config") {
					t.Errorf("/ready says %d %q: want 200 and stale config", status, body)
				}
				t.Logf("%s: first 200 after %v", x.node, took.Round(time.Millisecond))
				if took > time.Second {
					t.Errorf("the first 200 came after %v", took)
				}
				s.cp.start(t)
				s.push(t, step{part: eds("", lb("b2", ""))})
				x.eventually(t, get("/"), "200 b2")
				ok := until(deadline(t, within), func() bool {
					_, body := x.ask(deadline(t, within), http.MethodGet, "/ready")
					return !strings.Contains(body, "stale config")
				})
				if !ok {
					t.Error("/ready says stale config though the server has answered")
				}
			}}}}})
		})
	}
}

// stored waits until what is in use has been written to disk.
func (x *proxy) stored(t *testing.T) {
	t.Helper()
	last := int64(-1)
	same := 0
	until(deadline(t, within), func() bool {
		n := size(x.dir)
		if n == last && n > 0 {
			same++
		} else {
			same = 0
		}
		last = n
		return same > 100 // 500 ms without a write
	})
}
