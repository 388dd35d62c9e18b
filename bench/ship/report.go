package ship

import (
	"fmt"
	"strconv"
	"time"

	"github.com/quadnine/quadnine/bench/grid"
	"github.com/quadnine/quadnine/bench/stat"
)

// Report is what was measured.
type Report struct {
	Rounds [][ways]Run `json:"rounds"` // in each: nothing shipped, activations, the two dummies
}

// of returns a figure of one way, by round.
func (r *Report) of(way int, f func(Run) float64) (out []float64) {
	for _, got := range r.Rounds {
		out = append(out, f(got[way]))
	}
	return out
}

// Shift is the 99th percentile with activations over that with the dummy at nice 19,
// over the rounds as pairs.
func (r *Report) Shift() stat.Interval { return r.beside(dummy) }

// beside is the 99th percentile with activations over that of another way.
func (r *Report) beside(way int) stat.Interval {
	p99 := func(x Run) float64 { return float64(x.Latency.P99) }
	return stat.Ratio(r.of(ships, p99), r.of(way, p99))
}

// Met reports that no shift beyond the dummy's was seen: the interval reaches 1.
func (r *Report) Met() bool { return len(r.Rounds) > 0 && r.Shift().Low <= 1 }

// Tables returns what is printed.
func (r *Report) Tables() []*grid.Table {
	shift, beyond, verdict := r.Shift(), r.beside(gentle), "missed"
	if r.Met() {
		verdict = "met"
	}
	late := stat.Median(r.of(ships, func(x Run) float64 { return float64(x.Late) }))
	t := &grid.Table{
		Title: "What requests notice of activations",
		About: fmt.Sprintf("%d requests a second, open loop, %d rounds, medians; no request failed. Each of %d versions is a delta of 1 MB for a model of 16 MB, %v apart; %.0f of them were overtaken by the next. "+
			"The 99th percentile with activations is %.2f [%.2f-%.2f] of that beside a dummy that burns the same CPU at nice 19; the goal, that it is not above it, is %s. "+
			"Beside one that also has the loader's short slices it is %.2f [%.2f-%.2f].",
			rate, len(r.Rounds), activations, pace, late, shift.Ratio, shift.Low, shift.High, verdict, beyond.Ratio, beyond.Low, beyond.High),
		Header: []string{"meanwhile", "p50 µs", "p90 µs", "p99 µs", "worst µs", "CPU ms"},
	}
	for way, name := range wayNames {
		micros := func(f func(Run) time.Duration) string {
			return strconv.FormatFloat(stat.Median(r.of(way, func(x Run) float64 { return float64(f(x)) / 1e3 })), 'f', 0, 64)
		}
		t.Add(name,
			micros(func(x Run) time.Duration { return x.Latency.P50 }),
			micros(func(x Run) time.Duration { return x.Latency.P90 }),
			micros(func(x Run) time.Duration { return x.Latency.P99 }),
			micros(func(x Run) time.Duration { return x.Latency.Max }),
			micros(func(x Run) time.Duration { return x.CPU / 1000 }))
	}
	return []*grid.Table{t}
}
