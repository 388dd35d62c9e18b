package loader

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/quadnine/quadnine/loader/delta"
)

// Bare hashes: the cheapest of them is what the others are compared with. The
// library's Sum256 is the slowest, and alone would flatter the loader.
const (
	grouped  = "BLAKE3 of the delta's bytes, from memory in 16 KiB groups"
	bare     = "BLAKE3 of the delta's bytes, from memory"
	buffered = "BLAKE3 of the delta's bytes, read in 256 KiB"
)

// Report is one comparison.
type Report struct {
	Rounds int     `json:"rounds"`
	Scale  float64 `json:"scale"`
	Pairs  []Pair  `json:"pairs"`
}

// Pair is one pair of versions with its lines.
type Pair struct {
	Name    string `json:"name"`
	Base    int64  `json:"base_bytes"`
	Shipped int64  `json:"shipped_bytes"`
	Delta   int64  `json:"delta_bytes"`
	Extents int    `json:"extents"`
	Rows    []Row  `json:"rows"`
}

// Row is one line: medians and the worst of all rounds, in ms.
type Row struct {
	What      string  `json:"what"`
	Wall      float64 `json:"wall_ms"`
	WallWorst float64 `json:"wall_ms_worst"`
	CPU       float64 `json:"cpu_ms"`
	CPUWorst  float64 `json:"cpu_ms_worst"`
	Ratio     float64 `json:"times_blake3"` // of CPU medians; the cheapest bare BLAKE3 is 1
	Memory    bool    `json:"memory"`       // whether the next two were measured for it
	Private   float64 `json:"private_mb"`   // anonymous memory added
	Shared    float64 `json:"shared_mb"`    // pages of files added
	Note      string  `json:"note,omitempty"`
}

func newReport(o Options, packed map[string]*delta.Report, cs []*contest) *Report {
	r := &Report{Rounds: o.Rounds, Scale: o.Scale}
	for _, name := range []string{"D", "S"} {
		d := packed[name]
		p := Pair{Name: name, Base: d.BaseSize, Shipped: d.Shipped, Delta: d.DeltaSize, Extents: d.Extents}
		for _, c := range cs {
			if c.pair == name {
				p.Rows = append(p.Rows, c.rows()...)
			}
		}
		p.compare()
		r.Pairs = append(r.Pairs, p)
	}
	return r
}

// compare fills in the ratios.
func (p *Pair) compare() {
	least := math.Inf(1)
	for _, r := range p.Rows {
		if r.What == grouped || r.What == bare || r.What == buffered {
			least = min(least, r.CPU)
		}
	}
	for i := range p.Rows {
		p.Rows[i].Ratio = p.Rows[i].CPU / least
	}
}

// rows turns a contest's samples into lines, one a step.
func (c *contest) rows() (out []Row) {
	times := max(c.times, 1)
	for _, step := range []string{stepAll, stepLoaded, stepProved, stepActive} {
		if _, ok := c.samples[0].Steps[step]; !ok {
			continue
		}
		n := len(c.samples)
		wall, cpu, private, shared := make([]float64, 0, n), make([]float64, 0, n), make([]float64, 0, n), make([]float64, 0, n)
		for _, s := range c.samples {
			wall, cpu = append(wall, times*millis(s.Steps[step].Wall)), append(cpu, times*millis(s.Steps[step].CPU))
			private, shared = append(private, float64(s.Private)/1e6), append(shared, float64(s.Shared)/1e6)
		}
		r := Row{What: c.label, Note: c.note, Wall: median(wall), WallWorst: slices.Max(wall), CPU: median(cpu), CPUWorst: slices.Max(cpu)}
		if step != stepAll {
			r.What += ": " + step
		}
		if step == stepAll || step == stepActive {
			r.Memory, r.Private, r.Shared = true, median(private), median(shared)
		}
		out = append(out, r)
	}
	return out
}

// Print writes the tables for people; machine says where it ran.
func (r *Report) Print(w io.Writer, machine string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\nA new model version · %d runs, each in a process of its own, files in the page cache · median and [worst] · %s\n", r.Rounds, machine)
	if r.Scale != 1 {
		fmt.Fprintf(&b, "Scaled to %v: for developing, never for a table to show.\n", r.Scale)
	}
	for _, p := range r.Pairs {
		fmt.Fprintf(&b, "\nPair %s: %.0f MB, delta of %.1f MB with %.1f MB of changed pages in %d extents\n\n", p.Name, float64(p.Base)/1e6, float64(p.Delta)/1e6, float64(p.Shipped)/1e6, p.Extents)
		t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "what\twall ms\t[worst]\tCPU ms\t[worst]\t× BLAKE3\tprivate MB\tfile pages MB")
		for _, l := range p.Rows {
			mem := "\t"
			if l.Memory {
				mem = fmt.Sprintf("%.1f\t%.1f", l.Private, l.Shared)
			}
			fmt.Fprintf(t, "%s\t%.1f\t[%.1f]\t%.1f\t[%.1f]\t%.2f\t%s\n", l.What, l.Wall, l.WallWorst, l.CPU, l.CPUWorst, l.Ratio, mem)
		}
		if err := t.Flush(); err != nil {
			return err
		}
		for _, l := range p.Rows {
			if l.Note != "" {
				fmt.Fprintf(&b, "%s: %s.\n", l.What, l.Note)
			}
		}
	}
	b.WriteString("\n× BLAKE3: CPU beside the cheapest of the three bare hashes of the delta file: lukechampine.com/blake3's Sum256 over memory, its Hasher fed 256 KiB pieces, and package delta's leaves of 16 KiB. " +
		"private: anonymous memory added, after a collection for the loader; file pages: mapped pages of files added, which stay the page cache's.\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// median returns the middle of v, or the mean of the two middle values.
func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}

// millis returns d in ms.
func millis(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
