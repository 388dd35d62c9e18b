package contest

import (
	"slices"
	"time"

	"github.com/quadnine/quadnine/bench/stat"
)

// Sample is one measurement. What a case does not measure is 0.
type Sample struct {
	Requests  int           `json:"requests,omitempty"` // or messages
	CPU       time.Duration `json:"cpu,omitempty"`      // of the proxy, for all of them
	PerSecond float64       `json:"per_second,omitempty"`
	P50       time.Duration `json:"p50,omitempty"`
	P99       time.Duration `json:"p99,omitempty"`
	RSS       int64         `json:"rss,omitempty"`      // bytes
	Anon      int64         `json:"rss_anon,omitempty"` // bytes
	Busy      float64       `json:"busy,omitempty"`     // of a core, in percent

	// Rest is what client and backend used of their CPU, in percent: near 100 the
	// proxy had to wait for them.
	Rest float64 `json:"rest,omitempty"`

	// Behind says that the proxy did not keep up with Rate; PerSecond is what it
	// kept up with, and nothing else counts.
	Behind bool    `json:"behind,omitempty"`
	Rate   float64 `json:"rate,omitempty"` // requests a second that were due

	Note string `json:"note,omitempty"` // how the load differs from the case's
}

// micros is the CPU time of one request in µs.
func (s Sample) micros() float64 {
	if s.Requests == 0 {
		return 0
	}
	return float64(s.CPU.Nanoseconds()) / 1e3 / float64(s.Requests)
}

// Cell is one proxy's measurements in one case, one a round.
type Cell struct {
	Rival   string   `json:"rival"`
	Samples []Sample `json:"samples,omitempty"`
	Missing string   `json:"missing,omitempty"` // why there are none
}

// values returns what each round came to; 0 for one that the proxy fell behind in.
func (c *Cell) values(of func(Sample) float64) []float64 {
	out := make([]float64, 0, len(c.Samples))
	for _, s := range c.Samples {
		if s.Behind {
			out = append(out, 0)
			continue
		}
		out = append(out, of(s))
	}
	return out
}

// judged reports whether goals may be judged by the cell: it has samples, no
// round failed, and the proxy kept up in most.
func (c *Cell) judged() bool {
	_, behind := c.behind()
	return c.Missing == "" && len(c.Samples) > 0 && !behind
}

// median returns the middle of the rounds that the proxy kept up in; 0 without
// any.
func (c *Cell) median(of func(Sample) float64) float64 {
	kept := make([]float64, 0, len(c.Samples))
	for _, s := range c.Samples {
		if !s.Behind {
			kept = append(kept, of(s))
		}
	}
	return stat.Median(kept)
}

// behind returns how many requests a second the proxy kept up with, when it fell
// behind in half of the rounds or more.
func (c *Cell) behind() (float64, bool) {
	var rates []float64
	for _, s := range c.Samples {
		if s.Behind {
			rates = append(rates, s.PerSecond)
		}
	}
	return stat.Median(rates), 2*len(rates) >= max(1, len(c.Samples))
}

// hopeless reports whether another round would only repeat that the proxy cannot
// keep up: it did not come to half of the rate in the first one.
func (c *Cell) hopeless() bool {
	return len(c.Samples) == 1 && c.Samples[0].Behind && c.Samples[0].PerSecond < c.Samples[0].Rate/2
}

// What a cell is asked for.
func cpu(s Sample) float64       { return s.micros() }
func p50(s Sample) float64       { return float64(s.P50.Nanoseconds()) / 1e3 }
func p99(s Sample) float64       { return float64(s.P99.Nanoseconds()) / 1e3 }
func perSecond(s Sample) float64 { return s.PerSecond }
func rss(s Sample) float64       { return float64(s.RSS) / 1e6 }
func anon(s Sample) float64      { return float64(s.Anon) / 1e6 }
func busy(s Sample) float64      { return s.Busy }

// Result is one case's row.
type Result struct {
	Name   string        `json:"name"`
	Title  string        `json:"title"`
	Kind   Kind          `json:"kind"`
	Rounds int           `json:"rounds"`
	Length time.Duration `json:"length"`
	Cells  []*Cell       `json:"cells"`
	Direct *Cell         `json:"direct,omitempty"` // the same load without a proxy
}

// has reports whether a rival was asked to take part.
func (r *Result) has(rival string) bool {
	return r != nil && slices.ContainsFunc(r.Cells, func(c *Cell) bool { return c.Rival == rival })
}

// cell returns a rival's cell; one without samples when it took no part.
func (r *Result) cell(rival string) *Cell {
	if r != nil {
		for _, c := range r.Cells {
			if c.Rival == rival {
				return c
			}
		}
	}
	return &Cell{Rival: rival}
}

// Kind says which table a case's row is in.
type Kind string

// The kinds.
const (
	Requests Kind = "requests" // CPU a request
	Memory   Kind = "memory"   // resident memory
	Idle     Kind = "idle"     // CPU without requests
	Curves   Kind = "curves"   // quadnine beside itself
	Servers  Kind = "servers"  // servers without a proxy
)
