package telemetry

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestBucketsTileTheRange(t *testing.T) {
	for i := range numBuckets - 1 {
		low, next := bucketLow(i), bucketLow(i+1)
		if next <= low {
			t.Fatalf("bucket %d is [%d, %d)", i, low, next)
		}
		if bucketOf(low) != i || bucketOf(next-1) != i || bucketOf(next) != i+1 {
			t.Fatalf("bucket %d [%d, %d): its ends fall into %d and %d, the next value into %d",
				i, low, next, bucketOf(low), bucketOf(next-1), bucketOf(next))
		}
		if i > 0 && float64(next-low)/float64(low) > 1.0/subBuckets {
			t.Fatalf("bucket %d [%d, %d) is wider than 1/16 of its values", i, low, next)
		}
	}
	if low, high := bucketLow(1), bucketLow(numBuckets-1); low > 1100 || time.Duration(high) < time.Minute {
		t.Fatalf("range %d ns to %v, want 1 µs to a minute", low, time.Duration(high))
	}
	if bucketOf(-5) != 0 || bucketOf(int64(time.Hour)) != numBuckets-1 {
		t.Fatal("values out of range do not fall into the end buckets")
	}
}

func TestQuantileIsWithinABucketOfTheTruth(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	r := NewRegistry()
	shards := []*Shard{r.NewShard(), r.NewShard()}
	values := make([]int64, 20_000)
	for i := range values {
		values[i] = int64(2000 * (1 + rng.ExpFloat64()*500)) // a long tail from 2 µs
		shards[i%2].Request("t", OK, StepNone, values[i])
	}
	slices.Sort(values)
	for _, q := range []float64{0.01, 0.5, 0.9, 0.99, 0.999} {
		truth := float64(values[int(q*float64(len(values)))-1])
		if got := float64(r.Quantile(q)); got < truth*(1-0.0625) || got > truth*(1+0.0625) {
			t.Errorf("q%v: %v, want %v ± 6.25 %%", q, time.Duration(got), time.Duration(truth))
		}
	}
	if low, high := r.Quantile(-1), r.Quantile(2); low > r.Quantile(0.01) || high < r.Quantile(0.999) {
		t.Errorf("q below 0 gives %v, above 1 gives %v", low, high)
	}
}

func TestQuantileOfNothing(t *testing.T) {
	if got := NewRegistry().Quantile(0.99); got != 0 {
		t.Fatalf("%v, want 0", got)
	}
}

func TestSinceLooksAtOnePhase(t *testing.T) {
	r := NewRegistry()
	s := r.NewShard()
	for range 1000 {
		s.Request("t", OK, StepNone, int64(time.Second))
	}
	before := r.Latency()
	for range 10 {
		s.Request("t", OK, StepNone, int64(time.Millisecond))
	}
	s.Request("t", OK, StepNone, -7) // a clock that stepped back
	after := r.Latency()
	phase := after.Since(&before)
	if phase.Count() != 11 || phase.Sum() != 10*time.Millisecond {
		t.Fatalf("count %d sum %v, want 11 and 10ms", phase.Count(), phase.Sum())
	}
	if got := phase.Quantile(0.99); got > 1100*time.Microsecond {
		t.Fatalf("p99 of the phase is %v, want about 1ms", got)
	}
}

func BenchmarkQuantile(b *testing.B) {
	r := NewRegistry()
	r.NewShard().Request("t", OK, StepNone, 1000)
	for b.Loop() {
		r.Quantile(0.99)
	}
}
