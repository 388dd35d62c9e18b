package main

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/quadnine/quadnine/console"
	"github.com/quadnine/quadnine/examples/statsapp"
	"github.com/quadnine/quadnine/loader/delta"
)

// dropManifest writes a full drop of version n into dir, of an embedded model; what
// change does not say is as dropVersion has it, active at once.
func dropManifest(t *testing.T, dir string, n uint64, w weights, change func(*delta.Manifest)) {
	t.Helper()
	drop := filepath.Join(dir, "v"+strconv.FormatUint(n, 10))
	if err := os.MkdirAll(drop, 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(drop)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	p := delta.Pack{Manifest: delta.Manifest{
		Model: "score", Version: n, SchemaVersion: 1, Canary: &delta.Canary{},
		Eval: &delta.Eval{
			Kind: delta.EvalRatio, Metric: "score",
			Input:   map[string]delta.Input{"uv": {Metric: "uv"}, "pv": {Metric: "pv"}},
			Weights: map[string]string{"scale": "scale", "bias": "bias"},
		},
	}}
	if change != nil {
		change(&p.Manifest)
	}
	if _, err := p.Full(t.Context(), root, bytes.NewReader(w.file(t))); err != nil {
		t.Fatal(err)
	}
}

// model1 returns the model score as /models shows it.
func (s *stand) model1() console.Model {
	s.t.Helper()
	var list modelList
	if err := json.Unmarshal([]byte(s.admin("/models?format=json")), &list); err != nil {
		s.t.Fatal(err)
	}
	for _, m := range list.Models {
		if m.Name == "score" {
			return m
		}
	}
	return console.Model{}
}

// becomes waits until version n is in a state, and computed beside the active one
// where that is the state: requests learn of it a little later.
func (s *stand) becomes(n uint64, state string) {
	s.t.Helper()
	beside := func() bool {
		b := s.model1().Shadow
		return b != nil && b.Version == n && !b.Over
	}
	for !s.modelState(n, state) || state == "shadow" && !beside() {
		runtime.Gosched()
	}
}

// acmeRatio is uv/pv of acme, as the app has it.
func (s *stand) acmeRatio() float64 {
	s.t.Helper()
	var v [2]float64
	for i, metric := range []string{"uv", "pv"} {
		got, err := s.app.Query(statsapp.Query{Tenant: "acme", Metric: metric, To: statsapp.MaxTime})
		if err != nil {
			s.t.Fatal(err)
		}
		v[i] = got.Value
	}
	return v[0] / v[1]
}

func TestWarmUp(t *testing.T) {
	dir := t.TempDir()
	s := newStand(t, standConfig{models: modelsConfig{dir: dir, store: t.TempDir()}})
	c := s.client(true)
	ask := func(uv, pv, low, high float64) delta.Warmup {
		return delta.Warmup{Input: map[string]float64{"uv": uv, "pv": pv}, Min: &low, Max: &high}
	}
	dropManifest(t, dir, 1, weights{2, 1}, func(m *delta.Manifest) {
		m.Warmup = []delta.Warmup{ask(1, 2, 2, 2), ask(0, 0, 1, 1), {Input: map[string]float64{"uv": 5, "pv": 1}}}
	})
	s.becomes(1, "active")
	for n, tc := range map[uint64]struct {
		w    weights
		want string
	}{
		2: {weights{3, 1}, "warmup[0]: score@2 answers 2.5, max is 2"},
		3: {weights{1, 1}, "warmup[0]: score@3 answers 1.5, min is 2"},
		4: {weights{math.NaN(), 1}, "warmup[0]: model: score@4: result not finite"},
	} {
		dropManifest(t, dir, n, tc.w, func(m *delta.Manifest) { m.Warmup = []delta.Warmup{ask(1, 2, 2, 2)} })
		for !strings.Contains(s.admin("/models"), tc.want) {
			runtime.Gosched()
		}
	}
	if _, version, _ := s.score(c, "u"); version != "score@1" {
		t.Errorf("%s answers", version)
	}
	stats := s.admin("/stats/prometheus")
	for result, want := range map[string]float64{"answered": 3, "failed": 3} {
		if n := sample(t, stats, `quadnine_model_warmups_total{result="`+result+`"}`); n != want {
			t.Errorf("%s: %v, want %v", result, n, want)
		}
	}
}
