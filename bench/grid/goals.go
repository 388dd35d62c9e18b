package grid

import (
	"fmt"
	"math"
	"strings"
)

// Goals returns a table for goals; of is what each is of, for example a case.
func Goals(title, about, of string) *Table {
	return &Table{Title: title, About: about, Header: []string{of, "what", "bound", "this run", ""}}
}

// AddGoal appends a goal to a table that Goals made.
func (t *Table) AddGoal(of, what, bound, got string, met bool) {
	verdict := "missed"
	if met {
		verdict = "met"
	}
	t.Add(of, what, bound, got, verdict)
}

// Number writes three digits that matter, without zeros behind the point.
func Number(v float64) string {
	var s string
	switch a := math.Abs(v); {
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		s = fmt.Sprintf("%.1f", v)
	case a >= 0.1:
		s = fmt.Sprintf("%.2f", v)
	default:
		s = fmt.Sprintf("%.3f", v)
	}
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}
