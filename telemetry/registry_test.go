package telemetry

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func scrapeText(t *testing.T, r *Registry) string {
	t.Helper()
	w := scrapeOnce(r.Handler(), acceptText)
	if w.Code != 200 {
		t.Fatalf("scrape: %d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestGaugeIsReadAtEachScrape(t *testing.T) {
	r := NewRegistry()
	if got := scrapeText(t, r); strings.Contains(got, "quadnine_cache_entries") {
		t.Fatalf("a gauge that nothing feeds is exposed:\n%s", got)
	}
	n := 0.0
	r.Gauge(CacheEntries, func() float64 { n++; return n })
	for _, want := range []string{"\nquadnine_cache_entries 1\n", "\nquadnine_cache_entries 2\n"} {
		if got := scrapeText(t, r); !strings.Contains(got, want) {
			t.Fatalf("no %q in\n%s", want, got)
		}
	}
	r.Gauge(CacheEntries, func() float64 { return 40 })
	if got := scrapeText(t, r); !strings.Contains(got, "\nquadnine_cache_entries 40\n") {
		t.Fatalf("the later source did not replace the earlier:\n%s", got)
	}
}

func TestBadSamplesHarmNoOthers(t *testing.T) {
	r := NewRegistry()
	r.Gauges(EndpointHealthy, func(yield func(Sample) bool) {
		for _, s := range []Sample{
			{[]string{"a", "1:80"}, 1},
			{[]string{"a", "1:80"}, 0},     // repeated: would fail the scrape
			{[]string{"a"}, 0},             // too few
			{[]string{"a", "\xff"}, 0},     // not UTF-8
			{[]string{"a", "2:80\"\n"}, 0}, // odd, and fine
		} {
			if !yield(s) {
				return
			}
		}
	})
	got := scrapeText(t, r)
	for _, want := range []string{
		`quadnine_endpoint_healthy{cluster="a",endpoint="1:80"} 1` + "\n",
		`quadnine_endpoint_healthy{cluster="a",endpoint="2:80\"\n"} 0` + "\n",
		"quadnine_telemetry_samples_dropped_total 3\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if n := strings.Count(got, "quadnine_endpoint_healthy{"); n != 2 {
		t.Errorf("%d samples are exposed, want 2", n)
	}
}

func TestPanickingGaugeHarmsNoOthers(t *testing.T) {
	r := NewRegistry()
	var out bytes.Buffer
	r.logger.Store(slog.New(slog.NewTextHandler(&out, nil)))
	r.Gauge(Ready, func() float64 { panic("no state") })
	r.Gauge(CacheBytes, func() float64 { return 7 })
	got := scrapeText(t, r)
	for _, want := range []string{"quadnine_cache_size_bytes 7\n", "quadnine_telemetry_samples_dropped_total 1\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	for _, want := range []string{"quadnine.ready", "no state", "registry_test.go"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in the log: %s", want, out.String())
		}
	}
}

func TestNamesOutOfRange(t *testing.T) {
	if Outcome(99).String() != "unknown" || DegradeStep(99).String() != "unknown" {
		t.Fatal("a value out of range has a name")
	}
	if OK.String() != "ok" || Canceled.String() != "canceled" || StepNone.String() != "none" || StepStale.String() != "stale" {
		t.Fatal("names are out of step with their values")
	}
}
