package policy

import (
	"sync/atomic"
	"time"
)

// tuning is one immutable set of thresholds with what is computed from them.
type tuning struct {
	BreakerConfig

	slice  int64 // a tenth of Window, in ns
	window uint8 // counts changes of Window: counts made with another slice mean nothing
}

// trips reports whether what a window holds opens a closed breaker.
func (t *tuning) trips(failures, requests int) bool {
	if t.FailureRatePercent == 0 {
		return failures >= t.FailureThreshold
	}
	return requests >= t.MinRequests && float64(failures)*100 >= t.FailureRatePercent*float64(requests)
}

func (t *tuning) salt(epoch uint32) uint8 { return uint8(epoch)<<3 | t.window&7 }

// breaker is one state machine: closed → open → half-open → closed or open.
// Its state is one word,
//
//	epoch 32 | successes 8 | state 2
//
// and every change of state starts a new epoch, so that a permit's epoch says
// whether its result still has a meaning.
type breaker struct {
	word   atomic.Uint64
	since  atomic.Int64 // when it last opened, ns; only grows
	seen   atomic.Int64 // when it was last asked for, ns, give or take DecayAfter/64
	reason atomic.Uint32
	win    window
	leases atomic.Pointer[leases] // nil until it first opens
}

const firstEpoch = 1

func word(epoch uint32, successes int, s State) uint64 {
	return uint64(epoch)<<10 | uint64(successes)<<2 | uint64(s)
}

func stateOf(w uint64) State   { return State(w & 3) }
func successesOf(w uint64) int { return int(w >> 2 & 0xff) }
func epochOf(w uint64) uint32  { return uint32(w >> 10) }

func (b *breaker) start(now int64) {
	b.word.Store(word(firstEpoch, 0, StateClosed))
	b.seen.Store(now)
}

// decide fills p with what a request may do. It returns false when the breaker
// has left the table: its key then has none.
func (b *breaker) decide(t *tuning, now int64, p *Permit) (Decision, bool) {
	if now-b.seen.Load() > int64(t.DecayAfter)/64 {
		b.seen.Store(now)
	}
	for {
		w := b.word.Load()
		p.epoch = epochOf(w)
		switch stateOf(w) {
		case StateClosed:
			return Forward, true
		case StateOpen:
			if now-b.since.Load() < int64(t.OpenFor) {
				return Reject, true
			}
			if b.word.CompareAndSwap(w, word(epochOf(w)+1, 0, StateHalfOpen)) {
				p.event = HalfOpened
			}
		case StateHalfOpen:
			if slot, lease, ok := b.leases.Load().acquire(t, p.epoch, now); ok {
				p.slot, p.lease = slot, lease
				return Probe, true
			}
			return Reject, true
		default:
			return Forward, false
		}
	}
}

// record takes p's result. It returns false when the breaker has left the table.
func (b *breaker) record(t *tuning, p *Permit, o Outcome, why Reason, now int64) (Event, bool) {
	w := b.word.Load()
	if stateOf(w) == stateGone {
		return None, false
	}
	if epochOf(w) != p.epoch {
		return None, true // begun in an earlier epoch: too late to mean anything
	}
	switch stateOf(w) {
	case StateClosed:
		return b.count(t, w, o, why, now), true
	case StateHalfOpen:
		if p.lease == 0 || !b.leases.Load().release(p.slot, p.lease) {
			return None, true // its lease ran out and another has it
		}
		switch o {
		case Failure:
			b.reason.Store(uint32(why))
			return b.open(w, now), true
		case Success:
			return b.succeed(t, w), true
		case Neutral:
		}
	}
	return None, true
}

// count adds a result to the window of a closed breaker.
func (b *breaker) count(t *tuning, w uint64, o Outcome, why Reason, now int64) Event {
	if o == Neutral {
		return None
	}
	tick, salt := now/t.slice, t.salt(epochOf(w))
	b.win.add(tick, salt, o == Failure)
	if o == Failure {
		b.reason.Store(uint32(why))
	} else if t.FailureRatePercent == 0 {
		return None // a success never raises a count of failures
	}
	if !t.trips(b.win.sum(tick, salt)) {
		return None
	}
	return b.open(w, now)
}

// open moves the breaker from w to open, unless another goroutine moved it first.
// What half-open will need is there before the state says so.
func (b *breaker) open(w uint64, now int64) Event {
	if b.leases.Load() == nil {
		b.leases.CompareAndSwap(nil, new(leases))
	}
	for {
		// Only forward: whoever loses the race below must not move the
		// winner's time back.
		old := b.since.Load()
		if now <= old || b.since.CompareAndSwap(old, now) {
			break
		}
	}
	for {
		if b.word.CompareAndSwap(w, word(epochOf(w)+1, 0, StateOpen)) {
			b.seen.Store(now) // being unwanted counts from here
			return Opened
		}
		moved := b.word.Load()
		if epochOf(moved) != epochOf(w) || stateOf(moved) != stateOf(w) {
			return None
		}
		w = moved // another probe's success was counted
	}
}

// succeed counts a probe's success.
func (b *breaker) succeed(t *tuning, w uint64) Event {
	for {
		next, ev := word(epochOf(w), successesOf(w)+1, StateHalfOpen), None
		if successesOf(w)+1 >= t.SuccessThreshold {
			next, ev = word(epochOf(w)+1, 0, StateClosed), Closed
		}
		if b.word.CompareAndSwap(w, next) {
			return ev
		}
		moved := b.word.Load()
		if epochOf(moved) != epochOf(w) || stateOf(moved) != StateHalfOpen {
			return None
		}
		w = moved
	}
}

// idle reports whether a closed breaker has nothing to remember.
func (b *breaker) idle(t *tuning, w uint64, now int64) bool {
	return stateOf(w) == StateClosed && b.win.idle(now/t.slice, t.salt(epochOf(w)))
}

// remaining returns the time until a probe may go, 0 unless open.
func (b *breaker) remaining(t *tuning, now int64) time.Duration {
	if stateOf(b.word.Load()) != StateOpen {
		return 0
	}
	return max(0, t.OpenFor-time.Duration(now-b.since.Load()))
}
