package policy

import (
	"math"
	"sync/atomic"
	"time"
)

// A rung is a sixteenth of a power of two of nanoseconds, so a latency is known
// to 6.25 % at worst: the exponent and the first four bits after it of a float64
// are its number. Rungs reach from 1 µs to 69 s; what is past an end is on the
// last.
const (
	rungShift = 52 - 4
	lowRung   = (1023 + 10) << 4 // 2^10 ns
	numRungs  = (36 - 10) << 4   // to 2^36 ns
)

func rungOf(took time.Duration) int {
	bits := math.Float64bits(float64(max(took, 1)))
	return max(0, min(int(bits>>rungShift)-lowRung, numRungs-1))
}

// rungFloor returns the shortest latency on rung i.
func rungFloor(i int) time.Duration {
	return time.Duration(math.Float64frombits(uint64(i+lowRung) << rungShift))
}

// tally counts what one version did. Any goroutine may add.
type tally struct {
	requests  atomic.Uint64 // written first and read last: never fewer than failures and successes
	failures  atomic.Uint64
	notFinite atomic.Uint64
	rungs     [numRungs]atomic.Uint64 // successes
	_         [64]byte                // the other version's counters are on other cache lines
}

// Tally is what one version did since its trial began.
type Tally struct {
	Requests  uint64        // with an outcome: neutral ones are not counted
	Failures  uint64        // of Requests
	NotFinite uint64        // of Failures
	Timed     uint64        // successes, whose latency is known
	P95       time.Duration // of Timed; 0 when there is none
}

// Rate returns the share of requests that failed, 0 when there is none.
func (t *Tally) Rate() float64 {
	if t.Requests == 0 {
		return 0
	}
	return float64(t.Failures) / float64(t.Requests)
}

// ladder is a tally's latencies at one moment.
type ladder [numRungs]uint64

func (t *tally) read(l *ladder) Tally {
	v := Tally{NotFinite: t.notFinite.Load(), Failures: t.failures.Load()}
	for i := range t.rungs {
		l[i] = t.rungs[i].Load()
		v.Timed += l[i]
	}
	v.Requests = t.requests.Load()
	v.P95 = l.quantile(0.95, v.Timed)
	return v
}

// quantile returns the latency that the share q of the n successes did not
// exceed, interpolated within its rung.
func (l *ladder) quantile(q float64, n uint64) time.Duration {
	rank, seen := q*float64(n), 0.0
	for i, c := range l {
		if c > 0 && seen+float64(c) >= rank {
			low, high := rungFloor(i), rungFloor(i+1)
			return low + time.Duration(float64(high-low)*(rank-seen)/float64(c))
		}
		seen += float64(c)
	}
	return 0
}

// above returns how many successes certainly took longer than limit, and how
// many may have: those on its rung too.
func (l *ladder) above(limit time.Duration) (sure, maybe uint64) {
	at := rungOf(limit)
	for _, n := range l[at+1:] {
		sure += n
	}
	return sure, sure + l[at]
}
