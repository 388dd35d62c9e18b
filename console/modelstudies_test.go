package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strings"
	"testing"
	"time"
)

// studying returns a console whose studies answer err, and what it was asked.
func studying(err error) (http.Handler, *[]string) {
	var asked []string
	v := sample()
	v.Shadow = func(_ context.Context, model string, version uint64, percent float64) error {
		asked = append(asked, fmt.Sprintf("shadow %s@%d %v", model, version, percent))
		return err
	}
	v.StartExperiment = func(_ context.Context, model, name, by string, arms []ArmShare) error {
		asked = append(asked, fmt.Sprintf("start %s %s %q %v", model, name, by, arms))
		return err
	}
	v.StopExperiment = func(_ context.Context, model, name string, winner uint64) error {
		asked = append(asked, fmt.Sprintf("stop %s %s %d", model, name, winner))
		return err
	}
	return New(v), &asked
}

func TestStudiesAreAskedFor(t *testing.T) {
	const host, own = "127.0.0.1:9901", "http://127.0.0.1:9901"
	for _, tc := range []struct {
		path string
		err  error
		code int
		want string // what was asked; "": nothing
		says string
	}{
		{"/models/score/versions/2/shadow?percent=12.5", nil, 200, "shadow score@2 12.5", "score@2 is computed for 12.5 % of the queries, and never served"},
		{"/models/score/versions/2/shadow?percent=0", nil, 200, "shadow score@2 0", "score@2 is out of shadow"},
		{"/models/score/versions/2/shadow", nil, 400, "", "want a number from 0 to 100"},
		{"/models/score/versions/2/shadow?percent=NaN", nil, 400, "", "want a number from 0 to 100"},
		{"/models/score/versions/two/shadow?percent=1", nil, 400, "", "version two: want a number"},
		{"/models/score/versions/2/shadow?percent=1", fmt.Errorf("%w: it is busy", ErrState), 409, "shadow score@2 1", "shadow score@2: not possible right now: it is busy"},
		{"/models/score/experiments/ab/start?arm=1=90&arm=2=10&by=x-device-id", nil, 200, `start score ab "x-device-id" [{1 90} {2 10}]`, "experiment ab of score runs over 2 arms"},
		{"/models/score/experiments/ab/start?arm=1", nil, 400, "", `arm "1": want a version and a weight above 0, like 2=50`},
		{"/models/score/experiments/ab/start?arm=1=0", nil, 400, "", `arm "1=0"`},
		{"/models/score/experiments/ab/start?arm=1=Inf", nil, 400, "", `arm "1=Inf"`},
		{"/models/score/experiments/ab/start?arm=1=1", fmt.Errorf("%w: none", ErrNoVersion), 404, `start score ab "" [{1 1}]`, "start experiment ab of score: no such version: none"},
		{"/models/score/experiments/ab/stop", nil, 200, "stop score ab 0", "is stopped; versions stay what they are"},
		{"/models/score/experiments/ab/stop?winner=2", nil, 200, "stop score ab 2", "score@2 is active"},
		{"/models/score/experiments/ab/stop?winner=0", nil, 400, "", "winner 0: want the number of a version"},
		{"/models/score/experiments/ab/stop", errors.New("disk full"), 500, "stop score ab 0", "disk full"},
	} {
		h, asked := studying(tc.err)
		w := send(h, http.MethodPost, tc.path, host, own)
		if got := strings.Join(*asked, "; "); w.Code != tc.code || got != tc.want || !strings.Contains(w.Body.String(), tc.says) {
			t.Errorf("%s: %d %q, asked %q", tc.path, w.Code, w.Body, got)
		}
		*asked = nil
		if w := send(h, http.MethodGet, tc.path, host, own); w.Code != 405 || len(*asked) > 0 {
			t.Errorf("GET %s: %d, asked %q", tc.path, w.Code, *asked)
		}
		if w := send(h, http.MethodPost, tc.path, host, "http://evil.example"); w.Code != 403 || len(*asked) > 0 {
			t.Errorf("a foreign POST %s: %d, asked %q", tc.path, w.Code, *asked)
		}
	}
}

func TestStudiesOnThePageOfModels(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	mean, variance := 1.5, 4.0
	m := Model{
		Name: "score", Mode: "embedded", Metric: "score",
		Shadow: &Shadow{
			Version: 3, Against: 2, Percent: 25, Since: at, Queries: 100, SkippedBusy: 2,
			Differences: Differences{Compared: 40, Equal: 10, NotFinite: 1, Bias: -0.5, Relative: Spread{0.1, 0.2, 0.3, 0.4}, Absolute: Spread{1, 2, 3, 4}},
		},
		Experiment: &Experiment{Name: "ab", Started: at, Counted: at, Outcome: "runs", Arms: []Arm{
			{Version: 1, Percent: 50, Control: true, Requests: 8, Failures: 1, P50: 0.001, P95: 0.002, P99: 0.0034, Answers: 7, Mean: &mean, Variance: &variance},
			{Version: 2, Percent: 50, Ended: "non-finite\n", MeanDifference: &Interval{1, 0.5, 1.5}, FailureDifference: &Interval{-0.1, -0.2, 0}},
		}},
	}
	v := sample()
	v.Models = func() iter.Seq[Model] { return func(yield func(Model) bool) { yield(m) } }
	page := send(New(v), http.MethodGet, "/models", "127.0.0.1:9901").Body.String()
	for _, want := range []string{
		"  shadow @3 beside @2 computed for 25 % of the queries, offered to callers after 100 without a fault, since 2026-01-02T03:04:05Z\n",
		"40 compared, 10 equal, 1 not finite, 0 failed; relative p50 0.1 p90 0.2 p99 0.3 max 0.4; absolute p99 3 max 4; bias -0.5\n",
		"skipped: 2 busy, 0 without its inputs, 0 gone\n",
		"  experiment ab by user, since 2026-01-02T03:04:05Z, counted since 2026-01-02T03:04:05Z: runs\n",
		"@1 50 % of callers, 8 requests, 1 failed, p50 1ms p95 2ms p99 3.4ms, mean 1.5 ± 2 of 7, control\n",
		`@2 50 % of callers, 0 requests, 0 failed; mean differs by 1 (0.5 to 1.5); failure share by -0.1 (-0.2 to 0); ended: "non-finite\n"` + "\n",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
	var back struct{ Models []Model }
	if err := json.Unmarshal(send(New(v), http.MethodGet, "/models?format=json", "127.0.0.1:9901").Body.Bytes(), &back); err != nil ||
		back.Models[0].Shadow.Compared != 40 || *back.Models[0].Experiment.Arms[0].Mean != 1.5 || back.Models[0].Experiment.Arms[1].MeanDifference.High != 1.5 {
		t.Errorf("JSON: %v %+v", err, back)
	}
}
