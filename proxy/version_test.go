package proxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// echoing answers with the version it was asked to be, as its own metric does.
func echoing(w http.ResponseWriter, req *http.Request) {
	v := req.Header.Get("X-Model-Version")
	if v != "" {
		w.Header().Set("X-Model-Version", v)
	}
	w.Header().Set("X-Quadnine-Model", "forged@9")
	_, _ = io.WriteString(w, "asked to be "+v)
}

func TestRoutedRequestSaysItsVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{model: &Model{Name: "score"}, metric: "score", active: routedVersion(2)}
		r := newRig(t, snapshot.Source{}, s.with)
		r.app("app:80", echoing)
		r.get("/?metric=score", "X-Model-Version", "score@9").want(t, 200, "asked to be score@2").
			header(t, "X-Quadnine-Model", "score@2").header(t, "X-Model-Version", "score@2")
		// Another metric is the app's own business, its header included.
		r.get("/?metric=uv", "X-Model-Version", "own").want(t, 200, "asked to be own").
			header(t, "X-Quadnine-Model", "")
		r.settled()
		s.balanced(t)
		if n := r.reg.Total(telemetry.AnsweredActive); n != 1 {
			t.Errorf("%d answers of the active version, want 1", n)
		}
		if n := r.reg.Total(telemetry.ModelPinUntrusted); n != 1 {
			t.Errorf("%d pins of untrusted callers, want 1", n)
		}
	})
}

func TestWithoutAVersionTheRequestGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{model: &Model{Name: "score"}}
		r := newRig(t, snapshot.Source{}, s.with)
		r.app("app:80", echoing)
		got := r.get("/", "X-Model-Version", "score@9").want(t, 200, "asked to be ").header(t, "X-Quadnine-Model", "")
		if got.body != "asked to be " {
			t.Errorf("the caller's own version went through: %q", got.body)
		}
	})
}

func TestMismatchIsCountedAndNotReported(t *testing.T) {
	for name, c := range map[string]struct {
		echo   string
		status int
		counts uint64
	}{
		"missing":        {"", 200, 1},
		"another":        {"score@1", 200, 1},
		"missing at 404": {"", 404, 1},
		"error page":     {"", 500, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &shelf{model: &Model{Name: "score"}, active: routedVersion(2)}
				r := newRig(t, snapshot.Source{}, s.with)
				r.app("app:80", func(w http.ResponseWriter, _ *http.Request) {
					if c.echo != "" {
						w.Header().Set("X-Model-Version", c.echo)
					}
					w.Header().Set("X-Quadnine-Model", "score@2")
					w.WriteHeader(c.status)
				})
				r.get("/").want(t, c.status, "").header(t, "X-Quadnine-Model", "").header(t, "X-Model-Version", c.echo)
				if n := r.reg.Total(telemetry.ModelMismatch); n != c.counts {
					t.Errorf("%d mismatches, want %d", n, c.counts)
				}
				s.balanced(t)
			})
		})
	}
}

func TestPins(t *testing.T) {
	trusted := []string{"192.0.2.0/24"}
	for name, c := range map[string]struct {
		trust []string
		wish  string
		want  string
		count telemetry.CounterID
	}{
		"name":          {trusted, "score@1", "score@1", telemetry.AnsweredPinned},
		"number":        {trusted, "1", "score@1", telemetry.AnsweredPinned},
		"another model": {trusted, "uplift@1", "score@2", telemetry.ModelPinUnknown},
		"no version":    {trusted, "score@latest", "score@2", telemetry.ModelPinUnknown},
		"unknown":       {trusted, "score@7", "score@2", telemetry.ModelPinUnknown},
		"refused":       {trusted, "score@5", "score@2", telemetry.ModelPinRefused},
		"untrusted":     {nil, "score@1", "score@2", telemetry.ModelPinUntrusted},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &shelf{
					model: &Model{Name: "score"}, active: routedVersion(2), standby: routedVersion(1),
					gone: map[uint64]PinResult{5: PinRefused},
				}
				r := newRig(t, snapshot.Source{Trust: c.trust}, s.with)
				r.app("app:80", echoing)
				r.get("/", "X-Model-Version", c.wish).want(t, 200, "asked to be "+c.want).header(t, "X-Quadnine-Model", c.want)
				r.settled()
				s.balanced(t)
				if n := r.reg.Total(c.count); n != 1 {
					t.Errorf("counted %d times, want once", n)
				}
			})
		})
	}
}

func TestCallerStaysOnItsVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{model: &Model{Name: "score", Salt: 3}, active: routedVersion(1), canary: routedVersion(2), share: everyone / 4}
		r := newRig(t, snapshot.Source{}, s.with)
		r.app("app:80", echoing)
		canary := 0
		for i := range 200 {
			user := fmt.Sprintf("u-%d", i)
			first := r.get("/?tenant=acme", "X-User-Id", user).Header.Get("X-Quadnine-Model")
			if again := r.get("/?tenant=acme", "X-User-Id", user).Header.Get("X-Quadnine-Model"); again != first {
				t.Fatalf("%s: %s, then %s", user, first, again)
			}
			if first == "score@2" {
				canary++
			}
		}
		if canary < 30 || canary > 70 {
			t.Errorf("%d of 200 users got the canary, want about 50", canary)
		}
		if n := r.reg.Total(telemetry.AnsweredCanary); n != 2*uint64(canary) {
			t.Errorf("%d answers of the canary counted, want %d", n, 2*canary)
		}
		s.balanced(t)
	})
}

func TestVersionUnderRefusalIsNotRouted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := routedVersion(2)
		s := &shelf{model: &Model{Name: "score"}, active: routedVersion(1), canary: bad, share: everyone}
		r := newRig(t, snapshot.Source{}, s.with)
		r.app("app:80", echoing)
		r.get("/").want(t, 200, "score@2")
		bad.SetRefused(true) // the swap has not happened yet
		r.get("/").want(t, 200, "score@1").header(t, "X-Quadnine-Model", "score@1")
		r.settled()
		s.balanced(t)
	})
}

// Stored replies of one version are never told as another's.
func TestStoredRepliesBelongToTheirVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := routedVersion(1), routedVersion(2)
		s := &shelf{model: &Model{Name: "score"}, active: one}
		r := newRig(t, snapshot.Source{Degrade: []string{"/api"}}, s.with)
		l := r.app("app:80", echoing)
		r.get(query).want(t, 200, "score@1")
		l.Kill()
		synctest.Wait()
		r.get(query).want(t, 200, "score@1").header(t, "X-Quadnine-Model", "score@1").
			header(t, "X-Quadnine-Degraded", "stale; reason=connect-failed; age=0")
		s.set(func() { s.active = two })
		r.get(query).want(t, 503, "").header(t, "X-Quadnine-Model", "")
		s.set(func() { s.active = one })
		r.get(query).want(t, 200, "score@1").header(t, "X-Quadnine-Model", "score@1")
		r.settled()
		s.balanced(t)
	})
}

// A reply that nobody vouched for is not told later as the version's.
func TestMismatchIsNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{model: &Model{Name: "score"}, active: routedVersion(2)}
		r := newRig(t, snapshot.Source{Degrade: []string{"/api"}}, s.with)
		l := r.app("app:80", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "whose?") })
		r.get(query).want(t, 200, "whose?").header(t, "X-Quadnine-Model", "")
		l.Kill()
		synctest.Wait()
		r.get(query).want(t, 503, "").header(t, "X-Quadnine-Model", "")
		if n := r.reg.Total(telemetry.CacheStores); n != 0 {
			t.Errorf("%d stored", n)
		}
		r.settled()
		s.balanced(t)
	})
}

func TestPeerSpeaksForItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{model: &Model{Name: "score"}, active: routedVersion(2)}
		r := newRig(t, snapshot.Source{Peers: []string{"h2c://peer:80"}, Trust: []string{"192.0.2.0/24"}}, s.with)
		r.app("peer:80", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Quadnine-Model", "score@1") })
		r.get("/").want(t, 200, "").header(t, "X-Quadnine-Model", "score@1").header(t, "X-Quadnine-Degraded", "peer; reason=connect-failed")
		if n := r.reg.Total(telemetry.ModelMismatch); n != 0 {
			t.Errorf("%d mismatches", n)
		}
		r.settled()
		s.balanced(t)
	})
}

// Whatever ends an exchange, its lease comes back.
func TestLeaseComesBack(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, r *rig){
		"caller gone": func(_ *testing.T, r *rig) { _, _ = r.try(time.Millisecond, r.request(http.MethodGet, "/mute", nil)) },
		"timeout":     func(t *testing.T, r *rig) { t.Helper(); r.get("/mute").want(t, 504, "") },
		"deadline":    func(t *testing.T, r *rig) { t.Helper(); r.get("/mute", "Grpc-Timeout", "1S").want(t, 504, "") },
		"reset":       func(t *testing.T, r *rig) { t.Helper(); r.get("/reset").want(t, 502, "") },
		"unread request": func(t *testing.T, r *rig) {
			t.Helper()
			r.do(r.request(http.MethodPost, "/", strings.NewReader("x"))).want(t, 200, "")
		},
		"closed": func(_ *testing.T, r *rig) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			go func() {
				resp, err := r.client.Do(r.request(http.MethodGet, "/mute", nil).WithContext(ctx))
				if err == nil {
					_ = resp.Body.Close()
				}
			}()
			synctest.Wait()
			r.server.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &shelf{model: &Model{Name: "score"}, active: routedVersion(2)}
				var routed atomic.Int64
				r := newRig(t, snapshot.Source{}, s.with, func(o *Options) {
					o.OnRouted = func(version string, _ int64) {
						if version == "score@2" {
							routed.Add(1)
						}
					}
				})
				r.app("app:80", func(w http.ResponseWriter, req *http.Request) {
					switch req.URL.Path {
					case "/mute":
						<-req.Context().Done()
					case "/reset":
						panic(http.ErrAbortHandler)
					default:
						echoing(w, req)
					}
				})
				end(t, r)
				r.settled()
				s.balanced(t)
				if routed.Load() != s.given.Load() {
					t.Errorf("%d leases told of, %d given", routed.Load(), s.given.Load())
				}
			})
		})
	}
}

func TestExplainSaysWhichVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := onTrial(t, routedVersion(1), routedVersion(2), everyone)
		r := newRig(t, snapshot.Source{}, s.with)
		m := r.server.Explain(keyOf("t", "score")).Model
		if m == nil || m.String() != "score@2, the canary: this key draws it" || m.Trial == nil || m.Embedded {
			t.Errorf("on trial: %+v", m)
		}
		s.set(func() { s.canary, s.trial = nil, nil })
		if m := r.server.Explain(keyOf("t", "score")).Model; m.String() != "score@1" || m.Trial != nil {
			t.Errorf("active alone: %+v", m)
		}
		s.set(func() { s.active = nil })
		if m := r.server.Explain(keyOf("t", "score")).Model; m.String() != "no version of score answers now" {
			t.Errorf("none: %+v", m)
		}
		if m := r.server.Explain(keyOf("t", "uv")).Model; m != nil {
			t.Errorf("another metric: %+v", m)
		}
		s.balanced(t)
	})
}
