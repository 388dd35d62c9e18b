package contest

import (
	"bytes"
	"embed"
	"fmt"
	"text/template"
	"time"

	"github.com/quadnine/quadnine/bench/load/driver"
	"github.com/quadnine/quadnine/bench/rivals"
)

//go:embed curve.yaml
var files embed.FS

// curves are the cases that put quadnine beside itself: with more shards, routes,
// clusters and keys.
func curves() []*testCase {
	list := make([]*testCase, 0, 4)
	list = append(list, &testCase{
		name: caseShards, title: "shards, at 40,000/s", kind: Curves, rounds: 9, length: time.Second,
		stand: &standSpec{name: caseShards, mode: rivals.Plain, body: 200, bothCPUs: true, own: true, entrants: func() []entrantSpec {
			return []entrantSpec{
				{Rival: rivals.Variant("1", "", "--shards", "1")},
				{Rival: rivals.Variant("2", "", "--shards", "2")},
			}
		}},
		load: drive{plan(100, unique, at(40_000))},
	})
	for _, c := range []struct {
		name   string
		counts []int
		of     func(n int) entrantSpec
	}{
		{caseRoutes, []int{1, 100, 10_000}, withRoutes},
		{caseClusters, []int{1, 100, 1_000}, withClusters},
		{caseKeys, []int{1, 1_024, 65_536}, withKeys},
	} {
		list = append(list, &testCase{
			name: c.name, title: c.name + ", saturated", kind: Curves, rounds: 7, length: time.Second,
			stand: &standSpec{name: c.name, mode: rivals.Plain, body: 200, own: true, entrants: func() []entrantSpec {
				out := make([]entrantSpec, 0, len(c.counts))
				for _, n := range c.counts {
					out = append(out, c.of(n))
				}
				return out
			}},
			load: drive{plan(streams, unique)},
		})
	}
	return list
}

// withRoutes is quadnine with n routes, of which the last one is asked for.
func withRoutes(n int) entrantSpec { return bootstrapped(n, n, 1) }

// withClusters is quadnine with n clusters, each with an endpoint and a route; the
// last one is asked for.
func withClusters(n int) entrantSpec { return bootstrapped(n, n, n) }

// withKeys is quadnine asked for n tenants and metrics: up to 256 tenants with the
// same number of metrics each.
func withKeys(n int) entrantSpec {
	return entrantSpec{
		Rival: rivals.Variant(thousands(n), ""),
		tune: func(p *driver.Plan) {
			p.Tenants = min(n, 256)
			p.Metrics = max(1, n/256)
		},
	}
}

// bootstrapped is quadnine with routes and clusters from a bootstrap file.
func bootstrapped(n, routes, clusters int) entrantSpec {
	return entrantSpec{Rival: rivals.Bootstrapped(thousands(n), func(c rivals.Config) ([]byte, error) {
		t, err := template.ParseFS(files, "curve.yaml")
		if err != nil {
			return nil, fmt.Errorf("contest: %w", err)
		}
		var b bytes.Buffer
		if err := t.Execute(&b, map[string]any{"Config": c, "Routes": routes - 1, "Clusters": clusters - 1, "Path": rivals.QueryPath}); err != nil {
			return nil, fmt.Errorf("contest: %w", err)
		}
		return b.Bytes(), nil
	})}
}
