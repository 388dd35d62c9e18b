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
