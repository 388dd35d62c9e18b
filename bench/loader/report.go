package loader

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/quadnine/quadnine/bench/grid"
	"github.com/quadnine/quadnine/bench/stat"
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
	Goals  []Goal  `json:"goals"`
	Pairs  []Pair  `json:"pairs"`
	Calls  []Call  `json:"calls"`
}

// Pair is one pair of versions with its lines.
type Pair struct {
	Name    string `json:"name"`
	Base    int64  `json:"base_bytes"`
	Shipped int64  `json:"shipped_bytes"`
	Delta   int64  `json:"delta_bytes"`
	Extents int    `json:"extents"`
	Rows    int    `json:"rows"` // of the delta
	Lines   []Row  `json:"lines"`
}

// Row is one line: medians and the worst of all rounds, in ms.
type Row struct {
	What      string  `json:"what"`
	Rounds    int     `json:"rounds"`
	Wall      float64 `json:"wall_ms"`
	WallWorst float64 `json:"wall_ms_worst"`
	CPU       float64 `json:"cpu_ms"`
	CPUWorst  float64 `json:"cpu_ms_worst"`
	Ratio     float64 `json:"times_blake3"` // of CPU medians; the cheapest bare BLAKE3 is 1
	Memory    bool    `json:"memory"`       // whether the next two were measured for it
	Private   float64 `json:"private_mb"`   // anonymous memory added
	Shared    float64 `json:"shared_mb"`    // pages of files added
	Version   bool    `json:"version"`      // whether the next four were
	Read      float64 `json:"read_mb"`      // of the drop
	Dirty     float64 `json:"dirty_mb"`     // read beside it for the proof: blocks of 16 KiB that changed
	Copied    float64 `json:"copied_mb"`    // of the version: private memory
	Copies    float64 `json:"copies"`       // extents and runs of rows that are copied
	Note      string  `json:"note,omitempty"`
}

// Call is the CPU that one call takes: median and worst of all rounds, in ns.
type Call struct {
	What  string  `json:"what"`
	Nanos float64 `json:"ns"`
	Worst float64 `json:"ns_worst"`
}

func newReport(o Options, packed map[string]*delta.Report, cs []*contest) *Report {
	r := &Report{Rounds: o.Rounds, Scale: o.Scale, Goals: judge(cs)}
	for _, name := range []string{"D", "S"} {
		d := packed[name]
		p := Pair{Name: name, Base: d.BaseSize, Shipped: d.Shipped, Delta: d.DeltaSize, Extents: d.Extents, Rows: d.Rows}
		for _, c := range cs {
			if c.pair == name && c.label != calls {
				p.Lines = append(p.Lines, c.rows()...)
			}
		}
		p.compare()
		r.Pairs = append(r.Pairs, p)
	}
	c := entries(cs).find("D", calls)
	for _, what := range slices.Concat([]string{callSwitch, callLease, callV1, callV2}, evaluatorCalls) {
		all := make([]float64, 0, len(c.samples))
		for _, s := range c.samples {
			all = append(all, s.Nanos[what])
		}
		r.Calls = append(r.Calls, Call{what, stat.Median(all), slices.Max(all)})
	}
	return r
}

// compare fills in the ratios.
func (p *Pair) compare() {
	least := math.Inf(1)
	for _, r := range p.Lines {
		if r.What == grouped || r.What == bare || r.What == buffered {
			least = min(least, r.CPU)
		}
	}
	for i := range p.Lines {
		p.Lines[i].Ratio = p.Lines[i].CPU / least
	}
}

// rows turns a contest's samples into lines, one a step.
func (c *contest) rows() (out []Row) {
	for _, step := range []string{stepAll, stepLoaded, stepProved, stepWarmed, stepActive} {
		if _, ok := c.samples[0].Steps[step]; !ok {
			continue
		}
		walls, cpus := c.values(step, wall), c.values(step, cpu)
		r := Row{What: c.label, Rounds: len(c.samples), Note: c.note, Wall: stat.Median(walls), WallWorst: slices.Max(walls), CPU: stat.Median(cpus), CPUWorst: slices.Max(cpus)}
		if step != stepAll {
			r.What += ": " + step
		}
		mb := func(of func(*sample) int64) float64 {
			return c.medianOf(func(s *sample) float64 { return float64(of(s)) / 1e6 })
		}
		if step == stepAll || step == stepActive {
			r.Memory = true
			r.Private, r.Shared = mb(func(s *sample) int64 { return s.Private }), mb(func(s *sample) int64 { return s.Shared })
		}
		if step == stepActive {
			r.Version = true
			r.Read, r.Dirty, r.Copied = mb(func(s *sample) int64 { return s.Read }), mb(func(s *sample) int64 { return s.Dirty }), mb(func(s *sample) int64 { return s.Copied })
			r.Copies = c.medianOf(func(s *sample) float64 { return float64(s.Copies) })
		}
		out = append(out, r)
	}
	return out
}

// Tables returns the goals, a table for each pair, and what calls take.
func (r *Report) Tables() []*grid.Table {
	out := []*grid.Table{r.goals()}
	for i := range r.Pairs {
		out = append(out, r.pair(&r.Pairs[i]))
	}
	t := &grid.Table{Title: "Calls", About: fmt.Sprintf("%d of each a round, CPU of the process; median and the worst round.", callsEach), Header: []string{"what", "CPU ns", "[worst]"}}
	for _, c := range r.Calls {
		t.Add(c.What, grid.Number(c.Nanos), "["+grid.Number(c.Worst)+"]")
	}
	return append(out, t)
}

func (r *Report) pair(p *Pair) *grid.Table {
	t := &grid.Table{
		Title: fmt.Sprintf("Pair %s: a new version of %.0f MB", p.Name, float64(p.Base)/1e6),
		About: fmt.Sprintf("A delta of %.1f MB: %.1f MB of changed pages and rows, in %d extents and %d rows. %d rounds, each run in a process of its own, files in the page cache; median and [worst].",
			float64(p.Delta)/1e6, float64(p.Shipped)/1e6, p.Extents, p.Rows, r.Rounds),
		Header: []string{"what", "wall ms", "[worst]", "CPU ms", "[worst]", "× BLAKE3", "private MB", "file pages MB", "read MB", "dirty MB", "copied MB", "in pieces"},
	}
	if r.Scale != 1 {
		t.About += fmt.Sprintf(" Scaled to %v: for developing, never for a table to show.", r.Scale)
	}
	for _, l := range p.Lines {
		what := l.What
		if l.Note != "" {
			what += " " + t.Note(l.Note)
		}
		if l.Rounds < r.Rounds {
			what += " " + t.Note(fmt.Sprintf("%d rounds", l.Rounds))
		}
		cells := []string{what, grid.Number(l.Wall), "[" + grid.Number(l.WallWorst) + "]", grid.Number(l.CPU), "[" + grid.Number(l.CPUWorst) + "]", grid.Number(l.Ratio), "", "", "", "", "", ""}
		if l.Memory {
			cells[6], cells[7] = grid.Number(l.Private), grid.Number(l.Shared)
		}
		if l.Version {
			cells[8], cells[9], cells[10], cells[11] = grid.Number(l.Read), grid.Number(l.Dirty), grid.Number(l.Copied), grid.Number(l.Copies)
		}
		t.Add(cells...)
	}
	t.Note("× BLAKE3: CPU beside the cheapest of the three bare hashes of the delta file: lukechampine.com/blake3's Sum256 over memory, its Hasher fed 256 KiB pieces, and package delta's leaves of 16 KiB")
	t.Note("private: anonymous memory added, after a collection for the loader; file pages: mapped pages of files added, which stay the page cache's; read: of the drop; dirty: blocks of 16 KiB that changed, read again for the whole-version proof; copied: of the version, in private memory")
	return t
}

// millis returns d in ms.
func millis(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
