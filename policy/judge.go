package policy

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Side is which of two versions answered.
type Side uint8

// The sides.
const (
	SideActive Side = iota // the version in force
	SideCanary             // the one on trial
)

// A stratum is a stretch of the trial within which the two versions are
// compared: what hits both at once, and what share of the requests each has,
// may differ from one to the next. It ends by time and by requests, never by
// what came of them, or its end would be evidence.
const (
	stratumAtLeast  = int64(time.Second)
	stratumRequests = 8 // of the canary's
)

// latencyTail is the share of answers that a P95 leaves above it.
const latencyTail = 0.05

// Judge is one canary's trial against the active version: it counts what both
// do and says what is to become of the canary. Make one when a canary begins.
//
// It is safe for concurrent use. Record takes no lock; Verdict and Look take one
// that nothing else takes.
type Judge struct {
	config atomic.Pointer[JudgeConfig]
	pool   atomic.Uint32 // Pooling
	start  int64
	sides  [2]tally // by Side

	mu      sync.Mutex
	decided *Evidence // guarded by mu; nil until the verdict is final
	against wager     // guarded by mu; the errors of the strata that ended
	clear   favor     // guarded by mu; the same, for the canary
	at      int64     // guarded by mu; when the current stratum began
	begun   [2]Tally  // guarded by mu; the counts of that moment
	ladders [2]ladder // guarded by mu; kept so that a look allocates nothing
}

// NewJudge begins a trial at now. The error is cfg.Validate's.
func NewJudge(cfg JudgeConfig, now int64) (*Judge, error) {
	j := &Judge{start: now, at: now}
	if err := j.Retune(cfg); err != nil {
		return nil, err
	}
	return j, nil
}

// Config returns the thresholds in force.
func (j *Judge) Config() JudgeConfig { return *j.config.Load() }

// Retune replaces the thresholds; what was counted stays. When cfg is not valid
// it changes nothing and returns an error. A final verdict stays final.
func (j *Judge) Retune(cfg JudgeConfig) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	j.config.Store(&cfg)
	return nil
}

// Record counts a request that s's version answered, or failed to, after took.
// Neutral is not counted. It reports true when the canary failed: ask for the
// Verdict now. It takes no lock and allocates nothing.
func (j *Judge) Record(s Side, o Outcome, took time.Duration) (look bool) {
	t := &j.sides[s]
	switch o {
	case Success:
		t.requests.Add(1)
		t.rungs[rungOf(took)].Add(1)
	case Failure:
		t.requests.Add(1)
		t.failures.Add(1)
		return s == SideCanary
	}
	return false
}

// NotFinite counts a request for which s's version computed NaN or an infinity,
// in place of Record. It reports what Record does.
func (j *Judge) NotFinite(s Side) (look bool) {
	t := &j.sides[s]
	t.requests.Add(1)
	t.failures.Add(1)
	t.notFinite.Add(1)
	return s == SideCanary
}

// Verdict says what is to become of the canary, and why. Promote and Rollback
// are final: the call that finds one has Evidence.First set, and every later
// call returns the same without it. Ask once a second, and whenever Record
// reports true. Cost: 0 allocations before the last, about two microseconds (BenchmarkVerdict).
func (j *Judge) Verdict(now int64) (Verdict, Evidence) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.weigh(now)
	if e.Verdict != Hold && j.decided == nil {
		final := e
		j.decided = &final
		e.First = true
	}
	return e.Verdict, e
}

// Look returns the evidence as Verdict would, and decides nothing: for admin
// pages.
func (j *Judge) Look(now int64) Evidence {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.weigh(now)
}

// weigh returns the final verdict's evidence, or what there is now. mu is held.
func (j *Judge) weigh(now int64) Evidence {
	if j.decided != nil {
		return *j.decided
	}
	cfg := j.config.Load()
	e := j.read(cfg, now)
	w := j.weights(cfg, &e)
	w.tell(&e)
	e.expect(cfg)
	e.Verdict, e.Why = e.conclude(cfg, Pooling(j.pool.Load()))
	return e
}

// read returns what was counted.
func (j *Judge) read(cfg *JudgeConfig, now int64) Evidence {
	return Evidence{
		At: now, Age: time.Duration(max(0, now-j.start)), Needed: 1 / cfg.Alpha, NeededFor: 1 / cfg.Beta, Margin: cfg.Margin,
		Canary: j.sides[SideCanary].read(&j.ladders[SideCanary]),
		Active: j.sides[SideActive].read(&j.ladders[SideActive]),
	}
}

// weights are the evidence as logarithms, each of a bet. Those of trials that are
// independent of one another add up.
type weights struct {
	against wager // that it fails more often
	clear   favor // that it does not fail margin times as often
	slower  wager // that its P95 is above the limit
	faster  haste // that it is not
}

func (j *Judge) weights(cfg *JudgeConfig, e *Evidence) (w weights) {
	w.against, w.clear = j.compare(cfg, e)
	w.clear.alone(e.Canary.Failures, e.Canary.Requests, cfg.BaselineErrorPercent/100, cfg.Margin)
	w.slower, w.faster = j.slower(cfg, e)
	return w
}

// tell writes what the weights are worth into e.
func (w *weights) tell(e *Evidence) {
	e.ErrorsAgainst, e.ErrorsFor = factor(w.against.worth()), factor(w.clear.worth())
	e.LatencyAgainst, e.LatencyFor = factor(w.slower.worth()), factor(w.faster.worth())
}

// compare returns the evidence that the canary fails more often, and that it
// does not fail margin times as often.
//
// Were the two equally good, each failure of a stratum would be one of the
// canary's with the chance that a request was: its share of the stratum's
// requests. Which of them failed is then a draw without replacement, which is
// never more favorable to the wager than the independent draws that it is
// settled as (Hoeffding 1963, theorem 4). A stratum without active requests is
// compared with the baseline, once it is over.
func (j *Judge) compare(cfg *JudgeConfig, e *Evidence) (wager, favor) {
	canary, active := e.Canary.since(&j.begun[SideCanary]), e.Active.since(&j.begun[SideActive])
	over := e.At-j.at >= stratumAtLeast && canary.Requests >= stratumRequests
	w, f := j.against, j.clear
	switch {
	case active.Requests > 0:
		share := float64(canary.Requests) / float64(canary.Requests+active.Requests)
		w.settle(canary.Failures, canary.Failures+active.Failures, share)
		f.compare(canary.Failures, canary.Failures+active.Failures, share, cfg.Margin)
	case over:
		w.settle(canary.Failures, canary.Requests, cfg.BaselineErrorPercent/100)
	}
	if over {
		j.against, j.clear, j.at = w, f, e.At
		j.begun = [2]Tally{SideActive: e.Active, SideCanary: e.Canary}
	}
	return w, f
}

// factor returns e^l, or where that is too large for a float64, enough.
func factor(l float64) float64 { return math.Exp(min(l, 700)) }

// since returns the counts that were added to old. A request that was being
// counted when old was read may have left its failure to this one: there are never
// more failures than requests all the same.
func (t *Tally) since(old *Tally) Tally {
	requests := t.Requests - old.Requests
	return Tally{Requests: requests, Failures: min(t.Failures-old.Failures, requests)}
}

// slower returns the evidence that the canary's P95 is above its limit, and that
// it is not: were it at the limit, one answer in twenty would be above. The
// limit follows the active version's P95, so the bounds on error hold as far as
// that is known; it has most of the requests.
func (j *Judge) slower(cfg *JudgeConfig, e *Evidence) (w wager, h haste) {
	enough := uint64(cfg.LatencyMinSamples)
	e.unknown = e.Active.Timed > 0 && e.Active.Timed < enough
	if e.Canary.Timed < enough || e.Active.Timed < enough {
		return w, h
	}
	e.LatencyLimit = max(time.Duration(cfg.LatencyRatio*float64(e.Active.P95)), cfg.LatencyFloor)
	e.slow = e.Canary.P95 > e.LatencyLimit
	sure, maybe := j.ladders[SideCanary].above(e.LatencyLimit)
	w.settle(sure, e.Canary.Timed, latencyTail)
	h.settle(maybe, e.Canary.Timed)
	return w, h
}

// expect works out how long a decision takes.
func (e *Evidence) expect(cfg *JudgeConfig) {
	floor := cfg.BaselineErrorPercent / 100
	e.Base = min(max(e.Active.Rate(), floor), 0.5)
	e.Bad = min(e.Base*cfg.Margin, 1)
	if e.Canary.Requests == 0 || e.Age == 0 {
		return
	}
	e.Rate = float64(e.Canary.Requests) / e.Age.Seconds()
	share := float64(e.Canary.Requests) / float64(e.Canary.Requests+e.Active.Requests)
	bad := settled(e.Bad, e.Base, share, math.Log(e.Needed), cfg.MinFailures)
	good := cleared(e.Base, floor, share, math.Log(e.NeededFor), cfg.Margin)
	n := max(good, bad, float64(cfg.MinRequests), cfg.PromoteAfter.Seconds()*e.Rate)
	e.DecideRequests = uint64(min(math.Ceil(n-1e-6), math.MaxInt64)) // less what rounding adds
	e.DecideIn = time.Duration(min(n/e.Rate*float64(time.Second), float64(maxDuration)))
}

// conclude weighs everything.
func (e *Evidence) conclude(cfg *JudgeConfig, pool Pooling) (Verdict, Cause) {
	v, why := e.evident(cfg, pool)
	if v != Hold || why == TooEarly || e.Age < cfg.MaxWait {
		return v, why
	}
	return cfg.AtMaxWait, Undecided
}

// evident is conclude for a canary that may be undecided for ever.
func (e *Evidence) evident(cfg *JudgeConfig, pool Pooling) (Verdict, Cause) {
	switch {
	case e.Canary.NotFinite > 0:
		return Rollback, NonFinite
	case e.Canary.Failures >= uint64(cfg.MinFailures) && e.ErrorsAgainst >= e.Needed:
		return Rollback, ErrorRate
	case e.slow && e.LatencyAgainst >= e.Needed:
		return Rollback, SlowAnswers
	case pool == PoolPromotes:
		return Promote, Pooled
	case e.Age < cfg.PromoteAfter:
		return Hold, TooEarly
	case e.Canary.Timed < uint64(cfg.MinRequests) || e.unknown:
		return Hold, TooFew
	case e.ErrorsFor < e.NeededFor || e.LatencyLimit > 0 && e.LatencyFor < e.NeededFor:
		return Hold, Unproven
	case e.doubted() && e.Canary.Requests < e.DecideRequests:
		return Hold, InDoubt
	case pool == PoolDecides:
		return Hold, AwaitsPool
	default:
		return Promote, Passed
	}
}

// doubted reports whether the evidence, as far as it goes, speaks against the
// canary: between as good and margin times as bad both sides can have some. It
// delays a promotion, and ends with the time to a decision.
func (e *Evidence) doubted() bool { return max(e.ErrorsAgainst, e.LatencyAgainst) > 1 }
