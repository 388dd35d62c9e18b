package telemetry

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

const metricsPage = "../docs/metrics.md"

// TestMetricsPage compares docs/metrics.md with the catalog; UPDATE=1 rewrites
// it.
func TestMetricsPage(t *testing.T) {
	want := page()
	if os.Getenv("UPDATE") == "1" {
		if err := os.WriteFile(metricsPage, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(metricsPage)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%s is not what the catalog says: run UPDATE=1 go test ./telemetry", metricsPage)
	}
}

// page writes docs/metrics.md.
func page() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<!-- Generated from telemetry/catalog.go: UPDATE=1 go test ./telemetry -->
# Metrics

Every number that a sidecar exposes. Prometheus reads them from /stats/prometheus on the admin address; with OTLP
configured the same numbers are exported under their OpenTelemetry names, with their labels as attributes.

- outcome is one of %s. Each finished request counts under exactly one.
- step is one of %s, as in the header x-quadnine-degraded.
- The first %d tenants that a process sees have series of their own; the rest, and those whose name is longer than
  %d bytes or not UTF-8, share tenant="_other". A tenant taken from a plain header is only what the caller claims.
- http_server_request_duration_seconds has classic buckets from %v to %v s and, for scrapers that ask for the
  protobuf format, native ones (schema %d). A request that a classic bound cannot tell apart counts above it: shares
  are off by at most 6.25 %% of the bound's value, and never flattering.
- Counters run from the start of the process. A gauge is absent while nothing feeds it.

| Prometheus | OpenTelemetry | kind | unit | labels | meaning |
|---|---|---|---|---|---|
`, strings.Join(outcomeNames[:], ", "), strings.Join(stepNames[1:], ", "), MaxTenants, maxTenantLen,
		classicBounds[0], classicBounds[len(classicBounds)-1], nativeSchema)
	for _, in := range Catalog() {
		labels := make([]string, len(in.Labels))
		for i, l := range in.Labels {
			labels[i] = PrometheusLabel(l)
			if len(in.series) > 0 {
				var values []string
				for _, f := range in.series {
					values = append(values, f.values[i])
				}
				labels[i] += " (" + strings.Join(values, ", ") + ")"
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n",
			in.Prometheus(), in.Name, in.Kind, in.Unit, strings.Join(labels, ", "), in.Help)
	}
	return b.Bytes()
}

func TestCatalogIsWellFormed(t *testing.T) {
	name := regexp.MustCompile(`^(quadnine|http)(\.[a-z][a-z0-9_]*)+$`)
	label := regexp.MustCompile(`^[a-z][a-z0-9_.]*$`)
	unit := regexp.MustCompile(`^(s|By|\{[a-z]+\})$`)
	seen := make(map[string]bool)
	var ids []CounterID
	for _, in := range Catalog() {
		if !name.MatchString(in.Name) || !unit.MatchString(in.Unit) {
			t.Errorf("%s: name or unit %q is not in the form of the others", in.Name, in.Unit)
		}
		if seen[in.Prometheus()] {
			t.Errorf("%s: declared twice", in.Name)
		}
		seen[in.Prometheus()] = true
		if !strings.HasSuffix(in.Help, ".") || strings.ContainsAny(in.Help, "|\n") {
			t.Errorf("%s: help %q is not one sentence of a table", in.Name, in.Help)
		}
		for _, l := range in.Labels {
			if !label.MatchString(l) {
				t.Errorf("%s: label %q", in.Name, l)
			}
		}
		for _, f := range in.series {
			ids = append(ids, f.id)
			if len(f.values) != len(in.Labels) {
				t.Errorf("%s: values %v for the labels %v", in.Name, f.values, in.Labels)
			}
		}
	}
	slices.Sort(ids)
	for i, id := range ids {
		if int(id) != i {
			t.Fatalf("counter numbers %v are not 0 to %d", ids, len(ids)-1)
		}
	}
}

// TestCatalogAndExpositionAgree holds both together, in both directions: what
// is declared is exposed, with its type, help and labels, and nothing else is.
func TestCatalogAndExpositionAgree(t *testing.T) {
	r := populate(NewRegistry())
	pedantic := prometheus.NewPedanticRegistry() // compares what is collected with what was described
	pedantic.MustRegister(r.Collector())
	if _, err := pedantic.Gather(); err != nil {
		t.Fatal(err)
	}
	families := scrapeFamilies(t, r)
	for _, in := range Catalog() {
		f := families[in.Prometheus()]
		if f == nil {
			t.Errorf("%s is in the catalog and not exposed", in.Prometheus())
			continue
		}
		if got := strings.ToLower(f.GetType().String()); got != in.Kind.String() || f.GetHelp() != in.Help {
			t.Errorf("%s is exposed as %s %q, declared %s %q", in.Prometheus(), got, f.GetHelp(), in.Kind, in.Help)
		}
		for _, m := range f.GetMetric() {
			var got, want []string
			for _, l := range m.GetLabel() {
				got = append(got, l.GetName())
			}
			for _, l := range in.Labels {
				want = append(want, PrometheusLabel(l))
			}
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("%s has the labels %v, declared %v", in.Prometheus(), got, want)
			}
		}
		if want := max(len(in.series), 1); len(f.GetMetric()) < want {
			t.Errorf("%s has %d series, declared %d", in.Prometheus(), len(f.GetMetric()), want)
		}
		delete(families, in.Prometheus())
	}
	for name := range families {
		t.Errorf("%s is exposed and not in the catalog", name)
	}
}

// populate gives every instrument of r a value of its own.
func populate(r *Registry) *Registry {
	s := r.NewShard()
	s.Request("t-7", Degraded, StepStale, 3_000_000)
	s.Request("t-7", OK, StepNone, 500)
	for id := range book.counters {
		s.Count(CounterID(id), uint64(id)+1)
	}
	for id, in := range book.instruments {
		if in.Kind == Gauge {
			values := make([]string, len(in.Labels))
			for i, l := range in.Labels {
				values[i] = l + "-value"
			}
			r.Gauges(GaugesID(id), func(yield func(Sample) bool) { yield(Sample{values, float64(id) + 0.5}) })
		}
	}
	return r
}
