package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// lines collects a log.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) with(o *Options) { o.Log = slog.New(slog.NewTextHandler(l, nil)) }

// about returns the lines that hold part.
func (l *lines) about(part string) (out []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		if strings.Contains(line, part) {
			out = append(out, line)
		}
	}
	return out
}

func newTrial(t *testing.T) *policy.Judge {
	t.Helper()
	j, err := policy.NewJudge(policy.DefaultJudgeConfig(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// onTrial is a shelf whose canary, version 2, gets share of the callers.
func onTrial(t *testing.T, active, canary *ModelVersion, share uint64) *shelf {
	t.Helper()
	return &shelf{
		model: &Model{Name: "score", Embedded: len(active.Inputs) > 0}, metric: "score",
		active: active, canary: canary, share: share, trial: newTrial(t),
	}
}

func TestNotFiniteCanaryIsTakenBackInTheSameDecision(t *testing.T) {
	for name, canary := range map[string]*ModelVersion{
		"same inputs":  weighted(2, math.NaN()),
		"other inputs": weighted(2, math.Inf(1), "uvd", "pvd"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := onTrial(t, weighted(1, 2), canary, everyone)
				var log lines
				r := newRig(t, snapshot.Source{}, s.with, log.with)
				app := new(stats)
				r.app("app:80", app.ServeHTTP)
				got := r.get(score).header(t, "X-Quadnine-Degraded", "previous; reason=non-finite")
				if v := got.computed(t, "score@1"); v != 23 {
					t.Errorf("value %v, want the active version's", v)
				}
				if back := s.back(); !slices.Equal(back, []uint64{2}) {
					t.Fatalf("taken back: %v", back)
				}
				if !canary.Refused() || s.evidence.Why != policy.NonFinite || s.evidence.Canary.NotFinite != 1 {
					t.Errorf("refused %v, evidence %v", canary.Refused(), s.evidence)
				}
				r.get(score).header(t, "X-Quadnine-Degraded", "").computed(t, "score@1")
				r.settled()
				s.balanced(t)
				audit := log.about("version taken back")
				if len(audit) != 1 {
					t.Fatalf("%d audit lines: %q", len(audit), audit)
				}
				for _, part := range []string{"from=2 to=1", "breaker=open degrade=previous rollback=swapped", "why=non-finite", "took=", "evidence="} {
					if !strings.Contains(audit[0], part) {
						t.Errorf("no %q in %s", part, audit[0])
					}
				}
				for id, want := range map[telemetry.CounterID]uint64{
					telemetry.ModelTakenBack: 1, telemetry.ModelNotFinite: 1, telemetry.AnsweredPrevious: 1, telemetry.AnsweredActive: 1, telemetry.AnsweredCanary: 0,
				} {
					if n := r.reg.Total(id); n != want {
						t.Errorf("counter %d is %d, want %d", id, n, want)
					}
				}
				if v := r.server.Explain(keyOf("t", "score")).Breaker; v.Failures != 0 {
					t.Errorf("the key has %d failures: it is the version's doing", v.Failures)
				}
			})
		})
	}
}

// A swap that fails leaves no request with the bad version either.
func TestCanaryIsLeftEvenIfTheSwapFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := onTrial(t, weighted(1, 2), weighted(2, math.NaN()), everyone)
		s.stuck = errors.New("stuck")
		var log lines
		r := newRig(t, snapshot.Source{}, s.with, log.with)
		app := new(stats)
		r.app("app:80", app.ServeHTTP)
		r.get(score).header(t, "X-Quadnine-Degraded", "previous; reason=non-finite").computed(t, "score@1")
		for range 3 {
			r.get(score).header(t, "X-Quadnine-Degraded", "").computed(t, "score@1")
		}
		r.settled()
		s.balanced(t)
		if n := r.reg.Total(telemetry.ModelTakenBack); n != 0 {
			t.Errorf("%d counted as taken back", n)
		}
		if told := log.about("not taken back"); len(told) != 1 || !strings.Contains(told[0], "err=stuck") {
			t.Errorf("log: %q", told)
		}
	})
}

// The active version has no trial: as many as open a breaker take it back.
func TestNotFiniteActiveVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := weighted(2, math.NaN())
		s := &shelf{model: &Model{Name: "score", Embedded: true}, metric: "score", active: bad, standby: weighted(1, 2)}
		r := newRig(t, snapshot.Source{}, s.with)
		app := new(stats)
		r.app("app:80", app.ServeHTTP)
		for range 4 {
			r.get(score).header(t, "X-Quadnine-Degraded", "previous; reason=non-finite").computed(t, "score@1")
		}
		if back := s.back(); !slices.Equal(back, []uint64{2}) || !bad.Refused() {
			t.Fatalf("after 4 in a minute: taken back %v", back)
		}
		r.get(score).header(t, "X-Quadnine-Degraded", "").computed(t, "score@1")
		r.settled()
		s.balanced(t)
	})
}

func TestNotFiniteWithNothingToStandIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := weighted(2, math.NaN())
		s := &shelf{model: &Model{Name: "score", Embedded: true}, metric: "score", active: bad}
		r := newRig(t, snapshot.Source{}, s.with)
		app := new(stats)
		r.app("app:80", app.ServeHTTP)
		for range 6 {
			r.get(score).want(t, 503, "not finite").header(t, "X-Quadnine-Model", "")
		}
		if bad.Refused() || len(s.back()) != 0 {
			t.Error("the only version was taken back")
		}
		r.settled()
		s.balanced(t)
	})
}

func TestNotFiniteTwiceIsExplained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := onTrial(t, weighted(1, math.NaN()), weighted(2, math.NaN()), everyone)
		r := newRig(t, snapshot.Source{}, s.with)
		app := new(stats)
		r.app("app:80", app.ServeHTTP)
		r.get(score).want(t, 503, "not finite").header(t, "X-Quadnine-Degraded", "")
		r.settled()
		s.balanced(t)
	})
}

func TestPinnedVersionIsNoEvidence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := onTrial(t, weighted(1, 2), weighted(2, math.NaN()), 0)
		trial := s.trial
		r := newRig(t, snapshot.Source{Trust: []string{"192.0.2.0/24"}}, s.with)
		app := new(stats)
		r.app("app:80", app.ServeHTTP)
		for range 6 {
			r.get(score, "X-Model-Version", "2").header(t, "X-Quadnine-Degraded", "previous; reason=non-finite").computed(t, "score@1")
		}
		r.get(score, "X-Model-Version", "1").header(t, "X-Quadnine-Degraded", "").computed(t, "score@1")
		r.settled()
		if e := trial.Look(0); e.Canary.Requests != 0 || e.Active.Requests != 0 || len(s.back()) != 0 {
			t.Errorf("evidence %v, taken back %v", e, s.back())
		}
		s.balanced(t)
	})
}

// A rollback between the lease and the end of the evaluation: no reply carries
// the number of the version that was taken back.
func TestNoNumberLeavesAfterTheRollback(t *testing.T) {
	for name, inputs := range map[string][]string{"same inputs": nil, "other inputs": {"uvd", "pvd"}, "before the swap": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bad := weighted(2, 100, inputs...)
				began, release := make(chan struct{}, 10), make(chan struct{})
				eval := bad.Eval
				bad.Eval = func(in []float64) (float64, error) {
					began <- struct{}{}
					<-release
					return eval(in)
				}
				s := onTrial(t, weighted(1, 2), bad, everyone)
				r := newRig(t, snapshot.Source{}, s.with)
				app := new(stats)
				r.app("app:80", app.ServeHTTP)
				got := make(chan reply, 4)
				for range 4 {
					go func() { got <- r.get(score) }()
				}
				<-began
				synctest.Wait()
				trial := s.trial
				bad.SetRefused(true)
				if name != "before the swap" {
					if _, err := s.TakeBack(s.model, 2, policy.Evidence{}); err != nil {
						t.Fatal(err)
					}
				}
				close(release)
				for range 4 {
					if v := (<-got).header(t, "X-Quadnine-Degraded", "").computed(t, "score@1"); v != 23 {
						t.Errorf("value %v of a version that was taken back", v)
					}
				}
				r.settled()
				s.balanced(t)
				if e := trial.Look(0); e.Canary.Requests+e.Active.Requests != 0 {
					t.Errorf("evidence %v: an answer that took two evaluations is no sample", e)
				}
			})
		})
	}
}

func TestEvaluationErrorCountsForTheTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := weighted(2, 2)
		bad.Eval = func([]float64) (float64, error) { return 0, errors.New("revoked") }
		s := onTrial(t, weighted(1, 2), bad, everyone)
		trial := s.trial
		r := newRig(t, snapshot.Source{}, s.with)
		app := new(stats)
		r.app("app:80", app.ServeHTTP)
		r.get(score).header(t, "X-Quadnine-Degraded", "previous; reason=model-failed").computed(t, "score@1")
		if e := trial.Look(0); e.Canary.Failures != 1 || e.Canary.NotFinite != 0 || e.Active.Requests != 0 {
			t.Errorf("evidence %v", e)
		}
		r.settled()
		s.balanced(t)
	})
}

func TestTrialHearsOfEveryAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := onTrial(t, weighted(1, 2), weighted(2, 3), everyone/2)
		trial := s.trial
		r := newRig(t, snapshot.Source{Degrade: []string{"/api"}}, s.with)
		app := new(stats)
		l := r.app("app:80", app.ServeHTTP)
		slow := func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(30 * time.Millisecond)
			_, _ = fmt.Fprint(w, `{"value":1}`)
		}
		app.do("uv", slow)
		for i := range 100 {
			r.get(score, "X-User-Id", strconv.Itoa(i)).want(t, 200, "")
		}
		r.settled()
		e := trial.Look(0)
		if e.Canary.Timed+e.Active.Timed != 100 || e.Canary.Failures+e.Active.Failures != 0 || e.Canary.Timed < 25 || e.Active.Timed < 25 {
			t.Fatalf("evidence %v", e)
		}
		if p := e.Canary.P95; p < 28*time.Millisecond || p > 32*time.Millisecond {
			t.Errorf("the canary's P95 is %v: its inputs took 30 ms", p)
		}
		// What says nothing of the version: stale inputs, bad inputs, a dead app.
		app.do("uv", status(500, ""))
		r.get(score).want(t, 200, "")
		app.do("uv", status(200, "x"))
		r.get(score+"&x=1").want(t, 502, "")
		l.Kill()
		synctest.Wait()
		r.get(score+"&x=2").want(t, 503, "")
		r.settled()
		if e := trial.Look(0); e.Canary.Requests+e.Active.Requests != 100 {
			t.Errorf("evidence %v", e)
		}
		s.balanced(t)
	})
}
