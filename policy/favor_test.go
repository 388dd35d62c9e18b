package policy

import (
	"math"
	"testing"
)

// TestFavorIsFair computes what one coin is worth on average when the canary is
// margin times as bad, or worse, exactly: never more than one coin. That is all
// that the bound on false promotions rests on.
func TestFavorIsFair(t *testing.T) {
	binomial := func(n, k int, p float64) float64 {
		a, _ := math.Lgamma(float64(n + 1))
		b, _ := math.Lgamma(float64(k + 1))
		c, _ := math.Lgamma(float64(n - k + 1))
		if p >= 1 {
			return map[bool]float64{true: 1}[k == n]
		}
		return math.Exp(a - b - c + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
	}
	for _, margin := range []float64{1.5, 2, 10} {
		for _, worse := range []float64{1, 1.7} {
			for _, p := range []float64{.01, .05, .1} {
				for canary := 1; canary <= 12; canary += 2 {
					for active := 1; active <= 30; active += 5 {
						one, both := 0.0, 0.0
						bad := min(p*margin*worse, 1)
						for k := range canary + 1 {
							for a := range active + 1 {
								if p*margin*worse > 1 { // no such canary
									continue
								}
								var f favor
								f.compare(uint64(k), uint64(k+a), float64(canary)/float64(canary+active), margin)
								f.alone(uint64(k), uint64(canary), p, margin)
								w := binomial(canary, k, bad) * binomial(active, a, p)
								one += w * math.Exp(f[0])
								both += w * math.Exp(f.worth())
							}
						}
						if one > 1+1e-9 || both > 1+1e-9 {
							t.Fatalf("margin %v × %v, %d canary and %d active requests, rate %v: a coin becomes %v and %v", margin, worse, canary, active, p, one, both)
						}
					}
				}
			}
		}
	}
	for _, above := range []float64{.05, .06, .5, 1} { // the share of answers above the limit
		const n = 60
		sum := 0.0
		for k := range n + 1 {
			var h haste
			h.settle(uint64(k), n)
			sum += binomial(n, k, above) * math.Exp(h.worth())
		}
		if sum > 1+1e-9 {
			t.Errorf("%v above the limit: a coin becomes %v", above, sum)
		}
	}
}

func TestFavorLearnsNothing(t *testing.T) {
	var f favor
	f.compare(0, 0, .5, 10)
	f.compare(7, 7, 1, 10)
	f.compare(0, 7, 0, 10)
	f.alone(0, 0, .001, 10)
	if f != (favor{}) || f.worth() != 0 {
		t.Errorf("%v", f)
	}
}
