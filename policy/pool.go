package policy

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Pooling is whether a trial's promotion is the judge's own to say. What takes a
// canary back always is.
type Pooling uint32

// What a judge can be told of the pool of sidecars.
const (
	Alone        Pooling = iota // there is no pool, or it cannot be reached
	PoolDecides                 // the pool has the evidence, and has not decided
	PoolPromotes                // the pool has decided for the canary
)

// SetPooling tells the judge what the pool of sidecars says. It may be called at
// any time, from any goroutine; a verdict that was given stays.
func (j *Judge) SetPooling(p Pooling) { j.pool.Store(uint32(p)) }

// Pooling returns what the judge was told last.
func (j *Judge) Pooling() Pooling { return Pooling(j.pool.Load()) }

// Summary is all that a pool needs to know of a trial: not the requests, but what
// was counted of them, and what they are worth as evidence. It is cumulative: a
// newer one of a trial takes the place of an older one.
type Summary struct {
	Config         JudgeConfig
	Age            time.Duration
	Canary, Active Tally
	LatencyLimit   time.Duration // 0: latencies cannot be compared yet
	Unknown        bool          // the active version answers too little for that
	Slow           bool          // the canary's P95 is above the limit
	Veto           Cause         // NonFinite, ErrorRate or SlowAnswers: it was taken back here; else TooEarly

	// Logarithms, one for each bet of a game: they add up over trials.
	Against, Slower [6]float64
	Clear           [2]float64
	Faster          [2]float64
}

// Summary returns where the trial is. It decides nothing.
func (j *Judge) Summary(now int64) Summary {
	j.mu.Lock()
	defer j.mu.Unlock()
	cfg := j.config.Load()
	e := j.read(cfg, now)
	w := j.weights(cfg, &e)
	s := Summary{
		Config: *cfg, Age: e.Age, Canary: e.Canary, Active: e.Active, LatencyLimit: e.LatencyLimit, Unknown: e.unknown, Slow: e.slow,
		Against: w.against, Slower: w.slower, Clear: w.clear, Faster: w.faster,
	}
	if d := j.decided; d != nil && d.Verdict == Rollback && (d.Why == NonFinite || d.Why == ErrorRate || d.Why == SlowAnswers) {
		s.Veto = d.Why
	}
	return s
}

// mostSaid bounds counts and logarithms: sums of them stay exact enough, and a
// sidecar that counted a million requests a second would take a decade.
const mostSaid = 1 << 48

// Check says why a summary that came from elsewhere cannot be weighed, or nil.
func (s *Summary) Check() error {
	var errs []error
	if err := s.Config.Validate(); err != nil {
		errs = append(errs, err)
	}
	for _, side := range []Tally{s.Canary, s.Active} {
		if side.Requests > mostSaid || side.Failures > side.Requests || side.NotFinite > side.Failures || side.Timed > side.Requests-side.Failures {
			errs = append(errs, fmt.Errorf("policy: a tally of %d requests cannot have %d failures, %d of them not finite, and %d answers", side.Requests, side.Failures, side.NotFinite, side.Timed))
		}
	}
	for _, logs := range [][]float64{s.Against[:], s.Slower[:], s.Clear[:], s.Faster[:]} {
		for _, l := range logs {
			if math.IsNaN(l) || math.Abs(l) > mostSaid {
				errs = append(errs, fmt.Errorf("policy: %v is no evidence", l))
			}
		}
	}
	if s.Age < 0 || s.LatencyLimit < 0 {
		errs = append(errs, fmt.Errorf("policy: age %v, latency limit %v: want no negative times", s.Age, s.LatencyLimit))
	}
	switch s.Veto {
	case TooEarly, NonFinite, ErrorRate, SlowAnswers:
	default:
		errs = append(errs, fmt.Errorf("policy: %v is no veto", s.Veto))
	}
	return errors.Join(errs...)
}

// Add adds another trial of the same sidecar: one that ended when it was
// started anew, or had another active version beside it for a while.
func (s *Summary) Add(o *Summary) {
	s.Config = strictest(s.Config, o.Config)
	s.Age = max(s.Age, o.Age)
	s.Canary.add(&o.Canary)
	s.Active.add(&o.Active)
	s.LatencyLimit = max(s.LatencyLimit, o.LatencyLimit)
	s.Unknown, s.Slow = s.Unknown || o.Unknown, s.Slow || o.Slow
	if s.Veto == TooEarly || o.Veto == NonFinite {
		s.Veto = max(s.Veto, o.Veto)
	}
	addTo(s.Against[:], o.Against[:])
	addTo(s.Slower[:], o.Slower[:])
	addTo(s.Clear[:], o.Clear[:])
	addTo(s.Faster[:], o.Faster[:])
}

func (t *Tally) add(o *Tally) {
	t.Requests += o.Requests
	t.Failures += o.Failures
	t.NotFinite += o.NotFinite
	t.Timed += o.Timed
	t.P95 = max(t.P95, o.P95)
}

func addTo(to, from []float64) {
	for i, l := range from {
		to[i] += l
	}
}

// strictest returns what holds where two sidecars ask for different things.
func strictest(a, b JudgeConfig) JudgeConfig {
	a.PromoteAfter = max(a.PromoteAfter, b.PromoteAfter)
	a.MinRequests = max(a.MinRequests, b.MinRequests)
	a.MinFailures = max(a.MinFailures, b.MinFailures)
	a.Alpha, a.Beta = min(a.Alpha, b.Alpha), min(a.Beta, b.Beta)
	a.Margin = min(a.Margin, b.Margin)
	a.BaselineErrorPercent = min(a.BaselineErrorPercent, b.BaselineErrorPercent)
	return a
}

// VetoSpread is which vetoes of one sidecar hold for all. The other vetoes are part
// of the pooled evidence, as everything else is.
type VetoSpread uint8

// The spreads.
const (
	SpreadNonFinite VetoSpread = iota // an answer that is no number
	SpreadNone                        // none
	SpreadAny                         // all: then a good canary is blocked with a chance of up to α for each sidecar
)

var spreadNames = [...]string{"non-finite", "none", "any"}

// String returns the spread as it stands on the command line.
func (s VetoSpread) String() string { return name(spreadNames[:], int(s)) }

// ParseSpread is the reverse of String.
func ParseSpread(text string) (VetoSpread, error) {
	for i, n := range spreadNames {
		if n == text {
			return VetoSpread(i), nil
		}
	}
	return 0, fmt.Errorf("policy: %q is none of non-finite, none and any", text)
}

// PoolConfig is how sidecars are weighed together.
type PoolConfig struct {
	// Spread is which vetoes of one sidecar block a version on all.
	Spread VetoSpread
	// Share is the largest part of the evidence needed (as a logarithm) that one
	// sidecar can give, above 0, at most 1. With 1, the default, one can decide
	// for all whose own evidence is too small to object; with 0.5 it takes two.
	Share float64
}

// DefaultPoolConfig returns the configuration with every default.
func DefaultPoolConfig() PoolConfig { return PoolConfig{Spread: SpreadNonFinite, Share: 1} }

// Validate reports what is out of bounds.
func (c *PoolConfig) Validate() error {
	var v validation
	v.within("share", c.Share, 0.05, 1)
	return errors.Join(v...)
}

// hedge is the part of each sidecar's coin that is not played: so no sidecar can
// make the others' evidence worth less than this part of it, whatever it says.
const hedge = 0.1

// Pool weighs the trials of one version on several sidecars together, one
// summary for each. Each summary's games are fair as long as the canary is good
// (or, those for it, bad) there, so their product is, and Pool's errors have the
// bounds that each judge's have: α and β are for the pool as a whole. A verdict
// of Rollback means that the version is to be blocked on all of them.
//
// What a sidecar says is worth at most Share of what is needed, and it can take
// from the others at most all but a tenth.
func Pool(cfg PoolConfig, of []Summary) Evidence {
	if len(of) == 0 {
		return Evidence{}
	}
	all := Summary{Config: of[0].Config}
	var veto Cause
	for i := range of {
		all.Config = strictest(all.Config, of[i].Config)
	}
	for i := range of {
		s := of[i]
		if s.Veto == NonFinite && cfg.Spread != SpreadNone || s.Veto != TooEarly && cfg.Spread == SpreadAny {
			veto = s.Veto
		}
		s.Veto = TooEarly
		const exactly = 1e-9 // more than rounding takes
		against, fore := exactly-cfg.Share*math.Log(all.Config.Alpha), exactly-cfg.Share*math.Log(all.Config.Beta)
		temper(s.Against[:], against, len(of))
		temper(s.Slower[:], against, len(of))
		temper(s.Clear[:], fore, len(of))
		temper(s.Faster[:], fore, len(of))
		all.Add(&s)
	}
	e := Evidence{
		Age: all.Age, Needed: 1 / all.Config.Alpha, NeededFor: 1 / all.Config.Beta, Margin: all.Config.Margin,
		Canary: all.Canary, Active: all.Active, LatencyLimit: all.LatencyLimit, slow: all.Slow, unknown: all.Unknown && all.LatencyLimit == 0,
	}
	w := weights{all.Against, all.Clear, all.Slower, all.Faster}
	w.tell(&e)
	e.expect(&all.Config)
	finite := e
	finite.Canary.NotFinite = 0 // how far that reaches is Spread's to say
	if e.Verdict, e.Why = finite.evident(&all.Config, Alone); veto != TooEarly && e.Verdict != Rollback {
		e.Verdict, e.Why = Rollback, veto
	}
	return e
}

// temper bounds what one of several sidecars has to say: logs become those of a
// coin of which a part is not played, and together are worth at most most.
func temper(logs []float64, most float64, sidecars int) {
	if sidecars > 1 {
		for i, l := range logs {
			logs[i] = l + math.Log(1-hedge)
			if l < 700 {
				logs[i] = math.Log(hedge + (1-hedge)*math.Exp(l))
			}
		}
	}
	if over := mean(logs) - most; over > 0 {
		for i := range logs {
			logs[i] -= over
		}
	}
}
