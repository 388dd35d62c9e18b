package policy

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestEvidenceLine(t *testing.T) {
	j := newJudge(t, 0, nil)
	if _, e := j.Verdict(0); !strings.Contains(e.String(), "no canary requests yet") {
		t.Error(e)
	}
	answers(j, SideCanary, 896, 12*time.Millisecond)
	answers(j, SideActive, 17_083, 10*time.Millisecond)
	failures(j, SideActive, 17)
	failures(j, SideCanary, 4)
	_, e := j.Verdict(100 * second)
	const want = `verdict=hold why=unproven age=1m40s ` +
		`canary={requests=900 failures=4 non_finite=0 p95=12ms timed=896} ` +
		`active={requests=17100 failures=17 non_finite=0 p95=10.5ms timed=17083} ` +
		`errors_against=4.56 latency_against=1.72e-20 needed=1000 errors_for=0.289 latency_for=5.11e+17 needed_for=100 latency_limit=20.9ms ` +
		`expect="about 160 s at 9 requests/s to tell 0.1 % from 1 %; 900 of 1460 requests seen"`
	if got := e.String(); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

// The time to a decision at other shares and rates: in 5,000 simulated trials of
// each of the first two and the last two, 93 % to 95 % were decided by then.
func TestExpect(t *testing.T) {
	for _, x := range []struct {
		canary, active int
		over           time.Duration
		want           string
	}{
		{540, 10_260, time.Minute, "about 160 s at 9 requests/s to tell 0.1 % from 1 %; 540 of 1460 requests seen"},
		{60, 1_140, time.Minute, "about 24 min at 1 requests/s to tell 0.1 % from 1 %; 60 of 1460 requests seen"},
		{54_000, 1_026_000, time.Minute, "about 60 s at 900 requests/s to tell 0.1 % from 1 %; 54000 of 54000 requests seen"},
		{5_400, 5_400, time.Minute, "about 60 s at 90 requests/s to tell 0.1 % from 1 %; 5400 of 5400 requests seen"},
		{540, 0, time.Minute, "about 150 s at 9 requests/s to tell 0.1 % from 1 %; 540 of 1332 requests seen"},
	} {
		j := newJudge(t, 0, nil)
		j.sides[SideCanary].requests.Add(uint64(x.canary))
		j.sides[SideActive].requests.Add(uint64(x.active))
		if _, e := j.Verdict(int64(x.over)); e.Expect() != x.want || e.DecideRequests != uint64(math.Ceil(e.DecideIn.Seconds()*e.Rate-1e-6)) {
			t.Errorf("%d and %d: %s (%d requests); want %s", x.canary, x.active, e.Expect(), e.DecideRequests, x.want)
		}
	}
}
