package wake

import (
	"strings"
	"testing"
	"time"
)

// TestMeasure: every way brings its samples, and the table shows them all.
func TestMeasure(t *testing.T) {
	r, err := Measure(t.Context(), Options{Samples: 50})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Ways) != 6 || r.Procs < 2 {
		t.Fatalf("%d ways on %d Ps, want 6 on at least 2", len(r.Ways), r.Procs)
	}
	var b strings.Builder
	if err := r.Table().Text(&b); err != nil {
		t.Fatal(err)
	}
	for _, w := range r.Ways {
		if w.P50 <= 0 || w.P99 < w.P50 {
			t.Errorf("%s: p50 %v, p99 %v", w.Name, w.P50, w.P99)
		}
		if !strings.Contains(b.String(), w.Name) {
			t.Errorf("%s is not in the table", w.Name)
		}
	}
}

func TestQuantile(t *testing.T) {
	var d []time.Duration
	if quantile(d, 50) != 0 {
		t.Error("nothing has a median")
	}
	for i := range 100 {
		d = append(d, time.Duration(i+1))
	}
	if quantile(d, 50) != 51 || quantile(d, 99) != 100 || quantile(d, 100) != 100 {
		t.Errorf("quantiles %d, %d, %d", quantile(d, 50), quantile(d, 99), quantile(d, 100))
	}
}
