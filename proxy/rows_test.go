package proxy

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// tabular is weighted for queries of several rows, too. It counts calls.
func tabular(number uint64, w float64, calls *atomic.Int64) *ModelVersion {
	v := weighted(number, w)
	v.Rows = "rows"
	v.EvalRows = func(rows, out []float64) error {
		calls.Add(1)
		if len(rows) != 2*len(out) || len(out) == 0 {
			return fmt.Errorf("%d values for %d rows", len(rows), len(out))
		}
		for i := range out {
			var err error
			if out[i], err = v.Eval(rows[2*i : 2*i+2]); err != nil {
				return fmt.Errorf("rows[%d]: %w", i, err)
			}
		}
		return nil
	}
	return v
}

// tabulated is a rig whose metric score is computed by version 1, and an upstream
// that answers uv and pv with these rows.
func tabulated(t *testing.T, uv, pv string, more ...func(*Options)) (r *rig, s *shelf, app *stats, calls *atomic.Int64) {
	t.Helper()
	calls = new(atomic.Int64)
	s = &shelf{model: &Model{Name: "score", Embedded: true}, metric: "score", active: tabular(1, 2, calls)}
	r = newRig(t, snapshot.Source{Degrade: []string{"/api"}}, append(more, s.with)...)
	app = new(stats)
	r.app("app:80", app.ServeHTTP)
	app.do("uv", status(200, uv))
	app.do("pv", status(200, pv))
	return r, s, app, calls
}

// several is the reply to a query of several rows, as callers read it.
type several struct {
	Tenant, Metric, From, To, Method, Model string
	Exact                                   bool
	Value                                   *float64
	Rows                                    []struct{ Value float64 }
	Inputs                                  map[string][]*float64
}

func (r reply) several(t *testing.T, model string) (v several) {
	t.Helper()
	r.want(t, 200, "").header(t, "X-Quadnine-Model", model).header(t, "Content-Type", "application/json")
	if err := json.Unmarshal([]byte(r.body), &v); err != nil {
		t.Fatalf("%v in %.300s", err, r.body)
	}
	if v.Tenant != "t" || v.Metric != "score" || v.Model != model || v.Method != "model" || v.Value != nil || len(v.Inputs) != 2 {
		t.Fatalf("got %.300s", r.body)
	}
	return v
}

// listing writes rows of these values, one hour each.
func listing(values ...float64) string {
	var b strings.Builder
	b.WriteString(`{"from":"2026-01-01T00:00:00Z","to":"2026-01-02T00:00:00Z","value":1e6,"exact":true,"rows":[`)
	for i, v := range values {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"from":%d,"to":%d,"value":%v}`, i, i+1, v)
	}
	return b.String() + "]}"
}

func TestQueryOfSeveralRowsIsOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		uv := `{"tenant":"t","from":"2026-01-01T00:00:00Z","to":"2026-01-02T00:00:00Z","value":99,"exact":true,"rows":[
			{"key":"mobile","from":1,"to":2,"value":10,"exact":true}, {"key":"tv","from":1,"to":2,"value":0.1}, {"key":null,"value":-4}]}`
		pv := `{"exact":true,"rows":[{"value":3,"key":"mobile","from":1,"to":2},{"value":5,"key":"tv","from":1,"to":2},{"value":7,"key":null}]}`
		r, s, app, calls := tabulated(t, uv, pv)
		got := r.get(score+"&step=1h").header(t, "X-Quadnine-Degraded", "")
		const want = `{"tenant":"t","metric":"score","from":"2026-01-01T00:00:00Z","to":"2026-01-02T00:00:00Z","exact":true,"method":"model","model":"score@1",` +
			`"rows":[{"key":"mobile","from":1,"to":2,"value":23},{"key":"tv","from":1,"to":2,"value":5.2},{"key":null,"value":-1}],"inputs":{"uv":[10,0.1,-4],"pv":[3,5,7]}}` + "\n"
		if got.several(t, "score@1"); got.body != want {
			t.Errorf("got  %swant %s", got.body, want)
		}
		if n := calls.Load(); n != 1 {
			t.Errorf("%d calls of the version, want one for all rows", n)
		}
		if n := len(app.requests()); n != 2 {
			t.Errorf("%d requests to the upstream, want one for each input", n)
		}
		if head := r.do(r.request(http.MethodHead, score, nil)).want(t, 200, ""); head.body != "" {
			t.Errorf("HEAD: %q", head.body)
		}
		if got := r.do(r.request(http.MethodPost, score, strings.NewReader(`{"step":"1h"}`))).several(t, "score@1"); len(got.Rows) != 3 {
			t.Errorf("POST: %+v", got)
		}

		app.do("pv", status(200, strings.Replace(pv, `"value":5,`, `"value":5,"exact":false,`, 1)))
		if got := r.get(score).several(t, "score@1"); got.Exact {
			t.Error("it is called exact, and a row is not")
		}
		app.do("pv", status(200, strings.Replace(pv, `"exact":true,"rows"`, `"rows"`, 1)))
		if got := r.get(score).several(t, "score@1"); got.Exact {
			t.Error("it is called exact, and a reply is not")
		}
		// Replies without rows are one row, as ever.
		app.do("uv", status(200, `{"value":10,"rows":null}`))
		app.do("pv", status(200, `{"value":3}`))
		if v := r.get(score).computed(t, "score@1"); v != 23 {
			t.Errorf("value %v", v)
		}
		// One row in a list is a query of several, too.
		app.do("uv", status(200, listing(10)))
		app.do("pv", status(200, listing(3)))
		if got := r.get(score).several(t, "score@1"); len(got.Rows) != 1 || got.Rows[0].Value != 23 {
			t.Errorf("%+v", got)
		}
		// A query may have no row: there is nothing to compute then.
		before := calls.Load()
		app.do("uv", status(200, `{"exact":true,"rows":[]}`))
		app.do("pv", status(200, `{"exact":true,"rows":[]}`))
		if got := r.get(score); got.several(t, "score@1").Rows == nil || !strings.Contains(got.body, `"rows":[],"inputs":{"uv":[],"pv":[]}`) {
			t.Errorf("got %s", got.body)
		}
		if n := calls.Load(); n != before {
			t.Errorf("%d calls for no rows", n-before)
		}
		r.settled()
		s.balanced(t)
		if n := r.reg.Total(telemetry.ModelRows); n != 5*3+1 {
			t.Errorf("%d rows are counted, want 16", n)
		}
		if n := r.reg.Total(telemetry.AnsweredActive); n != 8 {
			t.Errorf("%d answers are counted, want 8: a query is one, whatever its rows", n)
		}
	})
}

// A version that does not speak of rows reads what it always read.
func TestRowsAreForVersionsThatAskForThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s, _, calls := tabulated(t, listing(1, 2), `{"value":3}`)
		s.set(func() { s.active = weighted(2, 2) })
		if v := r.get(score).computed(t, "score@2"); v != 2e6+3 || calls.Load() != 0 {
			t.Errorf("value %v", v)
		}
	})
}

func TestRowsThatDoNotFitTogether(t *testing.T) {
	many := make([]float64, MaxRows+1)
	for name, tc := range map[string]struct {
		uv, pv  string
		status  int
		says    string
		counter telemetry.CounterID
	}{
		"fewer":      {listing(1, 2), listing(1), 502, "input pv: the reply has 1 rows, that of input uv has 2", telemetry.ModelBadInput},
		"none":       {listing(1, 2), `{"value":3}`, 502, `input pv: the reply has no rows, member "rows", that of input uv has 2`, telemetry.ModelBadInput},
		"only":       {`{"value":3}`, listing(1, 2), 502, `input pv: the reply has rows, member "rows", that of input uv has none`, telemetry.ModelBadInput},
		"no list":    {listing(1), `{"rows":{"a":1}}`, 502, `input pv: member "rows" is no list of rows`, telemetry.ModelBadInput},
		"no object":  {listing(1), `{"rows":[7]}`, 502, `input pv: rows[0]: `, telemetry.ModelBadInput},
		"null":       {`{"rows":[null]}`, `{"rows":[null]}`, 502, `input uv: rows[0]: the reply has no number "value"`, telemetry.ModelBadInput},
		"no JSON":    {listing(1), `{"rows":[{]}`, 502, `input pv: `, telemetry.ModelBadInput},
		"no number":  {listing(1, 2), strings.Replace(listing(1, 2), `"value":2`, `"value":"2"`, 1), 502, `input pv: rows[1]: `, telemetry.ModelBadInput},
		"other time": {listing(1, 2), strings.Replace(listing(1, 2), `"from":1,`, `"from":7,`, 1), 502, `input pv: rows[1] is of key null, from 7, to 2, that of input uv of key null, from 1, to 2: the rows of all replies must be of the same, in the same order`, telemetry.ModelBadInput},
		"other key":  {`{"rows":[{"key":"a","value":1}]}`, `{"rows":[{"key":"b","value":1}]}`, 502, `is of key "b", from null, to null, that of input uv of key "a"`, telemetry.ModelBadInput},
		"too many":   {listing(many...), listing(many...), 422, `input uv: not what the version takes: the reply has 1025 rows, a query may have 1024 of this version with 2 inputs (at most 1024 rows, and 16384 numbers): ask for fewer`, telemetry.ModelInputRefused},
		"too long":   {strings.Repeat(" ", maxInput) + listing(1), listing(1), 422, `input uv: the reply is longer than 65536 bytes, which is the most for a query of several rows: ask for fewer`, telemetry.ModelInputRefused},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, s, _, calls := tabulated(t, tc.uv, tc.pv)
				got := r.get(score).want(t, tc.status, tc.says).header(t, "X-Quadnine-Model", "")
				if strings.Contains(got.body, `"rows"`+":") {
					t.Errorf("a part of it was answered: %.300s", got.body)
				}
				if n := r.reg.Total(tc.counter); n != 1 {
					t.Errorf("counted %d times", n)
				}
				failures := r.server.Explain(keyOf("t", "score")).Breaker.Failures
				if want := map[int]uint32{422: 0, 502: 1}[tc.status]; uint32(failures) != want {
					t.Errorf("%d failures of the key, want %d: how many rows is the caller's wish", failures, want)
				}
				if calls.Load() != 0 {
					t.Error("it was computed")
				}
				r.settled()
				s.balanced(t)
			})
		})
	}
}

// One row that cannot be computed is the whole query's: it counts once, the version
// before answers all rows, and no reply has rows of two versions.
func TestOneBadRowIsTheWholeQuerys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s, app, calls := tabulated(t, listing(1, 2, 3), listing(10, 20, 30))
		canary := tabular(2, 5, calls)
		rows := canary.EvalRows
		canary.EvalRows = func(in, out []float64) error {
			if err := rows(in, out); err != nil {
				return err
			}
			if in[2] == 2 {
				return fmt.Errorf("rows[1]: %w", errNotFinite)
			}
			return nil
		}
		trial := newTrial(t)
		s.set(func() { s.canary, s.share, s.trial = canary, everyone, trial })

		app.do("uv", status(200, listing(1, 0, 3)))
		if got := r.get(score).several(t, "score@2"); got.Rows[0].Value != 15 || got.Rows[2].Value != 45 {
			t.Errorf("%+v", got.Rows)
		}
		r.settled()
		if e := trial.Look(0); e.Canary.Requests != 1 || e.Canary.Failures != 0 {
			t.Errorf("the trial counts %+v: a query of 3 rows is one request", e.Canary)
		}
		app.do("uv", status(200, listing(1, 2, 3)))
		got := r.get(score).header(t, "X-Quadnine-Degraded", "previous; reason=non-finite").several(t, "score@1")
		for i, row := range got.Rows {
			if want := 2*float64(i+1) + 10*float64(i+1); row.Value != want {
				t.Errorf("row %d: %v, want %v of version 1", i, row.Value, want)
			}
		}
		if back := s.back(); !slices.Equal(back, []uint64{2}) || s.evidence.Canary.NotFinite != 1 {
			t.Errorf("taken back: %v, evidence %v", back, s.evidence)
		}
		// With nobody to stand in for it, it is an error that names the row.
		s.set(func() { s.canary, s.trial, s.active = nil, nil, tabular(3, math.NaN(), calls) })
		r.get(score).want(t, 503, "rows[0]: ").header(t, "X-Quadnine-Model", "")
		r.settled()
		s.balanced(t)
	})
}

// An experiment and a shadow see a query of several rows as one.
func TestStudiesSeeOneQuery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := new(atomic.Int64)
		s := shaded{&shelf{model: &Model{Name: "score", Embedded: true}, metric: "score", active: tabular(1, 2, calls)}, new(offered)}
		r := newRig(t, snapshot.Source{}, s.with)
		app := new(stats)
		r.app("app:80", app.ServeHTTP)
		app.do("uv", status(200, listing(1, 2, 3)))
		app.do("pv", status(200, listing(10, 20, 30)))
		r.get(score).several(t, "score@1")
		if want := `t[uv pv] [1 10 2 20 3 30] [12 24 36]`; len(s.beside.got) != 1 || s.beside.got[0] != want {
			t.Errorf("offered %q, want once %q", s.beside.got, want)
		}
		e := halves("")
		s.set(func() { s.standby = tabular(2, 2, calls) })
		s.model.SetExperiment(e)
		got := r.get(score)
		arm := got.Header.Get("X-Quadnine-Model")
		got.several(t, arm)
		app.do("uv", status(200, `{"rows":[]}`))
		app.do("pv", status(200, `{"rows":[]}`))
		r.get(score).several(t, arm)
		r.settled()
		var requests, answers uint64
		sum := 0.0
		for _, a := range e.Arms {
			tally := a.Tally()
			requests, answers, sum = requests+tally.Requests, answers+tally.Answers, sum+tally.Mean
		}
		if requests != 2 || answers != 1 || sum != 24 {
			t.Errorf("the arms count %d requests, %d answers with the mean %v, want 2, 1 and the mean of the rows, 24", requests, answers, sum)
		}
		s.balanced(t)
	})
}

// Answers of several rows are held within the process's budget, and given back.
func TestRowsAreWithinTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		values := make([]float64, MaxRows)
		for i := range values {
			values[i] = float64(i) / 7
		}
		r, s, _, _ := tabulated(t, listing(values...), listing(values...))
		if got := r.get(score).several(t, "score@1"); len(got.Rows) != MaxRows || len(got.Inputs["uv"]) != MaxRows {
			t.Errorf("%d rows", len(got.Rows))
		}
		r.settled()
		used := int64(0)
		slow := tabular(2, 2, new(atomic.Int64))
		rows := slow.EvalRows
		slow.EvalRows = func(in, out []float64) error { // all but a little is taken meanwhile
			used = r.server.budget.limit - r.server.budget.used.Load() - 1000
			r.server.budget.used.Add(used)
			return rows(in, out)
		}
		s.set(func() { s.active = slow })
		r.get(score).want(t, 503, "no memory left for an answer of so many rows").header(t, "X-Quadnine-Model", "")
		r.server.budget.used.Add(-used)
		r.settled()
		used = r.server.budget.limit - 1000 // not even the inputs have room: they are not too long for that
		r.server.budget.used.Add(used)
		r.get("/api/v2/metrics/query?tenant=other&metric=score").want(t, 503, "input uv: no memory left for the reply").header(t, "X-Quadnine-Model", "")
		r.server.budget.used.Add(-used)
		r.settled() // nothing else is held
		s.balanced(t)
	})
}

// A row whose exact is no boolean is not called exact, whichever member is its number.
func TestRowsSayThatTheyAreNotExact(t *testing.T) {
	v := tabular(1, 2, new(atomic.Int64))
	v.Sources = []ModelSource{{Metric: "uv", Field: "p95"}, {Metric: "pv", Field: valueField}}
	for says, want := range map[string]bool{`true`: true, `null`: true, `false`: false, `"no"`: false, `0`: false} {
		x := oneRow(v)
		for i := range x.inputs {
			if x.inputs[i].body = []byte(`{"exact":true,"rows":[{"value":3}]}`); x.inputs[i].metric == "uv" {
				x.inputs[i].body = fmt.Appendf(nil, `{"exact":true,"rows":[{"p95":10,"exact":%s}]}`, says)
			}
		}
		e := (*evaluation)(x)
		if e.Work(); e.inputErr != nil || !strings.Contains(string(e.scored), fmt.Sprintf(`"exact":%v,`, want)) {
			t.Errorf("%s: %v in %s, want %v", says, e.inputErr, e.scored, want)
		}
	}
}

// The mean of rows is finite, where their sum is not and where quotients are rounded up.
func TestMeanOfRowsIsFinite(t *testing.T) {
	for n := range MaxRows {
		for _, v := range []float64{math.MaxFloat64, -math.MaxFloat64} {
			if m := mean(slices.Repeat([]float64{v}, n)); math.IsInf(m, 0) {
				t.Fatalf("%d rows of %v have the mean %v", n, v, m)
			}
		}
	}
	if m := mean([]float64{1, 2, 6}); m != 3 {
		t.Errorf("mean %v, want 3", m)
	}
}

func TestStaleRowsAreSaidToBeStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s, app, _ := tabulated(t, listing(1, 2), listing(10, 20))
		r.get(score).several(t, "score@1")
		time.Sleep(7 * time.Second)
		app.do("uv", status(500, "no"))
		got := r.get(score).header(t, "X-Quadnine-Degraded", "stale; reason="+policy.Upstream5xx.String()+"; age=7").several(t, "score@1")
		if got.Rows[1].Value != 24 {
			t.Errorf("%+v", got)
		}
		r.settled()
		s.balanced(t)
	})
}

// What a query of one row costs a worker is not more for there being others: beside
// reading the replies as JSON and writing the answer it makes two lists.
func TestEvaluationAllocs(t *testing.T) {
	x := oneRow(weighted(1, 2))
	e := (*evaluation)(x)
	e.Work()
	if e.inputErr != nil || e.scoreErr != nil || e.score != 23 {
		t.Fatal(e.inputErr, e.scoreErr, e.score)
	}
	figures := make([]figure, len(x.inputs))
	want := 2 + testing.AllocsPerRun(1000, func() {
		for i := range x.inputs {
			figures[i] = figure{}
			if err := json.Unmarshal(x.inputs[i].body, &figures[i]); err != nil {
				t.Fatal(err)
			}
		}
	}) + testing.AllocsPerRun(1000, func() { e.scored = e.write(e.scored[:0], 23, figures, []float64{10, 3}) })
	if n := testing.AllocsPerRun(1000, e.Work); n > want {
		t.Errorf("%v allocations, want %v", n, want)
	}
}

// Whatever an upstream says, a worker ends with one of an error and an answer that is
// JSON, with a number for each row.
func FuzzRows(f *testing.F) {
	f.Add([]byte(listing(1, 2)), []byte(listing(3, 4)))
	f.Add([]byte(`{"rows":[]}`), []byte(`{"rows":[]}`))
	f.Add([]byte(`{"value":1,"rows":null}`), []byte(`{"value":2}`))
	f.Add([]byte(`{"rows":[{"key":{"a":[1, "\u2028"]},"from":null,"value":1e308}]}`), []byte(`{"rows":[{"key":{"a":[1, "\u2028"]},"value":-1e308,"From":null}]}`))
	f.Add([]byte(`{"rows":{}}`), []byte(`[]`))
	f.Add([]byte(`{"rows":[[{}],null,7]}`), []byte(`{"rows":[1,2,3]}`))
	f.Add([]byte(`{"from":1,"to":2,"exact":"x","rows":[{"value":1}]}`), []byte(`{"exact":true,"rows":[{"value":1,"exact":7}]}`))
	f.Fuzz(func(t *testing.T, uv, pv []byte) {
		x := new(Exchange)
		x.Key, x.subject, x.rows = keyOf("t", "score"), tabular(1, 2, new(atomic.Int64)), 1
		x.inputs = []input{{metric: "uv", body: uv}, {metric: "pv", body: pv}}
		(*evaluation)(x).Work()
		if x.inputErr != nil || x.scoreErr != nil {
			return
		}
		var v struct {
			Value  *float64
			Rows   []struct{ Value *float64 }
			Inputs map[string]json.RawMessage
		}
		if err := json.Unmarshal(x.scored, &v); err != nil || (v.Value == nil) != (v.Rows != nil) || v.Rows != nil && len(v.Rows) != x.rows || len(v.Inputs) != 2 {
			t.Fatalf("%v in %s of %s and %s", err, x.scored, uv, pv)
		}
		for i, row := range v.Rows {
			if row.Value == nil {
				t.Errorf("row %d has no number in %s", i, x.scored)
			}
		}
		if math.IsNaN(x.score) || math.IsInf(x.score, 0) {
			t.Errorf("the rows' mean is %v", x.score)
		}
	})
}

func oneRow(v *ModelVersion) *Exchange {
	x := new(Exchange)
	x.Key, x.subject = keyOf("t", "score"), v
	for metric, n := range map[string]int{"uv": 10, "pv": 3} {
		x.inputs = append(x.inputs, input{metric: metric, body: fmt.Appendf(nil, `{"tenant":"t","metric":%q,"from":"2026-01-01T00:00:00Z","to":"2026-01-02T00:00:00Z","value":%d,"exact":true}`, metric, n)})
	}
	return x
}

// What a worker does for a query of n rows, but for the version's call.
func BenchmarkRows(b *testing.B) {
	for _, n := range []int{1, 24, 744} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			x := new(Exchange)
			x.Key, x.subject = keyOf("t", "score"), tabular(1, 2, new(atomic.Int64))
			for _, metric := range []string{"uv", "pv"} {
				text := []byte(`{"tenant":"t","exact":true,"rows":[`)
				for i := range n {
					text = fmt.Appendf(text, `{"from":"2026-01-%02dT%02d:00:00Z","to":"2026-01-%02dT%02d:59:59Z","value":%d},`, i/24+1, i%24, i/24+1, i%24, 1000+i)
				}
				x.inputs = append(x.inputs, input{metric: metric, body: append(text[:len(text)-1], "]}"...)})
			}
			e := (*evaluation)(x)
			b.ReportAllocs()
			b.SetBytes(int64(2 * len(x.inputs[0].body)))
			for b.Loop() {
				e.Work()
			}
			if e.inputErr != nil || e.scoreErr != nil || e.rows != n {
				b.Fatal(e.inputErr, e.scoreErr, e.rows)
			}
		})
	}
}

func BenchmarkEvaluation(b *testing.B) {
	e := (*evaluation)(oneRow(weighted(1, 2)))
	b.ReportAllocs()
	for b.Loop() {
		e.Work()
	}
}
