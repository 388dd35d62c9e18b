package differential

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// size returns how many bytes the files below a state directory have.
func size(dir string) (n int64) {
	_ = filepath.WalkDir(filepath.Join(dir, "state"), func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // a file that is being replaced
		}
		if i, err := d.Info(); err == nil && i.Mode().IsRegular() {
			n += i.Size()
		}
		return nil
	})
	return n
}

// swap is a configuration whose generation shows in all names: cluster,
// endpoints and routes change in one snapshot. extra clusters and routes stand
// beside it and stay the same.
func swap(generation, extraClusters, extraRoutes int) part {
	name := fmt.Sprintf("g%d", generation)
	p := part{
		clusters:  []string{edsCluster(name, "")},
		endpoints: []string{assign(name, lb(fmt.Sprintf("b%d", generation%6), ""))},
	}
	for i := range extraClusters {
		n := fmt.Sprintf("extra%d", i)
		p.clusters = append(p.clusters, edsCluster(n, ""))
		p.endpoints = append(p.endpoints, assign(n, lb(fmt.Sprintf("b%d", i%6), "")))
	}
	var b strings.Builder
	b.WriteString("[")
	for i := range extraRoutes {
		fmt.Fprintf(&b, "%s,", to(fmt.Sprintf("path: /extra/%d", i), fmt.Sprintf("extra%d", i%max(1, extraClusters))))
	}
	b.WriteString(to("prefix: /", name) + "]")
	p.routes = b.String()
	return p
}

const swaps = 57

// TestSwap swaps cluster, endpoints and routes in one snapshot under load, as a
// user of SnapshotCache does: nothing that is sent to quadnine may fail.
func TestSwap(t *testing.T) {
	sizes := [][2]int{{1, 0}}
	if soak(0, 1) == 1 {
		sizes = append(sizes, [2]int{1000, 10_000})
	}
	for variant := range variants {
		for _, n := range sizes {
			t.Run(fmt.Sprintf("%s %d clusters %d routes", variant, n[0]+1, n[1]+1), func(t *testing.T) {
				s := newStand(t, variant)
				s.run(t, []trial{{"swaps", []step{{part: swap(0, n[0], n[1]), do: func(t *testing.T, s *stand) {
					t.Helper()
					var stops []func() (map[string]int, int)
					for _, x := range s.both() {
						stops = append(stops, x.load(t, "/"))
					}
					for g := 1; g <= swaps; g++ {
						s.push(t, step{part: swap(g, n[0], n[1])})
						if t.Failed() {
							break
						}
					}
					for i, x := range s.both() {
						bad, sent := stops[i]()
						t.Logf("%s: %d requests during %d swaps, not 200: %v", x.node, sent, swaps, bad)
						if len(bad) > 0 && x == s.ours && !self {
							t.Errorf("%s: %d requests, not 200: %v", x.node, sent, bad)
						}
						x.eventually(t, get("/"), fmt.Sprintf("200 b%d", swaps%6))
					}
				}}}}})
			})
		}
	}
}
