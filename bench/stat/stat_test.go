package stat_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/quadnine/quadnine/bench/stat"
)

func TestMedian(t *testing.T) {
	for want, v := range map[float64][]float64{0: nil, 2: {3, 1, 2}, 2.5: {4, 1, 3, 2}, 7: {7}} {
		if got := stat.Median(v); got != want {
			t.Errorf("Median(%v) = %v, want %v", v, got, want)
		}
	}
}

// What slows both of a round down does not widen the interval.
func TestRatioIsOfPairs(t *testing.T) {
	b := []float64{1, 5, 2, 9, 1, 3, 8, 2, 4}
	a := make([]float64, len(b))
	for i := range b {
		a[i] = 1.2 * b[i]
	}
	got := stat.Ratio(a, b)
	for _, v := range []float64{got.Ratio, got.Low, got.High} {
		if math.Abs(v-1.2) > 1e-9 {
			t.Fatalf("%+v, want 1.2 without spread", got)
		}
	}
}

// The interval holds the true ratio about as often as it says. Nine rounds are
// few, so a bootstrap is a little too narrow: 90 to 97 % in place of 95.
func TestIntervalCovers(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	const runs, rounds, truth = 300, 9, 1.3
	held := 0
	for range runs {
		var a, b []float64
		for range rounds {
			base := math.Exp(0.3 * rng.NormFloat64())
			b = append(b, base)
			a = append(a, base*truth*math.Exp(0.1*rng.NormFloat64()))
		}
		if i := stat.Ratio(a, b); i.Low <= truth && truth <= i.High {
			held++
		}
	}
	if held < runs*85/100 || held > runs*99/100 {
		t.Errorf("the interval held the truth in %d of %d runs", held, runs)
	}
}

func TestRatioOfNothing(t *testing.T) {
	if got := stat.Ratio(nil, []float64{1}); got != (stat.Interval{}) {
		t.Errorf("%+v", got)
	}
	if got := stat.Ratio([]float64{0, 2}, []float64{1, 1}); got.Ratio != 2 {
		t.Errorf("%+v: a round without a value is left out", got)
	}
}
