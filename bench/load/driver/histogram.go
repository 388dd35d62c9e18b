package driver

import (
	"math/bits"
	"time"
)

// A histogram's buckets: 32 to each power of two, so that a value is known to
// 3 %. Its largest value is 2^40 ns, some 18 minutes.
const (
	subBits = 5
	sub     = 1 << subBits
	octaves = 40 - subBits
)

// histogram counts durations. Its zero value is empty.
type histogram struct {
	counts [sub * (octaves + 1)]uint32
	n      int
	max    time.Duration
}

// add counts d; below 0 it is 0.
func (h *histogram) add(d time.Duration) {
	h.counts[bucket(d)]++
	h.n++
	h.max = max(h.max, d)
}

// bucket returns d's index.
func bucket(d time.Duration) int {
	v := uint64(min(max(d, 0), 1<<40-1))
	if v < sub {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1
	return shift*sub + int(v>>shift)
}

// middle returns the middle of a bucket's values.
func middle(i int) time.Duration {
	if i < 2*sub {
		return time.Duration(i)
	}
	shift := i/sub - 1
	return time.Duration(uint64(i-shift*sub)<<shift + uint64(1)<<shift/2)
}

// quantile returns the value that a share q of all are at or below; 0 when there
// are none.
func (h *histogram) quantile(q float64) time.Duration {
	want := int(q*float64(h.n) + 0.9999999)
	seen := 0
	for i, c := range &h.counts {
		if seen += int(c); seen >= max(want, 1) {
			return min(middle(i), h.max)
		}
	}
	return 0
}

// Latency are a run's quantiles.
type Latency struct {
	P50 time.Duration `json:"p50"`
	P90 time.Duration `json:"p90"`
	P99 time.Duration `json:"p99"`
	Max time.Duration `json:"max"`
}

func (h *histogram) latency() Latency {
	return Latency{P50: h.quantile(0.5), P90: h.quantile(0.9), P99: h.quantile(0.99), Max: h.max}
}
