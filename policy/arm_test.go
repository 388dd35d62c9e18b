package policy

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

func TestArmCountsWhatItIsTold(t *testing.T) {
	var a Arm
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 1000 {
				a.Record(Success, time.Duration(i+1)*time.Microsecond)
				a.Answer(1e9 + float64(g*1000+i)) // far from zero: plain squares would lose it
			}
			a.Record(Failure, 0)
			a.Record(Neutral, 0)
			a.NotFinite()
		})
	}
	wg.Wait()
	got := a.Tally()
	if got.Requests != 4008 || got.Failures != 8 || got.NotFinite != 4 || got.Answers != 4000 {
		t.Errorf("%+v", got)
	}
	if want := 1e9 + 1999.5; math.Abs(got.Mean-want) > 1e-3 {
		t.Errorf("mean %v, want %v", got.Mean, want)
	}
	if want := 4000.0 * 4001 / 12; math.Abs(got.Variance/want-1) > 1e-9 { // of 0 … 3999
		t.Errorf("variance %v, want %v", got.Variance, want)
	}
	for name, q := range map[string][2]time.Duration{"p50": {got.P50, 500 * time.Microsecond}, "p95": {got.P95, 950 * time.Microsecond}, "p99": {got.P99, 990 * time.Microsecond}} {
		if off := math.Abs(float64(q[0])/float64(q[1]) - 1); off > 0.0625 {
			t.Errorf("%s is %v, want %v within a rung", name, q[0], q[1])
		}
	}
	if n := testing.AllocsPerRun(100, func() { a.Record(Success, time.Millisecond); a.Answer(3) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// The table's points, from Student's own distribution.
func TestStudent95(t *testing.T) {
	for freedom, want := range map[float64]float64{4: 2.776445, 5: 2.570582, 10: 2.228139, 30: 2.042272, 1000: 1.962339} {
		if got := student95(freedom); math.Abs(got/want-1) > 0.005 {
			t.Errorf("%v degrees: %v, want %v", freedom, got, want)
		}
	}
}

// Intervals hold the true difference about as often as they say.
func TestIntervalsHold(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	const trials = 4000
	held, rates := 0, 0
	for range trials {
		var a, b Arm
		for range 12 {
			a.Answer(rnd.NormFloat64())
		}
		for range 40 {
			b.Answer(0.5 + 3*rnd.NormFloat64())
		}
		for range 200 {
			a.Record(flip(rnd, 0.02), 0)
			b.Record(flip(rnd, 0.05), 0)
		}
		ta, tb := a.Tally(), b.Tally()
		if i, ok := MeanDifference(&ta, &tb); ok && i.Low <= 0.5 && 0.5 <= i.High {
			held++
		}
		if i, ok := RateDifference(&ta, &tb); ok && i.Low <= 0.03 && 0.03 <= i.High {
			rates++
		}
	}
	for name, n := range map[string]int{"means": held, "rates": rates} {
		if n < trials*937/1000 || n > trials*970/1000 {
			t.Errorf("%s: %d of %d intervals hold the difference, want about 95 %%", name, n, trials)
		}
	}
}

func flip(rnd *rand.Rand, p float64) Outcome {
	if rnd.Float64() < p {
		return Failure
	}
	return Success
}

func TestIntervalsOfLittle(t *testing.T) {
	var a, b Arm
	ta, tb := a.Tally(), b.Tally()
	if _, ok := MeanDifference(&ta, &tb); ok {
		t.Error("an interval of nothing")
	}
	if _, ok := RateDifference(&ta, &tb); ok {
		t.Error("an interval of no requests")
	}
	for range 5 {
		a.Answer(2)
		b.Answer(3)
	}
	ta, tb = a.Tally(), b.Tally()
	if i, ok := MeanDifference(&ta, &tb); !ok || i != (Interval{1, 1, 1}) || !i.Excludes() {
		t.Errorf("constants: %+v %v", i, ok)
	}
}
