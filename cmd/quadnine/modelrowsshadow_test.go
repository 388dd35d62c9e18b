package main

import (
	"log/slog"
	"math"
	"net/http"
	"slices"
	"testing"

	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/proxy"
)

// TestRowsInShadow: a query of several rows is compared once, with the numbers of all
// its rows.
func TestRowsInShadow(t *testing.T) {
	dir := t.TempDir()
	s := newStand(t, standConfig{models: modelsConfig{dir: dir, store: t.TempDir()}})
	inRows := func(m *delta.Manifest) { m.Eval.Rows = "rows" }
	dropManifest(t, dir, 1, weights{2, 1}, inRows)
	s.becomes(1, "active")
	dropManifest(t, dir, 2, weights{3, 1}, func(m *delta.Manifest) {
		inRows(m)
		m.Shadow = &delta.Shadow{Percent: 100}
	})
	s.becomes(2, "shadow")
	c := s.client(true)
	worst, mean := 0.0, 0.0
	for range 3 {
		got := s.rows(c, http.MethodGet, "tenant=acme&metric=score"+byHours)
		if got.status != http.StatusOK || got.header.Get("X-Quadnine-Model") != "score@1" {
			t.Fatalf("%d %.300q", got.status, got.body)
		}
		worst, mean = 0, 0
		for r := range got.Rows {
			ratio := *got.Inputs["uv"][r] / *got.Inputs["pv"][r]
			worst, mean = max(worst, ratio), mean+ratio/24
		}
	}
	m := s.model1()
	for m.Shadow.Compared < 3 {
		m = s.model1()
	}
	if d := m.Shadow; d.Compared != 3 || d.Equal != 0 || d.Failed != 0 || math.Abs(d.Absolute.Max-worst) > 1e-12 || math.Abs(d.Bias-mean) > 1e-9 {
		t.Errorf("%+v, want 3 compared, the worst row's difference %v, a bias of %v", d, worst, mean)
	}
}

// What waits for the shadow's thread is bounded in numbers, too, and what was taken is
// given back.
func TestShadowRowsAreBounded(t *testing.T) {
	a := newModels(slog.New(slog.DiscardHandler))
	by := &proxy.ModelVersion{Number: 1, Inputs: []string{"pv", "uv"}}
	s := &shadow{of: a, info: &loader.Info{Model: "score", Number: 2}, version: &proxy.ModelVersion{Inputs: []string{"uv", "pv"}}, active: 1}
	s.share.Store(1 << 32)
	s.Offer("acme", by, []float64{3, 10, 4, 20}, []float64{1, 2})
	if q := <-a.studies.queue; q.n != 2 || !slices.Equal(q.rows, []float64{10, 3, 20, 4}) || !slices.Equal(q.answers, []float64{1, 2}) || q.numbers() != 6 || a.studies.numbers.Load() != 6 {
		t.Errorf("%+v of %d numbers", q, a.studies.numbers.Load())
	}
	a.studies.numbers.Store(0)
	const n = 1 << 13
	rows, answers := make([]float64, 2*n), make([]float64, n)
	const room = maxShadowNumbers / (3 * n)
	for range room + 5 {
		s.Offer("acme", by, rows, answers)
	}
	if skipped, waiting := s.Skips(policy.SkipBusy), len(a.studies.queue); skipped != 5 || waiting != room || a.studies.numbers.Load() > maxShadowNumbers {
		t.Errorf("%d were skipped as busy, want 5; %d wait", skipped, waiting)
	}
	for len(a.studies.queue) > 0 {
		q := <-a.studies.queue
		a.studies.numbers.Add(-q.numbers())
	}
	if left := a.studies.numbers.Load(); left != 0 {
		t.Errorf("%d numbers are left", left)
	}
	s.Offer("acme", &proxy.ModelVersion{Number: 1, Inputs: by.Inputs, Rows: "rows"}, []float64{3, 10}, []float64{1}) // active after a rollback
	if n := s.Skips(policy.SkipInputs); n != 1 || len(a.studies.queue) != 0 {
		t.Errorf("%d were skipped for their inputs, want the one of another eval.rows", n)
	}
	for range maxShadowQueue + 1 { // a full queue keeps nothing of what it refuses
		s.Offer("acme", by, []float64{3, 10, 4, 20}, []float64{1, 2})
	}
	if got := a.studies.numbers.Load(); got != 6*maxShadowQueue {
		t.Errorf("%d numbers are counted, %d wait", got, 6*maxShadowQueue)
	}
}
