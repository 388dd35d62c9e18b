package contest

import (
	"fmt"
	"math"

	"github.com/quadnine/quadnine/bench/grid"
	"github.com/quadnine/quadnine/bench/rivals"
	"github.com/quadnine/quadnine/bench/stat"
)

// Goal is a bound that the product is held to, and what this run came to.
type Goal struct {
	Case  string        `json:"case"`
	What  string        `json:"what"`
	Bound string        `json:"bound"`
	Got   stat.Interval `json:"got"`            // a value without an interval has all three alike
	Unit  string        `json:"unit,omitempty"` // of a value that is no ratio
	Met   bool          `json:"met"`
	Why   string        `json:"why,omitempty"` // there is no figure, which is no goal met
}

// judge returns the goals that this run can say something about.
func judge(r *Report) []Goal {
	out := make([]Goal, 0, 20)
	for _, name := range []string{caseStatic, caseUnique} {
		res := r.result(name)
		out = append(out, atMost(res, "quadnine / plain TCP", rivals.NameQuadnine, rivals.NameFloor, cpu, 5)...)
		out = append(out, atLeast(res, "Envoy full / quadnine", rivals.NameEnvoy, 15)...)
		out = append(out, atLeast(res, "HAProxy / quadnine", rivals.NameHAProxy, 3)...)
		out = append(out, atLeast(res, "nginx / quadnine", rivals.NameNginx, 8)...)
	}
	out = append(out, atLeast(r.result(caseTLS), "Envoy full / quadnine", rivals.NameEnvoy, 2)...)
	for _, g := range atMost(r.result(caseUnbatched), "quadnine / plain TCP, upper bound of the interval", rivals.NameQuadnine, rivals.NameFloor, cpu, 1.25) {
		g.Met = g.Why == "" && g.Got.High <= 1.25
		out = append(out, g)
	}
	low := r.result(caseLow)
	out = append(out, bestOf(low, "CPU: quadnine / best of HAProxy, nginx, h2o", cpu)...)
	out = append(out, bestOf(low, "median latency: quadnine / best of HAProxy, nginx, h2o", p50)...)
	out = append(out, curve(r.result(caseShards), "two shards / one", 2, 1.15)...)
	out = append(out, curve(r.result(caseRoutes), "10,000 routes / one", 10_000, 1.1)...)
	out = append(out, curve(r.result(caseClusters), "1,000 clusters / one", 1_000, 1.1)...)
	out = append(out, curve(r.result(caseKeys), "65,536 keys / one", 65_536, 1.1)...)
	out = append(out, value(r.result(caseIdle), "of a core", busy, 0.1, "%")...)
	out = append(out, value(r.result(caseFresh), "RssAnon", anon, 12, "MB")...)
	out = append(out, value(r.result(caseThousand), "RssAnon", anon, 25, "MB")...)
	return out
}

// ratio returns what a is of b, round by round; ok is false when one of the two has
// no figure.
func ratio(res *Result, a, b string, of func(Sample) float64) (got stat.Interval, ok bool) {
	if x, y := res.cell(a), res.cell(b); x.judged() && y.judged() {
		got = stat.Ratio(x.values(of), y.values(of))
	}
	return got, got.Ratio > 0
}

func atMost(res *Result, what, a, b string, of func(Sample) float64, bound float64) []Goal {
	g := Goal{What: what, Bound: "≤ " + grid.Number(bound)}
	return g.ratio(res, a, b, of, func(r float64) bool { return r <= bound })
}

func atLeast(res *Result, what, rival string, bound float64) []Goal {
	g := Goal{What: what, Bound: "≥ " + grid.Number(bound)}
	return g.ratio(res, rival, rivals.NameQuadnine, cpu, func(r float64) bool { return r >= bound })
}

// ratio fills in what a is of b. The goal is left out when the case did not run or
// one of the two was not asked to take part; when one failed or fell behind, it
// stays, and is missed.
func (g Goal) ratio(res *Result, a, b string, of func(Sample) float64, met func(float64) bool) []Goal {
	if res == nil || !res.has(a) || !res.has(b) {
		return nil
	}
	g.Case = res.Title
	got, ok := ratio(res, a, b, of)
	if !ok {
		for _, name := range []string{b, a} {
			if !res.cell(name).judged() {
				g.Why = "no figure of " + name
			}
		}
		return []Goal{g}
	}
	g.Got, g.Met = got, met(got.Ratio)
	return []Goal{g}
}

// bestOf compares quadnine with the best of three.
func bestOf(res *Result, what string, of func(Sample) float64) []Goal {
	best, least := "", math.Inf(1)
	for _, name := range []string{rivals.NameHAProxy, rivals.NameNginx, rivals.NameH2O} {
		if c := res.cell(name); c.judged() && c.median(of) < least {
			best, least = name, c.median(of)
		} else if best == "" && res.has(name) {
			best = name // the goal stays, without a figure
		}
	}
	return atMost(res, what, rivals.NameQuadnine, best, of, 1)
}

// curve compares many with one.
func curve(res *Result, what string, many int, bound float64) []Goal {
	return atMost(res, what, thousands(many), "1", cpu, bound)
}

// value holds quadnine's median against a bound.
func value(res *Result, what string, of func(Sample) float64, bound float64, unit string) []Goal {
	c := res.cell(rivals.NameQuadnine)
	if !res.has(c.Rival) {
		return nil
	}
	g := Goal{Case: res.Title, What: what, Bound: "≤ " + grid.Number(bound) + " " + unit, Unit: unit}
	if !c.judged() {
		g.Why = "no figure of " + c.Rival
		return []Goal{g}
	}
	m := c.median(of)
	g.Got, g.Met = stat.Interval{Ratio: m, Low: m, High: m}, m <= bound
	return []Goal{g}
}

// String writes what a goal came to.
func (g Goal) String() string {
	if g.Why != "" {
		return "– " + g.Why
	}
	if g.Unit != "" {
		return grid.Number(g.Got.Ratio) + " " + g.Unit
	}
	return fmt.Sprintf("%.2f [%.2f-%.2f]", g.Got.Ratio, g.Got.Low, g.Got.High)
}
