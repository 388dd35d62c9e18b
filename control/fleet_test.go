package control

import (
	"fmt"
	"testing"
	"time"

	"github.com/quadnine/quadnine/policy"
)

// A fleet is not weighed anew with each report, and a veto does not wait for that.
func TestFleetIsWeighedNowAndThen(t *testing.T) {
	p := newPool(t, nil)
	at := time.Unix(0, 0)
	p.now = func() time.Time { return at }
	small := shown(t, 6, 0, false)
	tell := func(i int, s policy.Summary) opinion {
		return p.report(fmt.Sprint("s", i), 1, of(v2, uint64(i), 1, s))[0]
	}
	n := 0
	for ; tell(n, small).verdict == policy.Hold; n++ {
		if n == 1_000 {
			t.Fatal("a fleet of 1,000 has not decided")
		}
		if n >= weighedAtOnce {
			at = at.Add(time.Duration(n) * weighedEvery / 4)
		}
	}
	if n <= weighedAtOnce {
		t.Fatalf("%d decided: too few to tell", n)
	}
	if o := tell(n+1, shown(t, 0, 0, true)); o.verdict != policy.Rollback {
		t.Errorf("a veto of one of %d: %+v", n, o)
	}
}

// What a report costs while 1,000 sidecars are on one canary.
func BenchmarkFleetReports(b *testing.B) {
	p, err := NewPool(policy.DefaultPoolConfig())
	if err != nil {
		b.Fatal(err)
	}
	j, err := policy.NewJudge(policy.DefaultJudgeConfig(), 0)
	if err != nil {
		b.Fatal(err)
	}
	s := j.Summary(1)
	for i := range 1_000 {
		p.report(fmt.Sprint("s", i), 1, of(v2, 1, 1, s))
	}
	sequence := uint64(1)
	for b.Loop() {
		sequence++
		p.report("s1", sequence, of(v2, 1, 1, s))
	}
}
