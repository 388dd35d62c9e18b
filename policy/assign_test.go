package policy

import (
	"math"
	"strconv"
	"testing"
)

// callers returns the draws of n users of one tenant.
func callers(n int) []uint64 {
	out := make([]uint64, n)
	for i := range out {
		out[i] = Draw(7, "acme", []byte("user-"+strconv.Itoa(i)))
	}
	return out
}

func TestAssignSharesAreTheWeights(t *testing.T) {
	const n = 100_000
	for name, choices := range map[string][]Choice{
		"halves":         {{1, 50}, {2, 50}},
		"one in ten":     {{1, 90}, {2, 10}},
		"three":          {{7, 1}, {8, 2}, {9, 5}},
		"one in hundred": {{1, 0.99}, {2, 0.01}},
		"alone":          {{4, 3}},
	} {
		sum := 0.0
		for _, c := range choices {
			sum += c.Weight
		}
		got := make([]int, len(choices))
		for _, d := range callers(n) {
			got[Assign(d, choices)]++
		}
		for i, c := range choices {
			p := c.Weight / sum
			if dev := math.Sqrt(n * p * (1 - p)); math.Abs(float64(got[i])-n*p) > 4*dev+0.5 {
				t.Errorf("%s: choice %d has %d of %d callers, want %.0f within %.0f", name, i, got[i], n, n*p, 4*dev)
			}
		}
	}
}

// Only callers from or to the choice whose weight changed move, and the order of
// the list does not matter.
func TestAssignMovesNoOthers(t *testing.T) {
	before := []Choice{{1, 50}, {2, 30}, {3, 20}}
	for name, c := range map[string]struct {
		after []Choice
		moved uint64 // the choice whose weight changed
		most  int    // of 10,000 callers
	}{
		"heavier":   {[]Choice{{1, 50}, {2, 60}, {3, 20}}, 2, 1800}, // 30 % → 46 %
		"lighter":   {[]Choice{{1, 50}, {2, 10}, {3, 20}}, 2, 1950}, // 30 % → 12.5 %
		"gone":      {[]Choice{{1, 50}, {3, 20}}, 2, 3200},
		"new":       {[]Choice{{1, 50}, {2, 30}, {3, 20}, {4, 100}}, 4, 5200},
		"reordered": {[]Choice{{3, 20}, {1, 50}, {2, 30}}, 0, 0},
		"scaled":    {[]Choice{{1, 5}, {2, 3}, {3, 2}}, 0, 0},
	} {
		moves := 0
		for _, d := range callers(10_000) {
			from, to := before[Assign(d, before)].ID, c.after[Assign(d, c.after)].ID
			if from == to {
				continue
			}
			moves++
			if from != c.moved && to != c.moved {
				t.Fatalf("%s: a caller moved from %d to %d", name, from, to)
			}
		}
		if moves > c.most || c.most > 0 && moves == 0 {
			t.Errorf("%s: %d callers moved, want at most %d", name, moves, c.most)
		}
	}
}

func TestAssignAllocs(t *testing.T) {
	choices := []Choice{{1, 50}, {2, 50}}
	if n := testing.AllocsPerRun(100, func() { Assign(9, choices) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAssign(b *testing.B) {
	choices := []Choice{{1, 50}, {2, 50}}
	b.ReportAllocs()
	for b.Loop() {
		Assign(9, choices)
	}
}
