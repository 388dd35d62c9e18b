package policy

import (
	"math"
	"testing"
	"time"
)

// TestWagerIsFair computes, for every split of small strata, what one coin is
// worth on average when both versions are equally good, exactly: never more than
// one coin. That is all that the bound on error rests on.
func TestWagerIsFair(t *testing.T) {
	choose := func(n, k int) float64 {
		a, _ := math.Lgamma(float64(n + 1))
		b, _ := math.Lgamma(float64(k + 1))
		c, _ := math.Lgamma(float64(n - k + 1))
		return a - b - c
	}
	for canary := 1; canary <= 12; canary++ {
		for active := 1; active <= 40; active += 3 {
			for failed := 1; failed <= canary+active; failed++ {
				mean := 0.0
				for k := max(0, failed-active); k <= min(failed, canary); k++ {
					var w wager
					w.settle(uint64(k), uint64(failed), float64(canary)/float64(canary+active))
					mean += math.Exp(choose(canary, k) + choose(active, failed-k) - choose(canary+active, failed) + w.worth())
				}
				if mean > 1+1e-9 {
					t.Fatalf("%d canary and %d active requests, %d failures: one coin becomes %v", canary, active, failed, mean)
				}
			}
		}
	}
	for _, p := range []float64{.001, .01, .05, .5} { // against a fixed chance: fair to the last bit
		mean := 0.0
		const n = 200
		for k := range n + 1 {
			var w wager
			w.settle(uint64(k), n, p)
			mean += math.Exp(choose(n, k) + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p) + w.worth())
		}
		if math.Abs(mean-1) > 1e-9 {
			t.Errorf("chance %v: one coin becomes %v", p, mean)
		}
	}
}

func TestWagerLearnsNothing(t *testing.T) {
	var w wager
	w.settle(0, 0, .5)
	w.settle(7, 7, 1)
	w.settle(0, 7, 0)
	if w != (wager{}) || w.worth() != 0 {
		t.Errorf("%v", w)
	}
}

// A rung holds what its floor and the next say, and no more than 6.25 %.
func TestRungs(t *testing.T) {
	for i := range numRungs {
		low, high := rungFloor(i), rungFloor(i+1)
		if rungOf(low) != i || rungOf(high-1) != i || float64(high-low) > float64(low)/16+1 {
			t.Errorf("rung %d: from %v (%d) to %v (%d)", i, low, rungOf(low), high, rungOf(high-1))
		}
	}
	for took, want := range map[time.Duration]int{-1: 0, 0: 0, 1: 0, 1023: 0, 1024: 0, time.Hour: numRungs - 1, math.MaxInt64: numRungs - 1} {
		if got := rungOf(took); got != want {
			t.Errorf("rungOf(%d) = %d, want %d", took, got, want)
		}
	}
}

func TestTallyQuantile(t *testing.T) {
	var y tally
	for ms := 1; ms <= 1000; ms++ {
		y.rungs[rungOf(time.Duration(ms)*time.Millisecond)].Add(1)
	}
	var l ladder
	v := y.read(&l)
	for q, want := range map[float64]time.Duration{.5: 500 * time.Millisecond, .95: 950 * time.Millisecond, 1: time.Second} {
		got := l.quantile(q, v.Timed)
		if math.Abs(float64(got-want)) > .0625*float64(want) {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if v.Timed != 1000 || v.P95 != l.quantile(.95, 1000) {
		t.Errorf("%+v", v)
	}
	if sure, maybe := l.above(500 * time.Millisecond); sure > 500 || sure < 468 || maybe < 500 || maybe > 532 {
		t.Errorf("%d to %d above 500 ms", sure, maybe)
	}
	if (&ladder{}).quantile(.95, 0) != 0 {
		t.Error("a quantile of nothing")
	}
}
