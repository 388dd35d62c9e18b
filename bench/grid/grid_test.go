package grid_test

import (
	"strings"
	"testing"

	"github.com/quadnine/quadnine/bench/grid"
)

func TestTable(t *testing.T) {
	tab := grid.Table{Title: "Cost", About: "Less is better.", Header: []string{"case", "a|b", "µs"}}
	tab.Add("one", "1", "22")
	tab.Add("three", "– "+tab.Note("cannot"), "4 "+tab.Note("late"))
	tab.Add("four", "– "+tab.Note("cannot"), "5")
	var text, md strings.Builder
	if err := tab.Text(&text); err != nil {
		t.Fatal(err)
	}
	if err := tab.Markdown(&md); err != nil {
		t.Fatal(err)
	}
	wantText := `
Cost
Less is better.

case   a|b   µs
one      1   22
three  – a  4 b
four   – a    5

a  cannot
b  late
`
	if text.String() != wantText {
		t.Errorf("text:\n%s\nwant:\n%s", text.String(), wantText)
	}
	wantMD := `
## Cost
Less is better.

| case | a\|b | µs |
|---|--:|--:|
| one | 1 | 22 |
| three | – a | 4 b |
| four | – a | 5 |

- a: cannot
- b: late
`
	if md.String() != wantMD {
		t.Errorf("Markdown:\n%s\nwant:\n%s", md.String(), wantMD)
	}
}

func TestNotesHaveNames(t *testing.T) {
	var tab grid.Table
	var last string
	for i := range 28 {
		last = tab.Note(strings.Repeat("x", i+1))
	}
	if last != "ab" {
		t.Errorf("the 28th note is %q", last)
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{
		1234: "1234", 100.4: "100", 25.04: "25", 12.3: "12.3", 2: "2", 2.345: "2.35", 0.05: "0.05", 0.1: "0.1", 0: "0", -2.345: "-2.35", -120.4: "-120",
	} {
		if got := grid.Number(v); got != want {
			t.Errorf("Number(%v) = %q, want %q", v, got, want)
		}
	}
}

func TestGoals(t *testing.T) {
	g := grid.Goals("Goals", "Ratios.", "case")
	g.AddGoal("a", "CPU", "≤ 2", "1.5", true)
	g.AddGoal("b", "CPU", "≤ 2", "2.5", false)
	if len(g.Rows) != 2 || g.Header[0] != "case" || g.Rows[0][4] != "met" || g.Rows[1][4] != "missed" || len(g.Rows[0]) != len(g.Header) {
		t.Errorf("%+v", g)
	}
}
