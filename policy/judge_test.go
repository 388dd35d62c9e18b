package policy

import (
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func newJudge(tb testing.TB, now int64, change func(*JudgeConfig)) *Judge {
	tb.Helper()
	cfg := DefaultJudgeConfig()
	if change != nil {
		change(&cfg)
	}
	j, err := NewJudge(cfg, now)
	if err != nil {
		tb.Fatal(err)
	}
	return j
}

// answers records n successes of s that took each.
func answers(j *Judge, s Side, n int, took time.Duration) {
	for range n {
		j.Record(s, Success, took)
	}
}

func failures(j *Judge, s Side, n int) {
	for range n {
		j.Record(s, Failure, 0)
	}
}

const second = int64(time.Second)

func TestVerdict(t *testing.T) {
	const fast = 10 * time.Millisecond
	both := func(j *Judge, canary, active int) {
		answers(j, SideCanary, canary, fast)
		answers(j, SideActive, active, fast)
	}
	for name, x := range map[string]struct {
		change func(*JudgeConfig)
		do     func(*Judge)
		at     int64
		want   Verdict
		why    Cause
	}{
		"nothing happened":    {do: func(*Judge) {}, at: 0, want: Hold, why: TooEarly},
		"before promoteAfter": {do: func(j *Judge) { both(j, 540, 10_000) }, at: 60*second - 1, want: Hold, why: TooEarly},
		"at promoteAfter":     {do: func(j *Judge) { both(j, 600, 10_000) }, at: 60 * second, want: Promote, why: Passed},
		"99 requests":         {do: func(j *Judge) { both(j, 99, 1_900) }, at: 3599 * second, want: Hold, why: TooFew},
		"100 requests":        {do: func(j *Judge) { both(j, 100, 1_900) }, at: 60 * second, want: Hold, why: Unproven},
		"585 requests":        {do: func(j *Judge) { both(j, 584, 1_900) }, at: 60 * second, want: Hold, why: Unproven},
		"586 requests":        {do: func(j *Judge) { both(j, 586, 1_900) }, at: 60 * second, want: Promote, why: Passed},
		"of a smaller margin": {
			change: func(c *JudgeConfig) { c.Margin = 20 },
			do:     func(j *Judge) { both(j, 280, 1_900) }, at: 60 * second, want: Promote, why: Passed,
		},
		"failures are no answers": {
			do: func(j *Judge) { failures(j, SideCanary, 200); failures(j, SideActive, 3_800) },
			at: 60 * second, want: Hold, why: TooFew,
		},
		"neutral is nothing": {
			do: func(j *Judge) {
				for range 200 {
					j.Record(SideCanary, Neutral, fast)
				}
			},
			at: 60 * second, want: Hold, why: TooFew,
		},
		"one NaN": {do: func(j *Judge) { both(j, 999, 9_999); j.NotFinite(SideCanary) }, at: 1, want: Rollback, why: NonFinite},
		"the active version's NaN": {
			do: func(j *Judge) { both(j, 700, 9_999); j.NotFinite(SideActive) },
			at: 60 * second, want: Promote, why: Passed,
		},
		"4 failures of 4":       {do: func(j *Judge) { both(j, 0, 76); failures(j, SideCanary, 4) }, at: second / 2, want: Hold, why: TooEarly},
		"5 failures of 5":       {do: func(j *Judge) { both(j, 0, 95); failures(j, SideCanary, 5) }, at: second / 2, want: Rollback, why: ErrorRate},
		"5 of 500 beside 0":     {do: func(j *Judge) { both(j, 495, 9_500); failures(j, SideCanary, 5) }, at: 60 * second, want: Rollback, why: ErrorRate},
		"5 of 100 beside 5 %":   {do: func(j *Judge) { both(j, 95, 1_805); failures(j, SideCanary, 5); failures(j, SideActive, 95) }, at: 59 * second, want: Hold, why: TooEarly},
		"half each, both 50 %":  {do: func(j *Judge) { both(j, 500, 500); failures(j, SideCanary, 500); failures(j, SideActive, 500) }, at: 60 * second, want: Promote, why: Passed},
		"half each, 5 beside 0": {do: func(j *Judge) { both(j, 495, 500); failures(j, SideCanary, 5) }, at: 59 * second, want: Hold, why: TooEarly},
		"half each, 20 beside 0": {
			do: func(j *Judge) { both(j, 480, 500); failures(j, SideCanary, 20) },
			at: 59 * second, want: Rollback, why: ErrorRate,
		},
		"4 failures, unproven": {
			do: func(j *Judge) { both(j, 536, 10_260); failures(j, SideCanary, 4) },
			at: 60 * second, want: Hold, why: Unproven,
		},
		"1 failure, in doubt": {
			do: func(j *Judge) { both(j, 900, 17_100); failures(j, SideCanary, 1) },
			at: 60 * second, want: Hold, why: InDoubt,
		},
		"undecided for an hour": {
			do: func(j *Judge) { both(j, 300, 5_700) },
			at: 3600 * second, want: Hold, why: Undecided,
		},
		"undecided for an hour, to go back": {
			change: func(c *JudgeConfig) { c.AtMaxWait = Rollback },
			do:     func(j *Judge) { both(j, 300, 5_700) },
			at:     3600 * second, want: Rollback, why: Undecided,
		},
		"undecided before PromoteAfter": {
			change: func(c *JudgeConfig) { c.AtMaxWait, c.PromoteAfter = Rollback, 2*time.Hour },
			do:     func(j *Judge) { both(j, 300, 5_700) },
			at:     3600 * second, want: Hold, why: TooEarly,
		},
		"good, and late": {
			change: func(c *JudgeConfig) { c.AtMaxWait = Rollback },
			do:     func(j *Judge) { both(j, 700, 5_700) },
			at:     3600 * second, want: Promote, why: Passed,
		},
		"the pool has the say": {
			do: func(j *Judge) { both(j, 700, 13_300); j.SetPooling(PoolDecides) },
			at: 60 * second, want: Hold, why: AwaitsPool,
		},
		"the pool has said so": {
			do: func(j *Judge) { both(j, 7, 133); j.SetPooling(PoolPromotes) },
			at: second, want: Promote, why: Pooled,
		},
		"the pool is overruled": {
			do: func(j *Judge) { both(j, 700, 13_300); j.SetPooling(PoolPromotes); j.NotFinite(SideCanary) },
			at: second, want: Rollback, why: NonFinite,
		},
		"4 failures of many": {
			do: func(j *Judge) { both(j, 2_996, 57_000); failures(j, SideCanary, 4) },
			at: 60 * second, want: Promote, why: Passed,
		},
		"alone and failing": {do: func(j *Judge) { both(j, 95, 0); failures(j, SideCanary, 5) }, at: second, want: Rollback, why: ErrorRate},
		"alone, 1 ms ago":   {do: func(j *Judge) { failures(j, SideCanary, 50) }, at: second / 1000, want: Hold, why: TooEarly},
		"alone and well":    {do: func(j *Judge) { both(j, 700, 0) }, at: 60 * second, want: Promote, why: Passed},
		"three times as slow": {
			do: func(j *Judge) { answers(j, SideCanary, 100, 3*fast); answers(j, SideActive, 1_900, fast) },
			at: second, want: Rollback, why: SlowAnswers,
		},
		"three times as slow, 99": {
			do: func(j *Judge) { answers(j, SideCanary, 99, 3*fast); answers(j, SideActive, 1_900, fast) },
			at: second, want: Hold, why: TooEarly,
		},
		"three times as slow, active unknown": {
			do: func(j *Judge) { answers(j, SideCanary, 1_000, 3*fast); answers(j, SideActive, 99, fast) },
			at: second, want: Hold, why: TooEarly,
		},
		"a tenth slow": {
			do: func(j *Judge) {
				both(j, 900, 19_000)
				answers(j, SideCanary, 100, 3*fast)
			},
			at: 59 * second, want: Rollback, why: SlowAnswers,
		},
		"6 in 100 slow: chance": {
			do: func(j *Judge) { both(j, 94, 1_900); answers(j, SideCanary, 6, 3*fast) },
			at: 60 * second, want: Hold, why: Unproven,
		},
		"as slow as the limit": {
			do: func(j *Judge) { both(j, 950, 19_000); answers(j, SideCanary, 50, 3*fast) },
			at: 60 * second, want: Hold, why: Unproven,
		},
		"the active version's P95 unknown": {
			do: func(j *Judge) { both(j, 1_000, 99) },
			at: 60 * second, want: Hold, why: TooFew,
		},
		"slow below the floor": {
			do: func(j *Judge) {
				answers(j, SideCanary, 700, 4*time.Millisecond)
				answers(j, SideActive, 13_300, time.Millisecond/10)
			},
			at: 60 * second, want: Promote, why: Passed,
		},
		"allowed to be slow": {
			change: func(c *JudgeConfig) { c.LatencyRatio = 4 },
			do:     func(j *Judge) { answers(j, SideCanary, 700, 3*fast); answers(j, SideActive, 13_300, fast) },
			at:     60 * second, want: Promote, why: Passed,
		},
	} {
		t.Run(name, func(t *testing.T) {
			j := newJudge(t, 0, x.change)
			x.do(j)
			v, e := j.Verdict(x.at)
			if v != x.want || e.Why != x.why || v != e.Verdict || e.First != (v != Hold) {
				t.Errorf("got %v (first %v), want %v, %v", e, e.First, x.want, x.why)
			}
		})
	}
}

// A verdict that ends the trial is given once as news, and never changes.
func TestVerdictIsFinal(t *testing.T) {
	j := newJudge(t, 0, nil)
	if !j.NotFinite(SideCanary) || j.NotFinite(SideActive) || j.Record(SideCanary, Success, 1) || !j.Record(SideCanary, Failure, 1) || j.Record(SideActive, Failure, 1) {
		t.Error("Record asks for a look when the canary fails, and only then")
	}
	if e := j.Look(5); e.Verdict != Rollback || e.First {
		t.Fatal(e)
	}
	v, first := j.Verdict(5)
	if v != Rollback || !first.First {
		t.Fatal("a look decided: ", first)
	}
	answers(j, SideCanary, 1_000, time.Millisecond)
	v, again := j.Verdict(100 * second)
	if again.First {
		t.Error("told as news twice")
	}
	again.First = true
	if v != Rollback || again != first {
		t.Errorf("changed from %v to %v", first, again)
	}
	if e := j.Look(200 * second); e.First || e.At != first.At {
		t.Errorf("a look sees %v", e)
	}
}

// Of callers that ask at once, one acts.
func TestVerdictFirstOnce(t *testing.T) {
	j := newJudge(t, 0, nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	firsts := 0
	for range 8 {
		wg.Go(func() {
			for i := range 500 {
				j.Record(SideActive, Success, time.Millisecond)
				if i == 250 {
					j.NotFinite(SideCanary)
				}
				if _, e := j.Verdict(int64(i)); e.First {
					mu.Lock()
					firsts++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if firsts != 1 {
		t.Errorf("%d calls were the first", firsts)
	}
}

// What hits both versions at once is held against neither, although the canary's
// share of the requests is another in the bad minute than in the good one.
func TestOutageOfBoth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJudge(t, clock(), func(c *JudgeConfig) { c.PromoteAfter = time.Hour })
		for range 60 { // a quiet minute: 1 % of the requests are the canary's
			answers(j, SideCanary, 10, time.Millisecond)
			answers(j, SideActive, 990, time.Millisecond)
			time.Sleep(time.Second)
			j.Verdict(clock())
		}
		for range 60 { // 10 %, and every other request fails
			answers(j, SideCanary, 50, time.Millisecond)
			answers(j, SideActive, 450, time.Millisecond)
			failures(j, SideCanary, 50)
			failures(j, SideActive, 450)
			time.Sleep(time.Second)
			if v, e := j.Verdict(clock()); v != Hold {
				t.Fatal(e)
			}
		}
		if _, e := j.Verdict(clock()); e.ErrorsAgainst > 1 {
			t.Errorf("evidence out of nothing: %v", e)
		}
	})
}

// With a request a second there are seconds in which only the canary has one:
// that does not make it a canary without anything to be compared with.
func TestTrickleOfFailures(t *testing.T) {
	j := newJudge(t, 0, nil)
	for s := range int64(300) {
		failures(j, Side(s%2), 1)
		if v, e := j.Verdict((s + 1) * second); v != Hold {
			t.Fatal(e)
		}
	}
}

// A canary that starts to fail is taken back at its fifth failure, not at the
// next tick, and one that works is promoted on time.
func TestTrialInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, breaks := range []time.Duration{0, 20 * time.Second} {
			begun := clock()
			j := newJudge(t, begun, nil)
			failed := 0
			v, e := Hold, Evidence{}
			for i := 0; v == Hold; i++ {
				time.Sleep(time.Second / 200) // 10 of them a second are the canary's
				look := i%200 == 199
				switch {
				case i%20 != 0:
					j.Record(SideActive, Success, time.Millisecond)
				case breaks > 0 && clock()-begun > int64(breaks):
					look = j.Record(SideCanary, Failure, 0)
					failed++
				default:
					j.Record(SideCanary, Success, time.Millisecond)
				}
				if look {
					v, e = j.Verdict(clock())
				}
			}
			switch {
			case breaks == 0 && (v != Promote || e.Age != time.Minute):
				t.Errorf("a good canary: %v", e)
			case breaks > 0 && (v != Rollback || failed != 5 || e.Canary.Failures != 5):
				t.Errorf("a bad canary, after %d failures: %v", failed, e)
			}
		}
	})
}

func TestJudgeRetune(t *testing.T) {
	j := newJudge(t, 0, nil)
	answers(j, SideCanary, 1_000, 1)
	cfg := j.Config()
	cfg.MinRequests = 0
	if err := j.Retune(cfg); err == nil || j.Config() != DefaultJudgeConfig() {
		t.Errorf("%v; %+v", err, j.Config())
	}
	cfg.MinRequests, cfg.PromoteAfter = 10, time.Second
	if err := j.Retune(cfg); err != nil || j.Config() != cfg {
		t.Errorf("%v; %+v", err, j.Config())
	}
	if v, e := j.Verdict(second); v != Promote {
		t.Error(e)
	}
}

func TestJudgeConfigNamesTheField(t *testing.T) {
	for field, change := range map[string]func(*JudgeConfig){
		"promoteAfter":         func(c *JudgeConfig) { c.PromoteAfter = 0 },
		"minRequests":          func(c *JudgeConfig) { c.MinRequests = 0 },
		"minFailures":          func(c *JudgeConfig) { c.MinFailures = maxJudged + 1 },
		"alpha":                func(c *JudgeConfig) { c.Alpha = math.NaN() },
		"beta":                 func(c *JudgeConfig) { c.Beta = 0.51 },
		"baselineErrorPercent": func(c *JudgeConfig) { c.BaselineErrorPercent = 10.1 },
		"margin":               func(c *JudgeConfig) { c.Margin = 1.4 },
		"maxWait":              func(c *JudgeConfig) { c.MaxWait = 0 },
		"atMaxWait":            func(c *JudgeConfig) { c.AtMaxWait = Promote },
		"latencyRatio":         func(c *JudgeConfig) { c.LatencyRatio = math.Inf(1) },
		"latencyFloor":         func(c *JudgeConfig) { c.LatencyFloor = -1 },
		"latencyMinSamples":    func(c *JudgeConfig) { c.LatencyMinSamples = 19 },
	} {
		cfg := DefaultJudgeConfig()
		change(&cfg)
		err := cfg.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), "policy: "+field+" is ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", field, err)
		}
		if j, err := NewJudge(cfg, 0); err == nil || j != nil {
			t.Errorf("%s: NewJudge accepts it", field)
		}
	}
	var zero JudgeConfig
	if got := strings.Count(zero.Validate().Error(), "policy: "); got != 11 {
		t.Errorf("the zero configuration has %d errors, want 11: %v", got, zero.Validate())
	}
}
