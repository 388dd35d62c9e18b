package policy

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// Verdict is what becomes of a canary.
type Verdict uint8

// The verdicts.
const (
	Hold     Verdict = iota // go on as it is
	Promote                 // make it the active version
	Rollback                // take it back, and never try it again by itself
)

var verdictNames = [...]string{"hold", "promote", "rollback"}

// String returns the verdict as it stands in metrics, logs and on admin pages.
func (v Verdict) String() string { return name(verdictNames[:], int(v)) }

// Cause is why a verdict is what it is.
type Cause uint8

// The causes.
const (
	TooEarly    Cause = iota // hold: PromoteAfter has not passed
	TooFew                   // hold: fewer successes than MinRequests, or too few of the active version's
	InDoubt                  // hold: it looks bad, and the time to a decision has not passed
	Passed                   // promote
	NonFinite                // rollback: it answered NaN or an infinity
	ErrorRate                // rollback: it fails more often than the active version
	SlowAnswers              // rollback: its P95 is too high
	Unproven                 // hold: the evidence for it is not enough yet
	AwaitsPool               // hold: enough here, and the pool of sidecars has the say
	Pooled                   // promote or rollback: the pool of sidecars said so
	Undecided                // hold or rollback, as AtMaxWait says: MaxWait has passed
)

var causeNames = [...]string{
	"too-early", "too-few-requests", "in-doubt", "passed", "non-finite", "error-rate", "latency", "unproven", "awaits-pool", "pooled", "undecided",
}

// String returns the cause as it stands in metrics, logs and on admin pages.
func (c Cause) String() string { return name(causeNames[:], int(c)) }

// Evidence is what a verdict rests on: all of its numbers.
type Evidence struct {
	Verdict Verdict
	Why     Cause
	First   bool // this call gave the final verdict: act on it, once
	At      int64
	Age     time.Duration // of the trial, at At

	Canary, Active Tally

	// ErrorsAgainst and LatencyAgainst are the evidence against the canary: the
	// factor by which a fair game would have been won. Needed is the factor that
	// takes it back: 1/Alpha.
	ErrorsAgainst, LatencyAgainst, Needed float64
	// ErrorsFor and LatencyFor are the evidence that it is not Margin times as
	// bad, and that its P95 is below the limit. NeededFor is the factor that each
	// must have for a promotion: 1/Beta.
	ErrorsFor, LatencyFor, NeededFor, Margin float64
	// LatencyLimit is the P95 that the canary may have; 0 before the two can be
	// compared.
	LatencyLimit time.Duration

	// Rate is the canary's requests a second. At this rate it takes DecideIn from
	// the trial's start, and DecideRequests, to tell the error rate Base from Bad,
	// whichever it is, in at least nine trials of ten. DecideIn is 0 while nothing
	// is known.
	Rate           float64
	Base, Bad      float64
	DecideRequests uint64
	DecideIn       time.Duration

	slow    bool // the canary's P95 is above the limit
	unknown bool // the active version answers, and too little for its P95 to be known
}

// String returns the evidence as one audit line.
func (e Evidence) String() string {
	return string(e.Append(nil))
}

// Append appends what String returns.
func (e Evidence) Append(dst []byte) []byte {
	dst = fmt.Appendf(dst, "verdict=%v why=%v age=%v", e.Verdict, e.Why, brief(e.Age))
	dst = e.Canary.append(dst, "canary")
	dst = e.Active.append(dst, "active")
	dst = fmt.Appendf(dst, " errors_against=%.3g latency_against=%.3g needed=%.6g errors_for=%.3g latency_for=%.3g needed_for=%.6g",
		e.ErrorsAgainst, e.LatencyAgainst, e.Needed, e.ErrorsFor, e.LatencyFor, e.NeededFor)
	if e.LatencyLimit > 0 {
		dst = fmt.Appendf(dst, " latency_limit=%v", brief(e.LatencyLimit))
	}
	dst = append(dst, " expect="...)
	return strconv.AppendQuote(dst, e.Expect())
}

// Expect says how long a decision takes, for people to read: "about 160 s at 9
// requests/s to tell 0.1 % from 1 %; 38 of 1460 requests seen".
func (e Evidence) Expect() string {
	if e.DecideIn == 0 {
		return "no canary requests yet: no decision in sight"
	}
	said := fmt.Sprintf("about %s at %s requests/s to tell %s %% from %s %%; %d of %d requests seen",
		roughly(e.DecideIn), digits(e.Rate), digits(100*e.Base), digits(100*e.Bad), e.Canary.Requests, e.DecideRequests)
	if e.Verdict == Hold && e.Why == Undecided {
		said = "undecided after " + roughly(e.Age) + ", and still tried: " + said
	}
	return said
}

// roughly writes a duration in the largest unit of which there are three or more.
func roughly(d time.Duration) string {
	for _, u := range []struct {
		of   time.Duration
		name string
	}{{24 * time.Hour, " days"}, {time.Hour, " h"}, {time.Minute, " min"}} {
		if d >= 3*u.of {
			return digits(float64(d)/float64(u.of)) + u.name
		}
	}
	return digits(d.Seconds()) + " s"
}

func (t *Tally) append(dst []byte, who string) []byte {
	return fmt.Appendf(dst, " %s={requests=%d failures=%d non_finite=%d p95=%v timed=%d}", who, t.Requests, t.Failures, t.NotFinite, brief(t.P95), t.Timed)
}

// brief rounds a duration to three digits or so.
func brief(d time.Duration) time.Duration {
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit)
}

// digits writes v with two significant digits, without an exponent.
func digits(v float64) string {
	if v == 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	unit := math.Pow(10, math.Floor(math.Log10(math.Abs(v)))-1)
	if unit >= 1 {
		return strconv.FormatFloat(math.Round(v/unit)*unit, 'f', 0, 64)
	}
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 2, 64), 64) // written by us: it parses
	return strconv.FormatFloat(rounded, 'f', -1, 64)
}
