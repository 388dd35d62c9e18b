package xds

import (
	"strings"
	"testing"

	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
)

func TestPercentile(t *testing.T) {
	v := []float64{5, 1, 4, 2, 3}
	for p, want := range map[int]float64{1: 1, 50: 3, 90: 5, 100: 5} {
		if got := percentile(v, p); got != want {
			t.Errorf("percentile %d of %v is %v, want %v", p, v, got, want)
		}
	}
	if v[0] != 5 {
		t.Error("the samples were sorted in place")
	}
	if percentile(nil, 50) != 0 {
		t.Error("a percentile of nothing")
	}
}

func TestPrint(t *testing.T) {
	r := Report{Samples: 57, Changes: []Change{
		{Size: "2 clusters", Variant: "GRPC", Change: "route edit", Goal: 1.2, Ratio: 0.5, Proxies: []Result{{Name: envoy, P50: 2, P90: 3, ServerP50: 0.25}, {Name: quadnine, P50: 1, P90: 1.5, ServerP50: 0.5}}},
		{Size: "2 clusters", Variant: "DELTA_GRPC", Change: swap, Proxies: []Result{{Name: envoy, Bad: 31}, {Name: quadnine}}},
	}, Rates: []Rate{{Name: envoy, First: 10, Last: 1, Ratio: 0.1, Goal: 0.9}, {Name: quadnine, First: 10, Last: 9, Ratio: 0.9, Goal: 0.9}}}
	var b strings.Builder
	if err := r.Print(&b, "a machine"); err != nil {
		t.Fatal(err)
	}
	lines := make(map[string]bool)
	for l := range strings.Lines(b.String()) {
		lines[strings.Join(strings.Fields(l), " ")] = true
	}
	for _, want := range []string{
		"2 clusters SotW route edit 2.0 (3.0) 1.0 (1.5) 0.50 ≤ 1.2 0.2, 0.5",
		"2 clusters delta swap of cluster, endpoints and route 0.0 (0.0) 0.0 (0.0) 0.00 0.0, 0.0 31 0",
		"Envoy 10 1 0.10", "quadnine 10 9 0.90 ≥ 0.9",
	} {
		if !lines[want] {
			t.Errorf("no line %q in\n%s", want, b.String())
		}
	}
}

// A change replaces what it touches and nothing else: snapshots that were given
// away stay as they were.
func TestChangesLeaveEarlierSnapshotsAlone(t *testing.T) {
	w, err := newWorld(size{clusters: 3, routes: 4}, "127.0.0.1:1", [2]string{"127.0.0.1:2", "127.0.0.1:3"})
	if err != nil {
		t.Fatal(err)
	}
	first := w.snapshot()
	if !w.done(answer{200, "0", "0"}) {
		t.Error("the first configuration is not the newest")
	}
	for _, c := range changes() {
		before := w.snapshot()
		if err := c.make(w); err != nil {
			t.Fatal(err)
		}
		after := w.snapshot()
		var changed []string
		for i := range before.Resources {
			if before.Resources[i].Version != after.Resources[i].Version {
				changed = append(changed, map[int]string{int(types.Endpoint): "endpoints", int(types.Cluster): "cluster", int(types.Route): "route"}[i])
			}
		}
		want := map[string]string{"route edit": "route", "endpoint edit": "endpoints", swap: "cluster endpoints route"}[c.name]
		if got := strings.Join(changed, " "); got != want {
			t.Errorf("%s changes %q, want %q", c.name, got, want)
		}
	}
	if _, ok := first.Resources[types.Cluster].Items["probe"]; !ok {
		t.Error("the first snapshot lost its cluster")
	}
	if w.done(answer{200, "0", "0"}) {
		t.Error("an answer of the first configuration passes for one of the newest")
	}
}
