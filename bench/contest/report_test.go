package contest

import (
	"strings"
	"testing"
	"time"

	"github.com/quadnine/quadnine/bench/rivals"
)

// rounds makes a cell whose requests cost so many µs, one number a round.
func rounds(rival string, micros ...float64) *Cell {
	c := &Cell{Rival: rival}
	for _, m := range micros {
		c.Samples = append(c.Samples, Sample{Requests: 1000, CPU: time.Duration(m * 1e6), PerSecond: 1000, P50: time.Duration(m*1e3) + 100*time.Microsecond, P99: time.Millisecond})
	}
	return c
}

// made is a report with a few cases.
func made() *Report {
	r := &Report{Notes: map[string]string{rivals.NameFloor: "the floor"}, Results: []*Result{
		{Name: caseStatic, Title: "static", Kind: Requests, Cells: []*Cell{
			rounds(rivals.NameQuadnine, 2, 2, 2), rounds(rivals.NameHAProxy, 8, 8, 8), rounds(rivals.NameNginx, 10, 10, 10), rounds(rivals.NameFloor, 0.5, 0.5, 0.5),
			{Rival: rivals.NameEnvoy, Missing: "it would not start"},
		}},
		{Name: caseUnbatched, Title: "unbatched", Kind: Requests, Cells: []*Cell{rounds(rivals.NameQuadnine, 12, 11, 16, 12), rounds(rivals.NameFloor, 10, 10, 10, 10)}},
		{Name: caseLow, Title: "low", Kind: Requests, Direct: rounds("without a proxy", 0, 0), Cells: []*Cell{
			rounds(rivals.NameQuadnine, 30, 30), rounds(rivals.NameHAProxy, 40, 40), rounds(rivals.NameH2O, 20, 20),
			{Rival: rivals.NameNginx, Samples: []Sample{{Behind: true, PerSecond: 41_000}}},
		}},
		{Name: caseRoutes, Title: "routes", Kind: Curves, Cells: []*Cell{rounds("1", 2, 2), rounds("10,000", 2.1, 2.1)}},
		{Name: caseFresh, Title: "fresh", Kind: Memory, Cells: []*Cell{{Rival: rivals.NameQuadnine, Samples: []Sample{{RSS: 44e6, Anon: 13e6}}}}},
		{Name: caseIdle, Title: "idle", Kind: Idle, Length: time.Minute, Cells: []*Cell{{Rival: rivals.NameQuadnine, Samples: []Sample{{Busy: 0.05}}}}},
		{Name: caseServers, Title: "servers", Kind: Servers, Cells: []*Cell{rounds("net/http", 20)}},
	}, Budget: []Share{{Stage: "frames", Nanos: 500, Percent: 25, Top: "f"}}}
	r.Goals = judge(r)
	return r
}

func TestGoals(t *testing.T) {
	want := map[string]bool{ // what was not measured is not judged
		"static: quadnine / plain TCP ≤ 5":                                    true,
		"static: Envoy full / quadnine ≥ 15":                                  false, // no figure
		"static: HAProxy / quadnine ≥ 3":                                      true,
		"static: nginx / quadnine ≥ 8":                                        false,
		"unbatched: quadnine / plain TCP, upper bound of the interval ≤ 1.25": false, // 1.26 in the mean, and above it
		"low: CPU: quadnine / best of HAProxy, nginx, h2o ≤ 1":                false, // h2o
		"low: median latency: quadnine / best of HAProxy, nginx, h2o ≤ 1":     false,
		"routes: 10,000 routes / one ≤ 1.1":                                   true,
		"idle: of a core ≤ 0.1 %":                                             true,
		"fresh: RssAnon ≤ 12 MB":                                              false,
	}
	r := made()
	for _, g := range r.Goals {
		name := g.Case + ": " + g.What + " " + g.Bound
		met, known := want[name]
		if !known || met != g.Met {
			t.Errorf("%s: met %v, got %+v", name, g.Met, g.Got)
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("not judged: %s", name)
	}
}

// The bound holds for the interval, not for the mean.
func TestUnbatchedIsJudgedByItsUpperBound(t *testing.T) {
	r := &Report{Results: []*Result{{Name: caseUnbatched, Title: "u", Cells: []*Cell{rounds(rivals.NameQuadnine, 10, 10, 10, 20), rounds(rivals.NameFloor, 10, 10, 10, 10)}}}}
	goals := judge(r)
	if len(goals) != 1 || goals[0].Got.Ratio > 1.25 || goals[0].Met {
		t.Errorf("%+v: a mean of 1.19 whose interval ends above 1.25 is missed", goals)
	}
}

func TestTables(t *testing.T) {
	var b strings.Builder
	for _, tab := range made().Tables() {
		if err := tab.Text(&b); err != nil {
			t.Fatal(err)
		}
		for _, row := range tab.Rows {
			if len(row) != len(tab.Header) {
				t.Errorf("%s: %d cells below %d headings: %q", tab.Title, len(row), len(tab.Header), row)
			}
		}
	}
	out := strings.Join(strings.Fields(b.String()), " ")
	for _, want := range []string{
		"static 2 (1.00) 8 (4.00) 10 (5.00) 0.5 (0.25) – a – 2 of 4 met",
		"a it would not start b TCP pass-through: the floor",
		"low 30 (1.00) 40 (1.33) – 41k/s – – 20 (0.67)",
		"low 100 / 1000 +30 / +0 +40 / +0 +20 / +0 – 41k/s",
		"fresh 13.0 / 44 0 of 1 met", "idle, over 1m0s 0.050 met",
		"routes 1: 2 10,000: 2.1 (1.05 [1.05-1.05]) met",
		"net/http 1000 20 0",
		"frames 500 25.0 f",
		"unbatched quadnine / plain TCP, upper bound of the interval ≤ 1.25",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

// Who failed on the way, or fell behind in most rounds, meets no goal by the rounds
// before; who was not asked has none.
func TestNoFigureIsNoGoalMet(t *testing.T) {
	broke := rounds(rivals.NameQuadnine, 1, 1)
	broke.Missing = "it hung up in round 3"
	late := rounds(rivals.NameQuadnine, 1)
	late.Samples = append(late.Samples, Sample{Behind: true, Rate: 2_000}, Sample{Behind: true, Rate: 2_000})
	for _, own := range []*Cell{broke, late} {
		r := &Report{Results: []*Result{
			{Name: caseUnbatched, Title: "unbatched", Cells: []*Cell{own, rounds(rivals.NameFloor, 1, 1, 1)}},
			{Name: caseLow, Title: "low", Cells: []*Cell{own, rounds(rivals.NameHAProxy, 2, 2, 2)}},
			{Name: caseIdle, Title: "idle", Kind: Idle, Cells: []*Cell{own}},
		}}
		goals := judge(r)
		if len(goals) != 4 {
			t.Errorf("%d goals, want that of unbatched, two of low, and idle: %+v", len(goals), goals)
		}
		for _, g := range goals {
			if g.Met || g.String() != "– no figure of quadnine" {
				t.Errorf("%s, %s: met %v, %s", g.Case, g.What, g.Met, g)
			}
		}
	}
	if goals := judge(&Report{Results: []*Result{{Name: caseStatic, Cells: []*Cell{rounds(rivals.NameQuadnine, 1)}}}}); len(goals) != 0 {
		t.Errorf("goals beside nobody: %+v", goals)
	}
}

// A pass-through holds what the limit of open files allows, and the table says so.
func TestHeldByTheLimitOfOpenFiles(t *testing.T) {
	h := hold{connections: 10_000}
	for _, c := range []struct {
		rival   string
		allowed int
		n       int
		noted   bool
	}{
		{rivals.NameQuadnine, 20_000, 10_000, false},
		{rivals.NameFloor, 20_000, 9_872, true},
		{rivals.NameFloor, 65_536, 10_000, false},
		{rivals.NameQuadnine, 1_024, 768, true},
	} {
		n, note := h.held(c.rival, c.allowed)
		if n != c.n || (note != "") != c.noted {
			t.Errorf("%s of %d files: %d, %q", c.rival, c.allowed, n, note)
		}
	}
	r := &Report{Results: []*Result{{Name: "connections-10000", Title: "held", Kind: Memory, Cells: []*Cell{
		{Rival: rivals.NameFloor, Samples: []Sample{{RSS: 2e6, Anon: 1e6, Note: "9,872 connections"}}},
	}}}}
	var b strings.Builder
	for _, table := range r.Tables() {
		if err := table.Text(&b); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(b.String(), "9,872 connections") {
		t.Errorf("the table does not say how many:\n%s", b.String())
	}
}
