package policy

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// traffic is a seeded service under trial.
type traffic struct {
	rate           float64 // requests a second, both versions together
	share          float64 // the canary's
	active, canary float64 // error rates
}

// try runs one trial to its end, or for limit, asking every second and at each
// failure of the canary.
func (x traffic) try(tb testing.TB, r *rand.Rand, limit time.Duration, change func(*JudgeConfig)) (Verdict, Evidence) {
	tb.Helper()
	const slice = 100 * time.Millisecond
	j := newJudge(tb, 0, change)
	count := func(s Side, requests, bad float64) {
		n := poisson(r, requests*slice.Seconds())
		f := binomial(r, n, bad)
		j.sides[s].requests.Add(uint64(n))
		j.sides[s].failures.Add(uint64(f))
		j.sides[s].rungs[rungOf(time.Millisecond)].Add(uint64(n - f))
	}
	failed := uint64(0)
	var v Verdict
	var e Evidence
	for now := slice; now <= limit; now += slice {
		count(SideActive, x.rate*(1-x.share), x.active)
		count(SideCanary, x.rate*x.share, x.canary)
		if f := j.sides[SideCanary].failures.Load(); f > failed || now%time.Second == 0 {
			failed = f
			if v, e = j.Verdict(int64(now)); v != Hold {
				return v, e
			}
		}
	}
	return v, e
}

// TestJudgeLatencyErrors is the same for latency: log-normal, looked at every
// second for five minutes.
func TestJudgeLatencyErrors(t *testing.T) {
	t.Parallel()
	const trials = 40
	for ratio, want := range map[float64][2]int{1: {0, 0}, 2: {0, 2}, 2.5: {trials - 1, trials}, 10: {trials, trials}} {
		r := rand.New(rand.NewPCG(9999, 1))
		draw := func(m float64) time.Duration { return time.Duration(m * 1e7 * math.Exp(.5*r.NormFloat64())) }
		back := 0
		for range trials {
			j := newJudge(t, 0, func(c *JudgeConfig) { c.PromoteAfter = time.Hour })
			for s := range int64(300) {
				for range 171 {
					j.Record(SideActive, Success, draw(1))
				}
				for range 9 {
					j.Record(SideCanary, Success, draw(ratio))
				}
				if v, _ := j.Verdict((s + 1) * second); v == Rollback {
					back++
					break
				}
			}
		}
		t.Logf("P95 times %v: %d of %d taken back", ratio, back, trials)
		if back < want[0] || back > want[1] {
			t.Errorf("P95 times %v: %d of %d taken back, want %v", ratio, back, trials, want)
		}
	}
}

// binomial draws how many of n fail.
func binomial(r *rand.Rand, n int, p float64) (k int) {
	if n > 100 { // and p is small
		return min(poisson(r, float64(n)*p), n)
	}
	for range n {
		if r.Float64() < p {
			k++
		}
	}
	return k
}

// poisson draws from a Poisson distribution: by counting below 50, by the normal
// one above.
func poisson(r *rand.Rand, mean float64) int {
	if mean > 50 {
		return int(max(0, math.Round(mean+math.Sqrt(mean)*r.NormFloat64())))
	}
	n, p, floor := 0, r.Float64(), math.Exp(-mean)
	for ; p > floor; n++ {
		p *= r.Float64()
	}
	return n
}

// TestJudgeErrors measures how often the judge is wrong, from a fixed seed; the
// bounds leave three standard deviations. The figures of docs/decisions are of
// the same simulation with more trials.
func TestJudgeErrors(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name      string
		traffic   traffic
		limit     time.Duration
		change    func(*JudgeConfig)
		trials    int
		promotes  [2]float64 // at least, at most: shares of the trials
		rollbacks [2]float64
	}{
		// A good one is taken back in at most 0.1 % of the trials, plus three standard deviations of 1,000.
		{"as good, 0.1 %", traffic{180, .05, .001, .001}, 30 * time.Minute, nil, 1000, [2]float64{.996, 1}, [2]float64{0, .004}},
		{"as good, 1 %", traffic{180, .05, .01, .01}, 30 * time.Minute, nil, 1000, [2]float64{.996, 1}, [2]float64{0, .004}},
		{"as good, never fails", traffic{180, .05, 0, 0}, 30 * time.Minute, nil, 100, [2]float64{1, 1}, [2]float64{0, 0}},
		{"as good, half of the requests", traffic{180, .5, .01, .01}, 30 * time.Minute, nil, 1000, [2]float64{.996, 1}, [2]float64{0, .004}},
		{"as good, 1 request/s", traffic{20, .05, .001, .001}, time.Hour, nil, 200, [2]float64{.9, 1}, [2]float64{0, .008}},
		{"as good, 900 requests/s", traffic{18000, .05, .001, .001}, 5 * time.Minute, nil, 200, [2]float64{.99, 1}, [2]float64{0, .008}},
		// One that is margin times as bad is promoted in at most 1 %, plus three standard deviations.
		{"ten times as bad, 9 requests/s", traffic{180, .05, .001, .01}, 30 * time.Minute, nil, 2000, [2]float64{0, .01 + 3*.0022}, [2]float64{.98, 1}},
		{"ten times as bad, 1 request/s", traffic{20, .05, .001, .01}, 2 * time.Hour, nil, 200, [2]float64{0, .01 + 3*.007}, [2]float64{.97, 1}},
		{"ten times as bad, 90 requests/s", traffic{1800, .05, .001, .01}, 30 * time.Minute, nil, 500, [2]float64{0, .01 + 3*.0045}, [2]float64{.98, 1}},
		{"ten times as bad, 1 % and 10 %", traffic{180, .05, .01, .1}, 30 * time.Minute, nil, 500, [2]float64{0, .01 + 3*.0045}, [2]float64{.98, 1}},
		{"ten times as bad, half of the requests", traffic{18, .5, .001, .01}, 30 * time.Minute, nil, 500, [2]float64{0, .01 + 3*.0045}, [2]float64{.98, 1}},
		{"ten times as bad, active never fails", traffic{180, .05, 0, .01}, 30 * time.Minute, nil, 500, [2]float64{0, .01 + 3*.0045}, [2]float64{.98, 1}},
		{"a hundred times as bad", traffic{180, .05, .001, .1}, 10 * time.Minute, nil, 200, [2]float64{0, 0}, [2]float64{1, 1}},
		{"no answers", traffic{180, .05, .001, 1}, 10 * time.Minute, nil, 200, [2]float64{0, 0}, [2]float64{1, 1}},
		{ // α itself, where it is loose enough to be seen: 5 %, looked at for ten minutes
			"as good, alpha 5 %",
			traffic{180, .05, .01, .01},
			10 * time.Minute,
			func(c *JudgeConfig) { c.Alpha, c.MinFailures, c.PromoteAfter = .05, 1, time.Hour },
			200,
			[2]float64{0, 0},
			[2]float64{0, .05 + 3*.0154},
		},
		{ // β itself: 20 %, and nothing else in the way of a promotion
			"three times as bad, margin 3, beta 20 %",
			traffic{180, .05, .001, .003},
			time.Hour,
			func(c *JudgeConfig) {
				c.Alpha, c.Beta, c.Margin, c.PromoteAfter, c.MinRequests = 1e-9, .2, 3, time.Second, 1
			},
			300,
			[2]float64{0, .2 + 3*.0231},
			[2]float64{0, 1},
		},
		{ // ten times as bad for the time that Expect tells
			"ten times as bad, 160 s",
			traffic{180, .05, .001, .01},
			160 * time.Second,
			func(c *JudgeConfig) { c.PromoteAfter = time.Hour },
			400,
			[2]float64{0, 0},
			[2]float64{.9 - 3*.015, 1},
		},
		{ // and as good: decided by then
			"as good, 160 s",
			traffic{180, .05, .001, .001},
			160 * time.Second,
			nil,
			400,
			[2]float64{.9 - 3*.015, 1},
			[2]float64{0, .004},
		},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(9999, uint64(x.trials)))
			var n [3]int
			var took [3]time.Duration
			told := ""
			for range x.trials {
				v, e := x.traffic.try(t, r, x.limit, x.change)
				n[v]++
				took[v] += e.Age
				told = e.Expect()
			}
			p, b := float64(n[Promote])/float64(x.trials), float64(n[Rollback])/float64(x.trials)
			after := func(v Verdict) time.Duration {
				return (took[v] / time.Duration(max(n[v], 1))).Round(time.Second / 10)
			}
			t.Logf("%d trials: promoted %.2f %% (after %v on average), taken back %.2f %% (after %v); told: %s", x.trials, 100*p, after(Promote), 100*b, after(Rollback), told)
			if p < x.promotes[0] || p > x.promotes[1] || b < x.rollbacks[0] || b > x.rollbacks[1] {
				t.Errorf("promoted %v, want %v; taken back %v, want %v", p, x.promotes, b, x.rollbacks)
			}
		})
	}
}
