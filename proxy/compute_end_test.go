package proxy

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quadnine/quadnine/snapshot"
)

func TestScoreThatEndsEarlyLeavesNothing(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, r *rig){
		"caller gone": func(_ *testing.T, r *rig) { _, _ = r.try(time.Second, r.request(http.MethodGet, score, nil)) },
		"timeout":     func(t *testing.T, r *rig) { t.Helper(); r.get(score).want(t, 504, "input pv: ") },
		"deadline":    func(t *testing.T, r *rig) { t.Helper(); r.get(score, "Grpc-Timeout", "1S").want(t, 504, "") },
		"closed": func(_ *testing.T, r *rig) {
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _ = r.try(time.Hour, r.request(http.MethodGet, score, nil))
			}()
			synctest.Wait()
			r.server.Close()
			<-done
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, s, app := scoring(t, snapshot.Source{Degrade: []string{"/api"}})
				app.do("pv", func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() })
				end(t, r)
				r.settled()
				s.balanced(t)
				if n := r.server.Explain(keyOf("t", "score")).Breaker.Failures; n != 0 {
					t.Errorf("%d failures of the score: they are its input's", n)
				}
			})
		})
	}
}

// While a worker has the evaluation, the exchange can end; it must not be
// another's before the worker is done.
func TestExchangeEndsWhileAWorkerComputes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s, _ := scoring(t, snapshot.Source{})
		release := make(chan struct{})
		slow := weighted(3, 2)
		slow.Eval = func(in []float64) (float64, error) { <-release; return in[0], nil }
		s.set(func() { s.active = slow })
		if _, err := r.try(time.Second, r.request(http.MethodGet, score, nil)); err == nil {
			t.Error("the caller did not go away")
		}
		r.settled()
		s.balanced(t)
		r.get(score, "Grpc-Timeout", "2S").want(t, 504, "") // the only worker is out
		r.settled()
		close(release)
		synctest.Wait()
		s.set(func() { s.active = weighted(1, 2) })
		for range 5 {
			if v := r.get(score).computed(t, "score@1"); v != 23 {
				t.Fatalf("value %v", v)
			}
		}
		r.settled()
		s.balanced(t)
	})
}

func TestEvaluationThatPanicsEndsOneExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s, _ := scoring(t, snapshot.Source{})
		broken := weighted(3, 2)
		broken.Eval = func([]float64) (float64, error) { panic("broken") }
		s.set(func() { s.active = broken })
		r.get(score).want(t, 500, "")
		s.set(func() { s.active = weighted(1, 2) })
		r.get(score).computed(t, "score@1")
		r.settled()
		s.balanced(t)
	})
}
