package policy

import (
	"math"
	"sync/atomic"
	"time"
)

// Arm is what one version of an experiment did for the callers that were
// assigned to it. The zero Arm is ready; it must not be copied. It is safe for
// concurrent use: what is counted takes no lock and allocates nothing.
type Arm struct {
	requests  atomic.Uint64 // written first and read last: never fewer than failures
	failures  atomic.Uint64
	notFinite atomic.Uint64
	rungs     [numRungs]atomic.Uint64 // successes

	// Numbers are summed up relative to the first one, or the squares of numbers
	// far from zero would drown their variance.
	origin  atomic.Uint64 // ^bits of the first number; 0 before it: no finite number has it
	answers atomic.Uint64
	sum     atomic.Uint64 // bits of a float64
	squares atomic.Uint64 // likewise
	_       [64]byte      // the next arm's counters are on other cache lines
}

// ArmTally is what an Arm counted.
type ArmTally struct {
	Requests      uint64        // with an outcome: neutral ones are not counted
	Failures      uint64        // of Requests
	NotFinite     uint64        // of Failures
	P50, P95, P99 time.Duration // of the successes; 0 when there is none

	Answers  uint64  // numbers that were computed here
	Mean     float64 // of them; 0 when there is none
	Variance float64 // of a single one, by n−1; 0 below two
}

// Record counts a request that the arm's version answered, or failed to, after
// took. Neutral is not counted.
func (a *Arm) Record(o Outcome, took time.Duration) {
	switch o {
	case Success:
		a.requests.Add(1)
		a.rungs[rungOf(took)].Add(1)
	case Failure:
		a.requests.Add(1)
		a.failures.Add(1)
	}
}

// NotFinite counts a request for which the arm's version computed NaN or an
// infinity, in place of Record.
func (a *Arm) NotFinite() {
	a.requests.Add(1)
	a.failures.Add(1)
	a.notFinite.Add(1)
}

// Answer counts the finite number that a request was answered with, beside
// Record.
func (a *Arm) Answer(v float64) {
	origin := a.origin.Load()
	if origin == 0 {
		a.origin.CompareAndSwap(0, ^math.Float64bits(v))
		origin = a.origin.Load()
	}
	d := v - math.Float64frombits(^origin)
	addFloat(&a.sum, d)
	addFloat(&a.squares, d*d)
	a.answers.Add(1)
}

func addFloat(to *atomic.Uint64, d float64) {
	for {
		old := to.Load()
		if to.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+d)) {
			return
		}
	}
}

// Tally returns what was counted. What is counted meanwhile may be in it in part.
func (a *Arm) Tally() ArmTally {
	t := ArmTally{NotFinite: a.notFinite.Load(), Failures: a.failures.Load(), Requests: a.requests.Load()}
	var l ladder
	timed := uint64(0)
	for i := range a.rungs {
		l[i] = a.rungs[i].Load()
		timed += l[i]
	}
	t.P50, t.P95, t.P99 = l.quantile(0.50, timed), l.quantile(0.95, timed), l.quantile(0.99, timed)
	if t.Answers = a.answers.Load(); t.Answers == 0 {
		return t
	}
	n := float64(t.Answers)
	sum, squares := math.Float64frombits(a.sum.Load()), math.Float64frombits(a.squares.Load())
	t.Mean = math.Float64frombits(^a.origin.Load()) + sum/n
	if t.Answers > 1 {
		t.Variance = max(0, (squares-sum*sum/n)/(n-1))
	}
	return t
}

// Rate returns the share of requests that failed, 0 when there is none.
func (t *ArmTally) Rate() float64 {
	if t.Requests == 0 {
		return 0
	}
	return float64(t.Failures) / float64(t.Requests)
}
