package contest

import (
	"fmt"

	"github.com/quadnine/quadnine/bench/grid"
	"github.com/quadnine/quadnine/bench/rivals"
)

// Report is one run.
type Report struct {
	Quick   bool      `json:"quick,omitempty"` // too short to show
	Results []*Result `json:"results"`

	// Complete says that no case is left out because the run was broken off. A
	// rival may have failed in some.
	Complete bool              `json:"complete"`
	Goals    []Goal            `json:"goals"`
	Notes    map[string]string `json:"notes"`            // by rival
	Budget   []Share           `json:"budget,omitempty"` // of the saturated case
}

// result returns a case's row; nil when it did not run.
func (r *Report) result(name string) *Result {
	for _, res := range r.Results {
		if res.Name == name {
			return res
		}
	}
	return nil
}

// of returns the rows of a kind.
func (r *Report) of(k Kind) []*Result {
	var out []*Result
	for _, res := range r.Results {
		if res.Kind == k {
			out = append(out, res)
		}
	}
	return out
}

// Tables returns what the run came to: goals, CPU a request, latency, memory and
// idle, quadnine beside itself, servers, and the budget. Tables without a row are
// left out.
func (r *Report) Tables() []*grid.Table {
	all := []*grid.Table{r.goals(), r.requests(), r.latency(), r.memory(), r.curves(), r.servers(), r.budget()}
	var out []*grid.Table
	for _, t := range all {
		if len(t.Rows) > 0 {
			out = append(out, t)
		}
	}
	return out
}

func (r *Report) goals() *grid.Table {
	t := grid.Goals("Goals", "Ratios with the interval that holds them with 95 % confidence, over the case's interleaved rounds.", "case")
	for _, g := range r.Goals {
		t.AddGoal(g.Case, g.What, g.Bound, g.String(), g.Met)
	}
	return t
}

// verdicts says for a case whether its goals are met; "" without any.
func (r *Report) verdicts(title string) string {
	met, all := 0, 0
	for _, g := range r.Goals {
		if g.Case == title {
			all++
			if g.Met {
				met++
			}
		}
	}
	switch {
	case all == 0:
		return ""
	case met == all:
		return "met"
	default:
		return fmt.Sprintf("%d of %d met", met, all)
	}
}

// missing writes an empty cell, with its reason in it or below the table; it is ok
// when there is one.
func missing(t *grid.Table, c *Cell) (text string, ok bool) {
	if c.Missing != "" {
		return "– " + t.Note(c.Missing), true
	}
	if rate, behind := c.behind(); behind && len(c.Samples) > 0 {
		return fmt.Sprintf("– %.0fk/s", rate/1e3), true
	}
	return "–", len(c.Samples) == 0
}

// columns returns the rivals of some rows in their order.
func columns(rows []*Result) []string {
	var names []string
	seen := map[string]bool{}
	for _, res := range rows {
		for _, c := range res.Cells {
			if !seen[c.Rival] {
				seen[c.Rival] = true
				names = append(names, c.Rival)
			}
		}
	}
	return names
}

func (r *Report) requests() *grid.Table {
	rows := r.of(Requests)
	names := columns(rows)
	t := &grid.Table{
		Title:  "CPU a request, µs",
		About:  "Medians of interleaved rounds; in brackets the multiple of quadnine. Open loop: \"– 40k/s\" kept up with so many a second only. Streaming: a message there and back.",
		Header: append(append([]string{"case"}, names...), "goals"),
	}
	for _, res := range rows {
		own := res.cell(rivals.NameQuadnine).median(cpu)
		line := append(make([]string, 0, len(t.Header)), res.Title)
		if res.Direct != nil {
			if rate, behind := res.Direct.behind(); behind {
				line[0] += " " + t.Note(fmt.Sprintf("client and backend alone keep up with %.0fk/s only: this row says nothing of the proxies' limits", rate/1e3))
			}
		}
		for _, n := range names {
			c := res.cell(n)
			m := c.median(cpu)
			text, none := missing(t, c)
			switch {
			case none:
			case own > 0:
				text = fmt.Sprintf("%s (%.2f)", grid.Number(m), m/own)
			default:
				text = grid.Number(m)
			}
			line = append(line, text)
		}
		t.Add(append(line, r.verdicts(res.Title))...)
	}
	for _, n := range names {
		if note := r.Notes[n]; note != "" {
			t.Note(n + ": " + note)
		}
	}
	return t
}

func (r *Report) latency() *grid.Table {
	var rows []*Result
	for _, res := range r.of(Requests) {
		if res.Direct != nil {
			rows = append(rows, res)
		}
	}
	names := columns(rows)
	t := &grid.Table{
		Title:  "Latency that a proxy adds, µs: median / 99th percentile",
		About:  "Beside the same load without a proxy, the first column. A request's latency counts from when it was due.",
		Header: append([]string{"case", "without"}, names...),
	}
	for _, res := range rows {
		base50, base99 := res.Direct.median(p50), res.Direct.median(p99)
		line := append(make([]string, 0, len(t.Header)), res.Title)
		text, lost := missing(t, res.Direct)
		if !lost {
			text = grid.Number(base50) + " / " + grid.Number(base99)
		}
		line = append(line, text)
		for _, n := range names {
			c := res.cell(n)
			text, none := missing(t, c)
			switch {
			case none:
			case lost:
				text = "–"
			default:
				text = fmt.Sprintf("%+.0f / %+.0f", c.median(p50)-base50, c.median(p99)-base99)
			}
			line = append(line, text)
		}
		t.Add(line...)
	}
	return t
}

func (r *Report) memory() *grid.Table {
	held, quiet := r.of(Memory), r.of(Idle)
	names := columns(append(append([]*Result{}, held...), quiet...))
	t := &grid.Table{
		Title:  "Memory, MB: RssAnon / RSS; and CPU when idle, % of a core",
		Header: append(append([]string{""}, names...), "goals"),
	}
	for _, res := range append(held, quiet...) {
		line := append(make([]string, 0, len(t.Header)), res.Title)
		if res.Kind == Idle {
			line[0] = fmt.Sprintf("%s, over %v", res.Title, res.Length)
		}
		for _, n := range names {
			c := res.cell(n)
			text, none := missing(t, c)
			switch {
			case none:
			case res.Kind == Idle:
				text = fmt.Sprintf("%.3f", c.median(busy))
			default:
				text = fmt.Sprintf("%.1f / %.0f", c.median(anon), c.median(rss))
				if note := c.Samples[0].Note; note != "" {
					text += " " + t.Note(note)
				}
			}
			line = append(line, text)
		}
		t.Add(append(line, r.verdicts(res.Title))...)
	}
	return t
}

func (r *Report) curves() *grid.Table {
	t := &grid.Table{
		Title:  "As work grows: quadnine's CPU a request, µs",
		About:  "In brackets the multiple of the first column with its interval.",
		Header: []string{"", "few", "more", "many", "goals"},
	}
	for _, res := range r.of(Curves) {
		line := append(make([]string, 0, len(t.Header)), res.Title)
		for i, c := range res.Cells {
			text := c.Rival + ": " + grid.Number(c.median(cpu))
			why, none := missing(t, c)
			switch got, ok := ratio(res, c.Rival, res.Cells[0].Rival, cpu); {
			case none:
				text = c.Rival + ": " + why
			case i > 0 && ok:
				text += fmt.Sprintf(" (%.2f [%.2f-%.2f])", got.Ratio, got.Low, got.High)
			}
			line = append(line, text)
		}
		for len(line) < 4 {
			line = append(line, "")
		}
		t.Add(append(line, r.verdicts(res.Title))...)
	}
	return t
}

func (r *Report) servers() *grid.Table {
	t := &grid.Table{
		Title:  "Servers on one core: GET /stats, 1 KB of JSON, HTTP/1.1, 64 connections",
		About:  "24,800 against 71,500 requests a second has been claimed elsewhere for the first two.",
		Header: []string{"", "requests/s", "CPU µs a request", "RSS MB"},
	}
	for _, res := range r.of(Servers) {
		for _, c := range res.Cells {
			if why, none := missing(t, c); none {
				t.Add(c.Rival, why, "", "")
				continue
			}
			t.Add(c.Rival, fmt.Sprintf("%.0f", c.median(perSecond)), grid.Number(c.median(cpu)), fmt.Sprintf("%.0f", c.median(rss)))
		}
	}
	return t
}

func (r *Report) budget() *grid.Table {
	t := &grid.Table{
		Title:  "Where quadnine's CPU goes, saturated with static headers",
		Header: []string{"stage", "ns a request", "%", "dearest function"},
	}
	for _, s := range r.Budget {
		t.Add(s.Stage, fmt.Sprintf("%.0f", s.Nanos), fmt.Sprintf("%.1f", s.Percent), s.Top)
	}
	return t
}
