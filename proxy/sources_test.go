package proxy

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// fields is a version of 100·value + 10·p95 + live, two of them of one reply.
func fields(number uint64, eval func([]float64) (float64, error)) *ModelVersion {
	v := weighted(number, 2)
	v.Inputs = []string{"uv", "session.p95", "session.live"}
	v.Sources = []ModelSource{
		{Metric: "uv", Field: "value"},
		{Metric: "session", Field: "p95"},
		{Metric: "session", Field: "live", Read: func(json []byte) (float64, error) {
			switch string(json) {
			case "":
				return math.NaN(), nil
			case "true":
				return 1, nil
			}
			return 0, errors.New("it is " + string(json) + ": want true")
		}},
	}
	v.Eval = eval
	v.Refuses = func(err error) bool { return errors.Is(err, errNotTaken) }
	return v
}

func TestInputsAreMembersOfReplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s, app := scoring(t, snapshot.Source{})
		v := fields(1, func(x []float64) (float64, error) {
			live := x[2]
			if math.IsNaN(live) {
				live = 5
			}
			return 100*x[0] + 10*x[1] + live, nil
		})
		s.set(func() { s.active = v })
		app.do("session", status(200, `{"p95":2.5,"live":true,"value":"text"}`))
		r.get(score).want(t, 200, `"value":1026,"exact":false,"method":"model","model":"score@1","inputs":{"uv":10,"session.p95":2.5,"session.live":1}}`)
		if n := len(app.requests()); n != 2 {
			t.Errorf("%d requests to the upstream for 2 metrics", n)
		}
		app.do("session", status(200, `{"p95":2.5}`))
		r.get(score).want(t, 200, `"value":1030`).want(t, 200, `"session.live":null`)
		tenants := 0
		for body, want := range map[string]struct {
			status int
			says   string
		}{
			`{"p95":2.5,"live":false}`: {422, `input session: member "live": not what the version takes: it is false: want true`},
			`{"live":true}`:            {502, `input session: the reply has no number "p95"`},
			`{"p95":"2","live":true}`:  {502, `input session: the reply has no number "p95"`},
			`{"p95":null}`:             {502, `input session: the reply has no number "p95"`},
			`[1]`:                      {502, "input session: "},
			`{"p95":`:                  {502, "input session: "},
		} {
			app.do("session", status(200, body))
			tenants++ // each has a breaker of its own
			r.get(strings.Replace(score, "tenant=t", "tenant=t"+strconv.Itoa(tenants), 1)).want(t, want.status, want.says).header(t, "X-Quadnine-Model", "")
		}
		if refused, bad := r.reg.Total(telemetry.ModelInputRefused), r.reg.Total(telemetry.ModelBadInput); refused != 1 || bad != 5 {
			t.Errorf("%d refused, %d bad, want 1 and 5", refused, bad)
		}
		r.settled()
		s.balanced(t)
	})
}

// Field p95 of session and a metric that is called session.p95 are two inputs,
// whatever people call them: the version that stands in asks for its own.
func TestInputsOfTheSameNameAreAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s, app := scoring(t, snapshot.Source{})
		one, two := weighted(1, 2), weighted(2, math.NaN())
		one.Inputs, two.Inputs = []string{"uv", "session.p95"}, []string{"uv", "session.p95"}
		one.Sources = []ModelSource{{Metric: "uv", Field: "value"}, {Metric: "session", Field: "p95"}}
		two.Sources = []ModelSource{{Metric: "uv", Field: "value"}, {Metric: "session.p95", Field: "value"}}
		s.set(func() { s.active, s.standby = two, one })
		app.do("session", status(200, `{"p95":3}`))
		app.do("session.p95", status(200, `{"value":4}`))
		r.get(score).want(t, 200, `"model":"score@1","inputs":{"uv":10,"session.p95":3}}`)
		r.settled()
		s.balanced(t)
	})
}

// What a version refuses by its own word is a 422, which the trial hears of: the
// version beside it may take it. What the schema refuses is nobody's failure.
func TestRefusedInputsAndTheTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := fields(2, func([]float64) (float64, error) { return 0, errNotTaken })
		s := onTrial(t, fields(1, nil), bad, everyone)
		trial := s.trial
		r := newRig(t, snapshot.Source{}, s.with)
		app := new(stats)
		r.app("app:80", app.ServeHTTP)
		app.do("session", status(200, `{"p95":1,"live":true}`))
		r.get(score).want(t, 422, "not what the version takes")
		if e := trial.Look(0); e.Canary.Failures != 1 {
			t.Errorf("evidence %v: want one failure", e)
		}
		app.do("session", status(200, `{"p95":1,"live":0}`))
		r.get(score).want(t, 422, "want true")
		if e := trial.Look(0); e.Canary.Failures != 1 {
			t.Errorf("evidence %v: the schema's refusal was counted", e)
		}
		r.settled()
		s.balanced(t)
	})
}

// An active version that fails as often as opens a breaker is taken back when
// another can stand in for it, and goes on answering when none can.
func TestActiveVersionThatFailsIsTakenBack(t *testing.T) {
	for _, standby := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			r, s, _ := scoring(t, snapshot.Source{})
			broken := weighted(2, 9)
			broken.Eval = func([]float64) (float64, error) { return 0, errors.New("stopped: it took too long") }
			s.set(func() {
				if standby {
					s.standby = s.active
				}
				s.active = broken
			})
			taken := func() bool { return r.reg.Total(telemetry.ModelTakenBack) > 0 }
			for i := 0; i < 200 && !taken(); i++ {
				got := r.get(score+"&n="+strconv.Itoa(i), "X-User-Id", strconv.Itoa(i))
				if standby {
					got.want(t, 200, `"model":"score@1"`)
				} else if got.StatusCode != http.StatusServiceUnavailable || !strings.Contains(got.body, "it took too long") {
					t.Fatalf("%d %s", got.StatusCode, got.body)
				}
			}
			if taken() != standby {
				t.Errorf("taken back: %v, there is a standby: %v", taken(), standby)
			}
			if standby {
				r.get(score).header(t, "X-Quadnine-Degraded", "").want(t, 200, `"model":"score@1"`)
			}
			if n := r.reg.Total(telemetry.ModelFailed); n < uint64(policy.DefaultBreakerConfig().FailureThreshold) {
				t.Errorf("%d failures counted", n)
			}
			r.settled()
			s.balanced(t)
		})
	}
}
