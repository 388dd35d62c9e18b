package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/proxy"
)

func TestShadowIsComparedAndNeverServed(t *testing.T) {
	dir := t.TempDir()
	s := newStand(t, standConfig{models: modelsConfig{dir: dir, store: t.TempDir()}})
	c := s.client(true)
	dropManifest(t, dir, 1, weights{2, 1}, nil)
	s.becomes(1, "active")
	dropManifest(t, dir, 2, weights{3, 1}, func(m *delta.Manifest) {
		m.Canary.Weight, m.Canary.PromoteAfter = 50, time.Hour
		m.Shadow = &delta.Shadow{Percent: 100}
	})
	s.becomes(2, "shadow")
	const asked = 200
	for i := range asked {
		if _, version, a := s.score(c, fmt.Sprint("u", i)); version != "score@1" {
			t.Fatalf("%d by %q", a.status, version)
		}
	}
	m := s.model1()
	for m.Shadow.Compared+m.Shadow.SkippedBusy < asked {
		runtime.Gosched()
		m = s.model1()
	}
	r := s.acmeRatio()
	want := r / (3*r + 1) // of 2r+1 and 3r+1
	if d := m.Shadow; d.Version != 2 || d.Against != 1 || d.Percent != 100 || d.Equal != 0 || d.NotFinite != 0 || d.Failed != 0 || d.Compared == 0 ||
		math.Abs(d.Relative.Max-want) > 1e-12 || math.Abs(d.Relative.P50/want-1) > 0.125 || math.Abs(d.Bias-r) > 1e-9 || math.Abs(d.Absolute.Max-r) > 1e-12 {
		b, _ := json.Marshal(d)
		t.Errorf("%s, want a relative difference of %v, bias %v", b, want, r)
	}
	if len(m.Shadow.Tenants) != 1 || m.Shadow.Tenants[0].Tenant != "acme" || m.Shadow.Tenants[0].Compared != m.Shadow.Compared {
		t.Errorf("tenants: %+v", m.Shadow.Tenants)
	}
	if code, out, errs := s.model("compare", "score"); code != exitOK || !regexp.MustCompile(fmt.Sprintf(`(?s)^score@2 in shadow beside score@1: for 100 %% of the queries\nTENANT .*\n\(all\) +%d .*\nacme +.*skipped: \d+ busy`, m.Shadow.Compared)).MatchString(out) {
		t.Errorf("compare: exit %d %q\n%s", code, errs, out)
	}
	stats := s.admin("/stats/prometheus")
	if n := sample(t, stats, `quadnine_model_shadow_queries_total{result="different"}`); n != float64(m.Shadow.Compared) {
		t.Errorf("%v are counted as different, want %d", n, m.Shadow.Compared)
	}
	if v := sample(t, stats, `quadnine_model_shadow_difference{model="score",quantile="1",version="2"}`); math.Abs(v-want) > 1e-12 {
		t.Errorf("the largest difference is %v, want %v", v, want)
	}
	if page := s.admin("/models"); !regexp.MustCompile(`shadow @2 beside @1 computed for 100 % of the queries`).MatchString(page) {
		t.Errorf("/models\n%s", page)
	}

	a := s.side.models
	scores := a.Named("score")
	if n := testing.AllocsPerRun(100, func() {
		l, _ := a.Acquire(scores, 7)
		if l.Shadow == nil {
			t.Error("the active version has no shadow")
		}
		l.Hold.Release()
	}); n != 0 {
		t.Errorf("%v allocations beside a shadow", n)
	}

	if code, out, errs := s.model("ls"); code != exitOK || !regexp.MustCompile(fmt.Sprintf(`score +2 +shadow .* in shadow for 100 %% of the queries: %d compared, 0 without an answer of its own\n`, m.Shadow.Compared)).MatchString(out) {
		t.Errorf("ls: exit %d %q\n%s", code, errs, out)
	}

	// A share, none, and out of it.
	if code, out, errs := s.model("shadow", "score", "2", "--percent", "10"); code != exitOK || out != "score@2 is computed for 10 % of the queries, and never served\n" {
		t.Errorf("shadow: exit %d %q %q", code, out, errs)
	}
	if m := s.model1(); m.Shadow.Percent != 10 {
		t.Errorf("%+v", m.Shadow)
	}
	if code, out, errs := s.model("shadow", "score", "2", "--percent", "0"); code != exitOK || out != "score@2 is out of shadow\n" {
		t.Errorf("shadow: exit %d %q %q", code, out, errs)
	}
	s.becomes(2, "canary")
	seen := map[string]bool{}
	for i := 0; !seen["score@2"]; i++ {
		_, version, _ := s.score(c, fmt.Sprint("u", i))
		seen[version] = true
	}
	// A canary that is put in shadow is tried from the start after it.
	for ok := false; !ok; {
		_, ok = a.trial("score", 2)
	}
	if code, _, errs := s.model("shadow", "score", "2"); code != exitOK {
		t.Errorf("shadow: exit %d %q", code, errs)
	}
	if e, ok := a.trial("score", 2); ok {
		t.Errorf("its trial goes on in shadow: %v", e)
	}
	if code, _, errs := s.model("shadow", "score", "2", "--percent", "0"); code != exitOK {
		t.Errorf("shadow: exit %d %q", code, errs)
	}
	s.becomes(2, "canary")
	for name, bad := range map[string]struct {
		args []string
		code int
		says string
	}{
		"out of it":  {[]string{"shadow", "score", "2", "--percent", "0"}, exitFailure, `version not in shadow; there are: 1 \(active\), 2 \(canary\)`},
		"the active": {[]string{"shadow", "score", "1"}, exitFailure, `score@1: version neither active, canary nor standby`},
		"no model":   {[]string{"shadow", "uplift", "1"}, exitFailure, `no model has that name; there are: score`},
		"percent":    {[]string{"shadow", "score", "1", "--percent", "101"}, exitUsage, `--percent 101: want 0 to 100`},
		"version":    {[]string{"shadow", "score", "v1"}, exitUsage, `version "v1": want a number`},
		"compare":    {[]string{"compare", "uplift"}, exitFailure, `no model is called uplift; there are: score`},
	} {
		if code, _, errs := s.model(bad.args...); code != bad.code || !regexp.MustCompile(bad.says).MatchString(errs) {
			t.Errorf("%s: exit %d %q", name, code, errs)
		}
	}
}

func TestShadowGoesOnByItselfWhenItIsGood(t *testing.T) {
	for name, tc := range map[string]struct {
		w     weights
		state string
	}{"good": {weights{3, 1}, "canary"}, "no numbers": {weights{math.NaN(), 1}, "shadow"}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := newStand(t, standConfig{models: modelsConfig{dir: dir, store: t.TempDir()}})
			c := s.client(true)
			dropManifest(t, dir, 1, weights{2, 1}, nil)
			s.becomes(1, "active")
			dropManifest(t, dir, 2, tc.w, func(m *delta.Manifest) {
				m.Canary.Weight, m.Canary.PromoteAfter = 50, time.Hour
				m.Shadow = &delta.Shadow{Percent: 100, Queries: 20}
			})
			s.becomes(2, "shadow")
			for i := 0; ; i++ {
				m := s.model1()
				if m.Shadow.Over || m.Shadow.NotFinite >= 20 {
					break
				}
				if _, version, a := s.score(c, fmt.Sprint("u", i)); a.status != http.StatusOK || version == "score@2" && !s.modelState(2, "canary") {
					t.Fatalf("%d by %q", a.status, version)
				}
			}
			s.becomes(2, tc.state)
			if m := s.model1(); (tc.state == "canary") != (m.Shadow.Compared >= 20) {
				t.Errorf("%+v", m.Shadow)
			}
		})
	}
}

// What waits for the shadow's thread is bounded, and offering allocates nothing.
func TestShadowQueueIsBounded(t *testing.T) {
	a := newModels(slog.New(slog.DiscardHandler))
	s := &shadow{of: a, info: &loader.Info{Model: "score", Number: 2}, version: &proxy.ModelVersion{Inputs: []string{"uv", "pv"}}, active: 1}
	s.share.Store(1 << 32)
	by := &proxy.ModelVersion{Number: 1, Inputs: []string{"pv", "uv"}}
	offer := func() { s.Offer("acme", by, []float64{3, 10}, []float64{1}) }
	for range maxShadowQueue + 7 {
		offer()
	}
	if n := s.Skips(policy.SkipBusy); n != 7 {
		t.Errorf("%d were skipped as busy, want 7", n)
	}
	if q := <-a.studies.queue; q.n != 2 || q.values[0] != 10 || q.values[1] != 3 || q.tenant != "acme" || q.answer != 1 {
		t.Errorf("%+v: inputs are found by name", q)
	}
	if n := testing.AllocsPerRun(100, offer); n != 0 {
		t.Errorf("%v allocations", n)
	}
	waiting := len(a.studies.queue)
	<-a.studies.queue
	s.Offer("acme", &proxy.ModelVersion{Number: 3, Inputs: by.Inputs}, []float64{3, 10}, []float64{1})
	if n := len(a.studies.queue); n != waiting-1 {
		t.Errorf("%d wait, want %d: the answer of a version that it is not compared with was taken", n, waiting-1)
	}
	s.Offer("acme", &proxy.ModelVersion{Number: 1, Inputs: []string{"uv"}}, []float64{1}, []float64{1})
	if n := s.Skips(policy.SkipInputs); n != 1 {
		t.Errorf("%d without their inputs, want 1", n)
	}
}

// A version that cannot be computed from what the active one is computed from is
// refused by what is in the way, not put in shadow for nothing.
func TestWhatCannotBeInShadow(t *testing.T) {
	dir := t.TempDir()
	s := newStand(t, standConfig{models: modelsConfig{dir: dir, store: t.TempDir()}})
	dropManifest(t, dir, 1, weights{2, 1}, nil)
	s.becomes(1, "active")
	dropManifest(t, dir, 2, weights{2, 1}, func(m *delta.Manifest) {
		m.Shadow = &delta.DefaultShadow
		m.Eval.Input = map[string]delta.Input{"uv": {Metric: "uv"}, "pv": {Metric: "clicks"}}
	})
	const why = "shadow: score@2: cannot be computed in shadow: eval.input: it wants clicks, which score@1 is not computed from"
	for !strings.Contains(s.admin("/models"), why) {
		runtime.Gosched()
	}
	eval := func([]float64) (float64, error) { return 0, nil }
	one := &proxy.ModelVersion{Name: "score@1", Inputs: []string{"uv", "pv"}, Names: []string{"uv", "pv"}, Eval: eval}
	for name, tc := range map[string]struct {
		shadow any
		want   string
	}{
		"routed":      {&proxy.ModelVersion{Name: "score@2"}, "the upstream computes it"},
		"fewer":       {&proxy.ModelVersion{Inputs: []string{"pv"}, Names: []string{"pv"}, Eval: eval}, ""},
		"other order": {&proxy.ModelVersion{Inputs: []string{"pv", "uv"}, Names: []string{"pv", "uv"}, Eval: eval}, ""},
		"another source": {&proxy.ModelVersion{
			Inputs: []string{"uv"}, Names: []string{"u"}, Eval: eval, Sources: []proxy.ModelSource{{Metric: "u", Field: "v"}},
		}, "it makes another number of uv than score@1 does"},
		"other rows": {
			&proxy.ModelVersion{Inputs: []string{"uv"}, Names: []string{"uv"}, Eval: eval, Rows: "series"},
			`eval.rows: it is "series", that of score@1 is "", so it answers other queries`,
		},
		"other reading": {&proxy.ModelVersion{
			Inputs: []string{"uv"}, Names: []string{"u"}, Eval: eval, Sources: []proxy.ModelSource{{Metric: "uv", Field: "value", Meaning: "of 3 categories"}},
		}, "eval.schema.u: it makes another number of uv than score@1 does"},
	} {
		err := canShadow(tc.shadow, one)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// What a worker pays for a query that is compared.
func BenchmarkShadowOffer(b *testing.B) {
	a := newModels(slog.New(slog.DiscardHandler))
	v := &proxy.ModelVersion{Inputs: []string{"uv", "pv"}}
	s := &shadow{of: a, info: &loader.Info{Model: "score", Number: 2}, version: v}
	s.share.Store(1 << 32)
	values, answers := []float64{3, 10}, []float64{1}
	b.ReportAllocs()
	for b.Loop() {
		s.Offer("acme", v, values, answers)
		<-a.studies.queue
	}
}
