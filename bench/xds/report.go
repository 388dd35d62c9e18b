package xds

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is one comparison.
type Report struct {
	Samples int      `json:"samples"`
	Changes []Change `json:"changes"`
	Rates   []Rate   `json:"rates,omitempty"`
}

// Change is one kind of change to a configuration of one size.
type Change struct {
	Size    string   `json:"size"`
	Variant string   `json:"variant"`
	Change  string   `json:"change"`
	Proxies []Result `json:"proxies"` // Envoy, quadnine
	Ratio   float64  `json:"times_envoy"`
	Goal    float64  `json:"goal_times_envoy,omitempty"` // 0: none
}

// Result is what one proxy needed, in ms.
type Result struct {
	Name      string  `json:"name"`
	P50       float64 `json:"p50_ms"` // send callback to the first answer
	P90       float64 `json:"p90_ms"`
	ServerP50 float64 `json:"server_p50_ms"` // publishing to the send callback: the server's own time
	ServerP90 float64 `json:"server_p90_ms"`
	Bad       int     `json:"non_200"` // of the sequential client, in all changes
}

// Rate is how many requests a second the first and the last route take.
type Rate struct {
	Name  string  `json:"name"`
	First float64 `json:"first_per_second"`
	Last  float64 `json:"last_per_second"`
	Ratio float64 `json:"last_times_first"`
	Goal  float64 `json:"goal_times_first"`
}

// samples are the measurements of one proxy, in ms.
type samples struct {
	latency, server []float64
	bad             int
}

// result sums them up.
func (s *samples) result(name string) Result {
	return Result{
		Name: name, P50: percentile(s.latency, 50), P90: percentile(s.latency, 90),
		ServerP50: percentile(s.server, 50), ServerP90: percentile(s.server, 90), Bad: s.bad,
	}
}

// String is the line that progress shows.
func (c Change) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s, %s:", c.Size, variantName(c.Variant), c.Change)
	for _, p := range c.Proxies {
		fmt.Fprintf(&b, " %s %.1f (%.1f) ms, %d non-200;", p.Name, p.P50, p.P90, p.Bad)
	}
	fmt.Fprintf(&b, " %.2f×", c.Ratio)
	return b.String()
}

// Print writes the tables for people; machine says where it ran.
func (r *Report) Print(w io.Writer, machine string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\nA change of configuration · from the server's send callback to the first request it answers · p50 (p90) of %d, in ms · %s\n\n", r.Samples, machine)
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "configuration\tvariant\tchange\tEnvoy\tquadnine\t× Envoy\tgoal\tserver's own\tnon-200 Envoy\tquadnine")
	for _, c := range r.Changes {
		e, q := c.Proxies[0], c.Proxies[1]
		goal, bad := "", "\t"
		if c.Goal > 0 {
			goal = "≤ " + strconv.FormatFloat(c.Goal, 'g', -1, 64)
		}
		if c.Change == swap {
			bad = fmt.Sprintf("%d\t%d", e.Bad, q.Bad)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%.1f (%.1f)\t%.1f (%.1f)\t%.2f\t%s\t%.1f, %.1f\t%s\n", c.Size, variantName(c.Variant), c.Change, e.P50, e.P90, q.P50, q.P90, c.Ratio, goal, e.ServerP50, q.ServerP50, bad)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(&b, "\nserver's own: p50 from publishing to the send callback, for Envoy and for quadnine; not part of the times. non-200: what a sequential client got besides in %d swaps; goal for quadnine: 0.\n", r.Samples)
	if len(r.Rates) > 0 {
		b.WriteString("\nRequests a second by the route that matches, of 10,000\n\n")
		t = tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "proxy\tfirst\tlast\tlast ÷ first\tgoal")
		for _, l := range r.Rates {
			goal := ""
			if l.Name == quadnine {
				goal = "≥ " + strconv.FormatFloat(l.Goal, 'g', -1, 64)
			}
			fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%.2f\t%s\n", l.Name, l.First, l.Last, l.Ratio, goal)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// variantName is how a variant is called in the table.
func variantName(v string) string {
	if v == variants()[0] {
		return "SotW"
	}
	return "delta"
}

// percentile returns the nearest-rank percentile of v, or 0 when there is none.
func percentile(v []float64, p int) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	return s[(len(s)*p+99)/100-1]
}

// millis returns d in ms.
func millis(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
