package policy

import (
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

// fleet is several judges of one canary.
func fleet(t *testing.T, n int, change func(*JudgeConfig)) []*Judge {
	t.Helper()
	out := make([]*Judge, n)
	for i := range out {
		out[i] = newJudge(t, 0, change)
	}
	return out
}

func summaries(of []*Judge, now int64) []Summary {
	out := make([]Summary, len(of))
	for i, j := range of {
		out[i] = j.Summary(now)
	}
	return out
}

// Evidence that is too small on each of three sidecars decides together: for a
// good canary, and against a bad one.
func TestPoolDecidesTogether(t *testing.T) {
	good, bad := fleet(t, 3, nil), fleet(t, 3, nil)
	for i := range 3 {
		answers(good[i], SideCanary, 250, time.Millisecond)
		answers(good[i], SideActive, 4_750, time.Millisecond)
		answers(bad[i], SideCanary, 30, time.Millisecond)
		answers(bad[i], SideActive, 600, time.Millisecond)
		failures(bad[i], SideCanary, 2)
	}
	for _, x := range []struct {
		name string
		of   []*Judge
		want Verdict
		why  Cause
	}{{"good", good, Promote, Passed}, {"bad", bad, Rollback, ErrorRate}} {
		for i, j := range x.of {
			if v, e := j.Verdict(60 * second); v != Hold {
				t.Errorf("%s: sidecar %d decided alone: %v", x.name, i, e)
			}
			if e := Pool(DefaultPoolConfig(), summaries(x.of[:1], 60*second)); e.Verdict != Hold {
				t.Errorf("%s: a pool of one decided: %v", x.name, e)
			}
		}
		if e := Pool(DefaultPoolConfig(), summaries(x.of, 60*second)); e.Verdict != x.want || e.Why != x.why {
			t.Errorf("%s: %v, want %v, %v", x.name, e, x.want, x.why)
		}
	}
}

// A pool of one is that one's judge.
func TestPoolOfOne(t *testing.T) {
	j := newJudge(t, 0, nil)
	answers(j, SideCanary, 700, time.Millisecond)
	answers(j, SideActive, 13_300, time.Millisecond)
	failures(j, SideActive, 14)
	alone := j.Look(60 * second)
	pooled := Pool(DefaultPoolConfig(), summaries([]*Judge{j}, 60*second))
	if alone.Verdict != Promote || pooled.Verdict != Promote || pooled.Canary != alone.Canary || pooled.Active != alone.Active || pooled.DecideRequests != alone.DecideRequests {
		t.Errorf("\nalone  %v\npooled %v", alone, pooled)
	}
}

func TestPoolVetoes(t *testing.T) {
	notFinite := func(j *Judge) { j.NotFinite(SideCanary) }
	failing := func(j *Judge) { answers(j, SideActive, 100, 1); failures(j, SideCanary, 5) }
	for _, x := range []struct {
		name   string
		spread VetoSpread
		do     func(*Judge)
		others int // requests of the canary on each of the two others, which all succeed
		want   Verdict
		why    Cause
	}{
		{"NaN", SpreadNonFinite, notFinite, 2_000, Rollback, NonFinite},
		{"NaN, none", SpreadNone, notFinite, 2_000, Promote, Passed},
		{"NaN, any", SpreadAny, notFinite, 2_000, Rollback, NonFinite},
		{"failing, others say nothing", SpreadNonFinite, failing, 0, Rollback, ErrorRate},
		{"failing, others object", SpreadNonFinite, failing, 2_000, Promote, Passed},
		{"failing, others object in vain", SpreadAny, failing, 2_000, Rollback, ErrorRate},
	} {
		t.Run(x.name, func(t *testing.T) {
			of := fleet(t, 3, nil)
			x.do(of[0])
			for _, j := range of[1:] {
				answers(j, SideCanary, x.others, time.Millisecond)
				answers(j, SideActive, 19*x.others, time.Millisecond)
				failures(j, SideActive, 19*x.others/1000)
			}
			v, _ := of[0].Verdict(60 * second)
			if v != Rollback {
				t.Fatal("the sidecar itself does not take it back")
			}
			cfg := DefaultPoolConfig()
			cfg.Spread = x.spread
			e := Pool(cfg, summaries(of, 60*second))
			if e.Verdict != x.want || e.Why != x.why {
				t.Errorf("%v, want %v, %v", e, x.want, x.why)
			}
		})
	}
}

// What one sidecar says, however wrong, is bounded.
func TestPoolBoundsALiar(t *testing.T) {
	of := summaries(fleet(t, 3, nil), 60*second)
	lie := func(to float64, logs ...[]float64) {
		for _, l := range logs {
			for i := range l {
				l[i] = to
			}
		}
	}
	cfg := DefaultPoolConfig()
	cfg.Share = 0.5
	lie(1e6, of[0].Against[:], of[0].Clear[:], of[0].Slower[:], of[0].Faster[:])
	of[0].Canary = Tally{Requests: 1e6, Failures: 1e5, Timed: 9e5, P95: time.Second}
	if e := Pool(cfg, of); e.Verdict != Hold || math.Abs(e.ErrorsAgainst*e.ErrorsAgainst/e.Needed-1) > 1e-6 || math.Abs(e.ErrorsFor*e.ErrorsFor/e.NeededFor-1) > 1e-6 {
		t.Errorf("half of the evidence: %v", e)
	}
	lie(-1e6, of[0].Against[:], of[0].Clear[:])
	lie(3, of[1].Against[:], of[2].Against[:], of[1].Clear[:], of[2].Clear[:])
	if e := Pool(cfg, of); e.ErrorsAgainst < hedge*math.Exp(2*2.8) || e.ErrorsFor < hedge*math.Exp(4.6)*.99 {
		t.Errorf("what is left of the others': %v", e)
	}
}

// Several trials of one sidecar are one: it has one say.
func TestSummaryAdd(t *testing.T) {
	j := newJudge(t, 0, nil)
	answers(j, SideCanary, 300, time.Millisecond)
	answers(j, SideActive, 300, time.Millisecond)
	a, b := j.Summary(60*second), j.Summary(90*second)
	b.Config.Alpha, b.Config.PromoteAfter, b.Veto = 1e-4, time.Hour, ErrorRate
	a.Add(&b)
	if a.Canary.Requests != 600 || a.Age != 90*time.Second || a.Config.Alpha != 1e-4 || a.Config.PromoteAfter != time.Hour || a.Clear[1] != 2*b.Clear[1] || a.Veto != ErrorRate {
		t.Errorf("%+v", a)
	}
}

// A summary that is made while requests are counted can be weighed: a pool refuses
// what does not add up.
func TestSummaryWhileRecording(t *testing.T) {
	j := newJudge(t, 0, nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	done := make(chan struct{})
	defer close(done)
	for range 2 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				j.Record(SideCanary, Success, time.Microsecond<<(i%20))
				if i%1000 == 0 {
					j.Record(SideCanary, Failure, 0)
				}
			}
		})
	}
	for range 20_000 {
		s := j.Summary(second)
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
	}
}

// A failure that was being counted when a stratum ended does not make it one with
// more failures than requests.
func TestSinceNeverFailsMoreThanItAsks(t *testing.T) {
	then, now := Tally{Requests: 9, Failures: 8}, Tally{Requests: 17, Failures: 17}
	if got := now.since(&then); got.Failures > got.Requests {
		t.Errorf("%d failures of %d requests", got.Failures, got.Requests)
	}
}

func TestSummaryCheck(t *testing.T) {
	sound := newJudge(t, 0, nil).Summary(second)
	if err := sound.Check(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Summary){
		"alpha":       func(s *Summary) { s.Config.Alpha = 2 },
		"failures":    func(s *Summary) { s.Canary.Failures = 1 },
		"answers":     func(s *Summary) { s.Active = Tally{Requests: 2, Failures: 1, Timed: 2} },
		"no evidence": func(s *Summary) { s.Faster[1] = math.NaN() },
		"negative":    func(s *Summary) { s.Age = -1 },
		"no veto":     func(s *Summary) { s.Veto = Passed },
	} {
		s := sound
		change(&s)
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// TestPoolErrors holds the pool of three to the bounds of one, from a fixed seed.
func TestPoolErrors(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name      string
		canary    float64
		trials    int
		promotes  [2]float64
		rollbacks [2]float64
	}{
		{"as good", .001, 400, [2]float64{.98, 1}, [2]float64{0, .001 + 3*.0016}},
		{"ten times as bad", .01, 600, [2]float64{0, .01 + 3*.0041}, [2]float64{.97, 1}},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(9999, uint64(x.trials)))
			var n [3]int
			var took [3]time.Duration
			for range x.trials {
				of := fleet(t, 3, nil)
				e := Evidence{}
				for now := time.Second; now <= 30*time.Minute && e.Verdict == Hold; now += time.Second {
					for _, j := range of { // 3 requests/s of each one's canary
						for s, y := range [2]struct{ rate, bad float64 }{{57, .001}, {3, x.canary}} {
							k := poisson(r, y.rate)
							f := binomial(r, k, y.bad)
							j.sides[s].requests.Add(uint64(k))
							j.sides[s].failures.Add(uint64(f))
							j.sides[s].rungs[rungOf(time.Millisecond)].Add(uint64(k - f))
						}
					}
					e = Pool(DefaultPoolConfig(), summaries(of, int64(now)))
				}
				n[e.Verdict]++
				took[e.Verdict] += e.Age
			}
			p, b := float64(n[Promote])/float64(x.trials), float64(n[Rollback])/float64(x.trials)
			t.Logf("%d trials: promoted %.2f %% (after %v), taken back %.2f %% (after %v)", x.trials, 100*p, took[Promote]/time.Duration(max(1, n[Promote])), 100*b, took[Rollback]/time.Duration(max(1, n[Rollback])))
			if p < x.promotes[0] || p > x.promotes[1] || b < x.rollbacks[0] || b > x.rollbacks[1] {
				t.Errorf("promoted %v, want %v; taken back %v, want %v", p, x.promotes, b, x.rollbacks)
			}
		})
	}
}

func TestParseSpread(t *testing.T) {
	for _, s := range []VetoSpread{SpreadNonFinite, SpreadNone, SpreadAny} {
		if got, err := ParseSpread(s.String()); err != nil || got != s {
			t.Errorf("%v: %v, %v", s, got, err)
		}
	}
	if _, err := ParseSpread("all"); err == nil {
		t.Error("all is taken")
	}
	for _, share := range []float64{0, 1.1, math.NaN()} {
		if err := (&PoolConfig{Share: share}).Validate(); err == nil {
			t.Errorf("share %v is taken", share)
		}
	}
}
