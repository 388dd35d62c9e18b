package proxy

import (
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// A routed canary that fails is taken back, and the routing stops at once.
func TestFailingRoutedCanaryIsTakenBack(t *testing.T) {
	for name, fail := range map[string]func(w http.ResponseWriter){
		"status": func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) },
		"reset":  func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := onTrial(t, routedVersion(1), routedVersion(2), everyone/4)
				s.metric = ""
				trial := s.trial
				var log lines
				r := newRig(t, snapshot.Source{}, s.with, log.with)
				var canary atomic.Int64
				r.app("app:80", func(w http.ResponseWriter, req *http.Request) {
					if req.Header.Get("X-Model-Version") == "score@2" {
						canary.Add(1)
						fail(w)
						return
					}
					echoing(w, req)
				})
				at := int64(0)
				for i := range 400 { // one key each: no breaker of a key opens
					r.get(fmt.Sprintf("/?tenant=t-%d", i))
					if len(s.back()) > 0 && at == 0 {
						at = canary.Load()
					}
				}
				e := trial.Look(0)
				if !slices.Equal(s.back(), []uint64{2}) || e.Why != policy.ErrorRate {
					t.Fatalf("taken back %v: %v", s.back(), e)
				}
				if n := canary.Load(); n != at || n > 20 {
					t.Errorf("%d requests went to the canary, %d of them before it was taken back", n, at)
				}
				if e.Active.Failures != 0 || e.Active.Timed == 0 {
					t.Errorf("evidence %v", e)
				}
				if audit := log.about("why=error-rate"); len(audit) != 1 {
					t.Errorf("audit lines: %q", audit)
				}
				r.settled()
				s.balanced(t)
			})
		})
	}
}

func TestMismatchIsNoEvidence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := onTrial(t, routedVersion(1), routedVersion(2), everyone)
		s.metric = ""
		trial := s.trial
		r := newRig(t, snapshot.Source{}, s.with)
		r.app("app:80", func(http.ResponseWriter, *http.Request) {})
		r.get("/").want(t, 200, "")
		r.settled()
		if e := trial.Look(0); e.Canary.Requests != 0 {
			t.Errorf("evidence %v", e)
		}
	})
}

// One thousand canaries that give NaN on their first request, over two loops
// that keep acquiring: once TakeBack has returned, no lease and no number of the
// bad version is given.
func TestThousandRollbacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := onTrial(t, weighted(1, 2), weighted(2, math.NaN()), everyone)
		r := newRig(t, snapshot.Source{}, s.with, func(o *Options) {
			o.Shards, o.Log = 2, slog.New(slog.DiscardHandler)
		})
		clients := []*http.Client{r.client, r.newClient(testkit.H2)} // the second goes to the other loop
		app := new(stats)
		r.app("app:80", app.ServeHTTP)
		for i := range 1000 {
			if i > 0 {
				s.set(func() { s.canary, s.trial = weighted(2, math.NaN()), newTrial(t) })
			}
			var wg sync.WaitGroup
			for _, c := range clients {
				wg.Go(func() {
					resp, err := c.Do(r.request(http.MethodGet, score, nil))
					if err != nil {
						t.Error(err)
						return
					}
					_ = resp.Body.Close()
					if m := resp.Header.Get("X-Quadnine-Model"); m != "score@1" {
						t.Errorf("%d, answered by %q", resp.StatusCode, m)
					}
				})
			}
			wg.Wait()
			if n := len(s.back()); n != i+1 {
				t.Fatalf("round %d: %d rollbacks", i, n)
			}
		}
		r.settled()
		s.balanced(t)
		if n := r.reg.Total(telemetry.ModelTakenBack); n != 1000 {
			t.Errorf("%d counted", n)
		}
	})
}
