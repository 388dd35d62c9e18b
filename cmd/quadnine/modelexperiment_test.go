package main

import (
	"fmt"
	"math"
	"net/http"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/quadnine/quadnine/loader/delta"
)

func TestExperiment(t *testing.T) {
	dir, store := t.TempDir(), t.TempDir()
	cfg := standConfig{models: modelsConfig{dir: dir, store: store}}
	var wider []string // who was on which version when the first sidecar ended
	want := map[string]float64{}
	t.Run("running", func(t *testing.T) { wider = runExperiment(t, cfg, want) })
	t.Run("restarted", func(t *testing.T) { restartExperiment(t, cfg, want, wider) })
}

func runExperiment(t *testing.T, cfg standConfig, want map[string]float64) []string {
	t.Helper()
	dir := cfg.models.dir
	s := newStand(t, cfg)
	dropManifest(t, dir, 1, weights{2, 1}, nil)
	s.becomes(1, "active")
	dropManifest(t, dir, 2, weights{3, 1}, func(m *delta.Manifest) { m.Canary.Weight, m.Canary.MinRequests = 5, 1 })
	s.becomes(2, "canary")
	if code, out, errs := s.model("experiment", "start", "score", "slope", "--arm", "1=70", "--arm", "2=30"); code != exitOK || out != "experiment slope of score runs over 2 arms\n" {
		t.Fatalf("start: exit %d %q %q", code, out, errs)
	}
	r := s.acmeRatio()
	want["score@1"], want["score@2"] = 2*r+1, 3*r+1

	const users = 10_000
	of := s.spread(users, want)
	sent := map[string]uint64{}
	for _, v := range of {
		sent[v]++
	}
	for v, share := range map[string]float64{"score@1": 0.7, "score@2": 0.3} {
		if dev := math.Sqrt(users * share * (1 - share)); math.Abs(float64(sent[v])-users*share) > 4*dev {
			t.Errorf("%s has %d of %d users, want %.0f within %.0f", v, sent[v], users, users*share, 4*dev)
		}
	}
	again := s.spread(500, want)
	for i, v := range again {
		if v != of[i] {
			t.Fatalf("user %d was on %s and is on %s", i, of[i], v)
		}
		sent[v]++
	}
	e := s.model1().Experiment
	for i, a := range e.Arms {
		v := fmt.Sprint("score@", a.Version)
		if a.Requests != sent[v] || a.Answers != sent[v] || a.Failures != 0 || a.Mean == nil || math.Abs(*a.Mean-want[v]) > 1e-9 || a.P50 <= 0 || a.P99 < a.P50 {
			t.Errorf("arm %d: %+v, %d were sent", i, a, sent[v])
		}
	}
	if d := e.Arms[1].MeanDifference; !e.Arms[0].Control || d == nil || math.Abs(d.Value-r) > 1e-9 || d.Low > d.Value || d.High < d.Value {
		t.Errorf("difference %+v, want %v", d, r)
	}
	if n := sample(t, s.admin("/stats/prometheus"), `quadnine_model_experiment_requests{experiment="slope",model="score",version="2"}`); n != float64(sent["score@2"]) {
		t.Errorf("%v requests of arm 2 in the metrics, want %d", n, sent["score@2"])
	}
	if code, out, errs := s.model("experiment", "show", "score"); code != exitOK || !regexp.MustCompile(fmt.Sprintf(`(?s)^slope by user, counted since .*: runs\nVERSION .*\n1 +70 %% +%d +0 .*control.*\n2 +30 %% +%d `, sent["score@1"], sent["score@2"])).MatchString(out) {
		t.Errorf("show: exit %d %q\n%s", code, errs, out)
	}
	if page := s.admin("/models"); !strings.Contains(page, "experiment slope by user, ") || !strings.Contains(page, "experiment slope holds it") {
		t.Errorf("/models\n%s", page)
	}
	if !s.modelState(2, "canary") {
		t.Error("the canary was promoted while the experiment held it")
	}

	// With other weights only callers of the two move, and towards the heavier arm.
	if code, _, errs := s.model("experiment", "start", "score", "slope", "--arm", "1=70", "--arm", "2=70"); code != exitOK {
		t.Fatalf("start again: exit %d %q", code, errs)
	}
	wider := s.spread(500, want)
	moved := 0
	for i, v := range wider {
		if v != of[i] {
			moved++
			if v != "score@2" {
				t.Fatalf("user %d went from %s to %s", i, of[i], v)
			}
		}
	}
	if moved < 50 || moved > 150 { // 30 % → 50 %: 100
		t.Errorf("%d of 500 users moved", moved)
	}
	if e := s.model1().Experiment; e.Arms[0].Requests+e.Arms[1].Requests != 500 {
		t.Errorf("after the change of weights %d requests are counted, want the 500 since", e.Arms[0].Requests+e.Arms[1].Requests)
	}

	a := s.side.models
	m := a.Named("score")
	if n := testing.AllocsPerRun(100, func() {
		l, _ := a.Pin(m, 2)
		l.Hold.Release()
	}); n != 0 {
		t.Errorf("%v allocations for an arm's version", n)
	}

	for name, bad := range map[string]struct {
		args []string
		code int
		says string
	}{
		"another":      {[]string{"start", "score", "other", "--arm", "1=1", "--arm", "2=1"}, exitFailure, `slope: an experiment holds the model's versions`},
		"one arm":      {[]string{"start", "score", "other", "--arm", "1=1"}, exitUsage, `--arm: is given 1 times`},
		"weight":       {[]string{"start", "score", "other", "--arm", "1=1", "--arm", "2=-1"}, exitUsage, `arm "2=-1": want a version and a weight above 0`},
		"wrong name":   {[]string{"stop", "score", "other"}, exitFailure, `other: no such experiment is running`},
		"wrong winner": {[]string{"stop", "score", "slope", "--winner", "9"}, exitFailure, `winner 9 is none of its arms`},
		"winner 0":     {[]string{"stop", "score", "slope", "--winner", "0"}, exitUsage, `--winner 0: want the number`},
		"no model":     {[]string{"show", "uplift"}, exitFailure, `no model is called uplift`},
		"no name":      {[]string{"stop", "score"}, exitUsage, `accepts 2 arg.*; see quadnine model experiment stop --help`},
	} {
		if code, _, errs := s.model(append([]string{"experiment"}, bad.args...)...); code != bad.code || !regexp.MustCompile(bad.says).MatchString(errs) {
			t.Errorf("%s: exit %d %q", name, code, errs)
		}
	}

	return wider
}

// It is kept over a restart, and callers stay where they are.
func restartExperiment(t *testing.T, cfg standConfig, want map[string]float64, wider []string) {
	t.Helper()
	s2 := newStand(t, cfg)
	s2.becomes(2, "canary")
	for s2.model1().Experiment.Arms[1].Away {
		runtime.Gosched()
	}
	for i, v := range s2.spread(500, want) {
		if v != wider[i] {
			t.Fatalf("after the restart user %d is on %s, was on %s", i, v, wider[i])
		}
	}
	if code, out, errs := s2.model("experiment", "stop", "score", "slope", "--winner", "2"); code != exitOK || !strings.Contains(out, "score@2 is active") {
		t.Fatalf("stop: exit %d %q %q", code, out, errs)
	}
	for i, v := range s2.spread(100, want) {
		if v != "score@2" {
			t.Fatalf("after the end user %d is on %s", i, v)
		}
	}
	if e := s2.model1().Experiment; !e.Over || e.Outcome != "stopped: version 2 won" || e.Arms[0].Requests+e.Arms[1].Requests != 500 {
		t.Errorf("%+v", e)
	}
}

// spread asks once for each of n users, over several connections, and returns the
// version that answered each. Every answer must be that version's.
func (s *stand) spread(n int, want map[string]float64) []string {
	s.t.Helper()
	const clients = 8
	of := make([]string, n)
	var wg sync.WaitGroup
	for k := range clients {
		c := s.client(true)
		wg.Go(func() {
			for i := k; i < n; i += clients {
				value, version, a := s.score(c, "user-"+strconv.Itoa(i))
				if w, ok := want[version]; !ok || math.Abs(value-w) > 1e-12*w {
					s.t.Errorf("user %d: %d %v by %q: %s", i, a.status, value, version, a.body)
					return
				}
				of[i] = version
			}
		})
	}
	wg.Wait()
	if s.t.Failed() {
		s.t.FailNow()
	}
	return of
}

// An arm whose version answers NaN is taken back at once; its callers go to the
// active version, nobody sees the NaN, and one arm is no experiment.
func TestExperimentArmIsTakenBack(t *testing.T) {
	dir := t.TempDir()
	s := newStand(t, standConfig{models: modelsConfig{dir: dir, store: t.TempDir()}})
	c := s.client(true)
	dropManifest(t, dir, 1, weights{2, 1}, nil)
	s.becomes(1, "active")
	dropManifest(t, dir, 2, weights{math.NaN(), 1}, func(m *delta.Manifest) { m.Canary.Weight = 1e-9 })
	s.becomes(2, "canary")
	if code, _, errs := s.model("experiment", "start", "score", "bad", "--arm", "1=50", "--arm", "2=50"); code != exitOK {
		t.Fatalf("start: exit %d %q", code, errs)
	}
	for i := 0; !s.model1().Experiment.Over; i++ {
		if _, version, a := s.score(c, fmt.Sprint("u", i)); a.status != http.StatusOK || version != "score@1" {
			t.Fatalf("%d by %q: %s", a.status, version, a.body)
		}
	}
	e := s.model1().Experiment
	if !strings.HasPrefix(e.Outcome, "over: version 2 is gone") || e.Arms[1].NotFinite == 0 || e.Arms[1].Failures != e.Arms[1].NotFinite {
		t.Errorf("%+v", e)
	}
	if m := s.model1(); len(m.Refused) != 1 || m.Refused[0].Number != 2 {
		t.Errorf("refused: %+v", m.Refused)
	}
	for i := range 50 {
		if _, version, a := s.score(c, fmt.Sprint("u", i)); a.status != http.StatusOK || version != "score@1" {
			t.Fatalf("%d by %q: %s", a.status, version, a.body)
		}
	}
}
