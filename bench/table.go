package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/quadnine/quadnine/bench/loader"
	"github.com/quadnine/quadnine/bench/xds"
)

// report is one run, as --json prints it.
type report struct {
	When     time.Time `json:"when"`
	Machine  string    `json:"machine"`
	Rounds   int       `json:"rounds"`
	Requests int       `json:"requests"` // a rival and round
	Clients  int       `json:"clients"`
	Streams  int       `json:"streams"`
	Rivals   []row     `json:"rivals"`
	Budget   []share   `json:"budget,omitempty"`

	Loader *loader.Report `json:"loader,omitempty"`
	XDS    *xds.Report    `json:"xds,omitempty"`
}

// row is one rival's line. Times are µs of CPU a request.
type row struct {
	Name      string  `json:"name"`
	Note      string  `json:"note,omitempty"`
	PerSecond float64 `json:"per_second"` // median
	Median    float64 `json:"cpu_us"`
	Min       float64 `json:"cpu_us_min"`
	Max       float64 `json:"cpu_us_max"`
	Floor     float64 `json:"times_floor"`    // multiple of the TCP pass-through; 0 when it did not run
	Quadnine  float64 `json:"times_quadnine"` // multiple of quadnine; 0 when it did not run
	RSS       float64 `json:"rss_mib"`        // after the last round
}

// share is one line of quadnine's budget.
type share struct {
	Stage   string  `json:"stage"`
	Nanos   float64 `json:"ns"` // of CPU a request
	Percent float64 `json:"percent"`
	Top     string  `json:"top,omitempty"` // its dearest function
}

// rows turns the rounds into lines, cheapest first.
func rows(es []*entrant) []row {
	out := make([]row, 0, len(es))
	var floor, own float64
	for _, e := range es {
		cpu, rate := make([]float64, 0, len(e.rounds)), make([]float64, 0, len(e.rounds))
		for _, r := range e.rounds {
			cpu, rate = append(cpu, micros(r.cpu)), append(rate, r.perSecond)
		}
		rss, _ := e.run.RSS() // 0 in the table: the run itself has succeeded
		l := row{Name: e.Name, Note: e.Note, PerSecond: median(rate), Median: median(cpu), Min: slices.Min(cpu), Max: slices.Max(cpu), RSS: float64(rss) / (1 << 20)}
		switch e.Name {
		case "TCP pass-through":
			floor = l.Median
		case "quadnine":
			own = l.Median
		}
		out = append(out, l)
	}
	for i := range out {
		if floor > 0 {
			out[i].Floor = out[i].Median / floor
		}
		if own > 0 {
			out[i].Quadnine = out[i].Median / own
		}
	}
	slices.SortStableFunc(out, func(a, b row) int { return int((a.Median - b.Median) * 1e3) })
	return out
}

// print writes the tables for people.
func (r report) print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\nCPU a request · %d rounds of %d requests · %d connections × %d streams · %s\n\n", r.Rounds, r.Requests, r.Clients, r.Streams, r.Machine)
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "rival\tCPU µs/request\t[min-max]\t× TCP\t× quadnine\treq/s\tRSS MiB\t")
	for _, l := range r.Rivals {
		fmt.Fprintf(t, "%s\t%.2f\t[%.2f-%.2f]\t%.1f\t%.2f\t%.0f\t%.0f\t\n", l.Name, l.Median, l.Min, l.Max, l.Floor, l.Quadnine, l.PerSecond, l.RSS)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	b.WriteByte('\n')
	for _, l := range r.Rivals {
		if l.Note != "" {
			fmt.Fprintf(&b, "%s: %s.\n", l.Name, l.Note)
		}
	}
	if len(r.Budget) > 0 {
		b.WriteString("\nWhere quadnine's CPU goes (CPU profile under the same load)\n\n")
		t = tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "stage\tns/request\t%\tdearest function")
		for _, s := range r.Budget {
			fmt.Fprintf(t, "%s\t%.0f\t%.1f\t%s\n", s.Stage, s.Nanos, s.Percent, s.Top)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// median returns the middle of v, or the mean of the two middle values.
func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	n := len(s)
	if n == 0 {
		return 0
	}
	return (s[(n-1)/2] + s[n/2]) / 2
}

// micros returns d in µs.
func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
