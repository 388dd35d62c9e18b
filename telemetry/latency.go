package telemetry

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// The histogram is log-linear: 16 equal sub-buckets in each power of two, so a
// value is known to 1/16 (6.25 %) at worst, for 3.3 kB a shard. It spans 2^10 ns
// (1.024 µs) to 2^36 ns (68.7 s), with one bucket below and one above.
const (
	subBits    = 4
	subBuckets = 1 << subBits
	minExp     = 10
	maxExp     = 36
	numBuckets = (maxExp-minExp)*subBuckets + 2
)

// bucketOf returns the index of the bucket that holds ns.
func bucketOf(ns int64) int {
	if ns < 1<<minExp {
		return 0
	}
	if ns >= 1<<maxExp {
		return numBuckets - 1
	}
	e := bits.Len64(uint64(ns)) - 1
	sub := int(ns>>(e-subBits)) & (subBuckets - 1)
	return 1 + (e-minExp)*subBuckets + sub
}

// bucketLow returns the smallest ns that falls into bucket i. For i ==
// numBuckets it returns the end of the range.
func bucketLow(i int) int64 {
	if i == 0 {
		return 0
	}
	e, sub := (i-1)/subBuckets+minExp, int64((i-1)%subBuckets)
	if e >= maxExp {
		return 1 << maxExp
	}
	return (subBuckets + sub) << (e - subBits)
}

// histogram is one shard's latencies. One goroutine records.
type histogram struct {
	buckets [numBuckets]atomic.Uint64
	sum     atomic.Int64 // ns
}

func (h *histogram) record(ns int64) {
	ns = max(ns, 0) // a clock that stepped back must not make the sum shrink
	b := &h.buckets[bucketOf(ns)]
	b.Store(b.Load() + 1)
	h.sum.Store(h.sum.Load() + ns)
}

// Latency is a distribution at one moment. The zero value is empty.
type Latency struct {
	buckets [numBuckets]uint64
	count   uint64
	sum     int64 // ns
}

// add merges what h holds now. Count is what the buckets add up to, so that it
// agrees with them although the shard goes on writing.
func (l *Latency) add(h *histogram) {
	l.sum += h.sum.Load()
	for i := range h.buckets {
		n := h.buckets[i].Load()
		l.buckets[i] += n
		l.count += n
	}
}

// Count returns how many requests were recorded.
func (l *Latency) Count() uint64 { return l.count }

// Sum returns the time of all recorded requests together.
func (l *Latency) Sum() time.Duration { return time.Duration(l.sum) }

// Since returns what was recorded after old was taken from the same Registry.
func (l *Latency) Since(old *Latency) Latency {
	d := *l
	d.count -= old.count
	d.sum -= old.sum
	for i := range d.buckets {
		d.buckets[i] -= old.buckets[i]
	}
	return d
}

// Quantile returns the value below which the share q (0 to 1) of the requests
// fell, interpolated within its bucket: off by at most 6.25 % between 1 µs and
// 68 s. It returns 0 when nothing was recorded.
func (l *Latency) Quantile(q float64) time.Duration {
	if l.count == 0 {
		return 0
	}
	rank := min(max(q, 0), 1) * float64(l.count)
	var seen float64
	last := 0
	for i, n := range &l.buckets {
		if n == 0 {
			continue
		}
		last = i
		if seen+float64(n) >= rank {
			low := bucketLow(i)
			width := bucketLow(i+1) - low
			return time.Duration(low + int64(float64(width)*max(rank-seen, 0)/float64(n)))
		}
		seen += float64(n)
	}
	return time.Duration(bucketLow(last + 1)) // rounding of rank past the last request
}
