package loader

import (
	"fmt"
	"math"

	"github.com/quadnine/quadnine/bench/grid"
	"github.com/quadnine/quadnine/bench/stat"
)

// Goal is a bound that the loader is held to, and what this run came to.
type Goal struct {
	Pair  string        `json:"pair"`
	What  string        `json:"what"`
	Bound string        `json:"bound"`
	Got   stat.Interval `json:"got"` // a value without an interval has all three alike
	Unit  string        `json:"unit,omitempty"`
	Met   bool          `json:"met"`
}

// entries are contests, found by pair and label.
type entries []*contest

func (rs entries) find(pair, label string) *contest {
	for _, c := range rs {
		if c.pair == pair && c.label == label {
			return c
		}
	}
	return &contest{}
}

// cheapest returns the bare hash of a pair's delta that takes the least CPU.
func (rs entries) cheapest(pair string) *contest {
	best, least := &contest{}, math.Inf(1)
	for _, label := range []string{grouped, bare, buffered} {
		c := rs.find(pair, label)
		if m := stat.Median(c.values(stepAll, cpu)); len(c.samples) > 0 && m < least {
			best, least = c, m
		}
	}
	return best
}

func cpu(c cost) float64  { return millis(c.CPU) }
func wall(c cost) float64 { return millis(c.Wall) }

// values returns what a step took in each round, in ms, extrapolated.
func (c *contest) values(step string, of func(cost) float64) []float64 {
	out := make([]float64, 0, len(c.samples))
	for _, s := range c.samples {
		out = append(out, max(c.times, 1)*of(s.Steps[step]))
	}
	return out
}

// judge holds the runs against the goals.
func judge(rs entries) []Goal {
	hashD, hashS := rs.cheapest("D"), rs.cheapest("S")
	in, out, scattered := rs.find("D", inPlace), rs.find("D", copied), rs.find("S", inPlace)
	ratio := func(pair, what string, a, b []float64, most bool, bound float64) Goal {
		g := Goal{Pair: pair, What: what, Bound: "≤ " + grid.Number(bound), Got: stat.Ratio(a, b)}
		g.Met = g.Got.Ratio > 0 && g.Got.Ratio <= bound
		if !most {
			g.Bound, g.Met = "≥ "+grid.Number(bound), g.Got.Ratio >= bound
		}
		return g
	}
	loadedCPU := in.values(stepLoaded, cpu)
	list := []Goal{
		ratio("D", "in place, rename → verified and mapped: CPU / bare BLAKE3", loadedCPU, hashD.values(stepAll, cpu), true, 1.25),
		ratio("D", "copied, rename → verified and mapped: CPU / bare BLAKE3", out.values(stepLoaded, cpu), hashD.values(stepAll, cpu), true, 2),
		ratio("S", "in place, rename → verified and mapped: CPU / bare BLAKE3", scattered.values(stepLoaded, cpu), hashS.values(stepAll, cpu), true, 2.2),
		ratio("D", "in place, rename → verified and mapped: wall / wall of bare BLAKE3", in.values(stepLoaded, wall), hashD.values(stepAll, wall), true, 1.3),
		ratio("D", "CPU of a full SHA-256 / in place", rs.find("D", wholeSHA).values(stepAll, cpu), loadedCPU, false, 40),
		ratio("D", "CPU of bsdiff4 apply (extrapolated) / in place", rs.find("D", bsdiffApply).values(stepAll, cpu), loadedCPU, false, 500),
		most(in, "D", "private memory added, in place", private, 4, "MB"),
		most(out, "D", "private memory added, copied", private, 4, "MB"),
	}
	for _, c := range []struct {
		name  string
		bound float64
	}{{callSwitch, 1000}, {callV1, 50}, {callV2, 50}} {
		list = append(list, most(rs.find("D", calls), "", c.name, func(s *sample) float64 { return s.Nanos[c.name] }, c.bound, "ns"))
	}
	nanos := func(what string) (out []float64) {
		for _, s := range rs.find("D", calls).samples {
			out = append(out, s.Nanos[what])
		}
		return out
	}
	list = append(list,
		ratio("", "trees: leaves / from mapped bytes", nanos(callLeaves), nanos(callTrees), false, 2),
		ratio("", "trees, a value missing: leaves / from mapped bytes", nanos(leavesGone), nanos(callMissing), false, 2))
	return list
}

// medianOf returns the median of one of the samples' figures.
func (c *contest) medianOf(of func(*sample) float64) float64 {
	out := make([]float64, 0, len(c.samples))
	for i := range c.samples {
		out = append(out, of(&c.samples[i]))
	}
	return stat.Median(out)
}

func private(s *sample) float64 { return float64(s.Private) / 1e6 }

// most holds the median of one of c's figures against a bound.
func most(c *contest, pair, what string, of func(*sample) float64, bound float64, unit string) Goal {
	got := c.medianOf(of)
	return Goal{
		Pair: pair, What: what, Bound: "≤ " + grid.Number(bound) + " " + unit, Got: stat.Interval{Ratio: got, Low: got, High: got}, Unit: unit,
		Met: len(c.samples) > 0 && got <= bound,
	}
}

// String writes what a goal came to.
func (g Goal) String() string {
	if g.Unit != "" {
		return grid.Number(g.Got.Ratio) + " " + g.Unit
	}
	return fmt.Sprintf("%.2f [%.2f-%.2f]", g.Got.Ratio, g.Got.Low, g.Got.High)
}

func (r *Report) goals() *grid.Table {
	t := grid.Goals("Goals of the loader", "Ratios with the interval that holds them with 95 % confidence, over the interleaved rounds.", "pair")
	for _, g := range r.Goals {
		t.AddGoal(g.Pair, g.What, g.Bound, g.String(), g.Met)
	}
	return t
}
