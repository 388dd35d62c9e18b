package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/quadnine/quadnine/examples/statsapp"
	"github.com/quadnine/quadnine/loader/delta"
)

const (
	day     = "&from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z"
	byHours = day + "&step=1h"
)

// rowsAnswer is a reply to a query of several rows.
type rowsAnswer struct {
	From, To string
	Exact    bool
	Value    *float64
	Rows     []struct {
		Key      *string
		From, To string
		Value    float64
	}
	Inputs map[string][]*float64
	answer
}

// rows asks for a tenant's metric in rows.
func (s *stand) rows(c *http.Client, method, query string) (v rowsAnswer) {
	s.t.Helper()
	v.answer = s.do(c, method, s.url("/api/v2/metrics/query?"+query), nil)
	if strings.Contains(v.body, `"rows":[`) {
		if err := json.Unmarshal([]byte(v.body), &v); err != nil {
			s.t.Fatalf("%v in %.300q", err, v.body)
		}
	}
	return v
}

// inRows returns an eval object for queries of several rows of metric, with the inputs
// from these metrics.
func inRows(t *testing.T, text, metric string, from map[string]string) string {
	t.Helper()
	e, err := delta.ParseEval("eval", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	e.Rows, e.Metric = "rows", metric
	for name := range e.Input {
		in := e.Input[name]
		in.Metric = from[name]
		e.Input[name] = in
	}
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestRowsOfEveryKind asks a sidecar, over sockets, for a day by hours, of a version of
// each kind: every row is what `model eval` makes of the inputs that the reply shows,
// these are what the service says of each hour, and a WebAssembly module saw one call.
func TestRowsOfEveryKind(t *testing.T) {
	dir, work := t.TempDir(), t.TempDir()
	s := newStand(t, standConfig{models: modelsConfig{dir: dir, store: t.TempDir()}})
	read := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	file := func(name string, tensors map[string][]float64) string {
		return put(t, work, name+".safetensors", numbers(t, tensors))
	}
	both := map[string]string{"uv": "uv", "pv": "pv", "uvd": "avg_duration", "pvd": "orders", "x": "uv"}
	forest, forestEval := filepath.Join(work, "forest.safetensors"), filepath.Join(work, "forest.json")
	runCommand(t, "model", "import-lightgbm", "../../loader/model/lightgbm/testdata/numeric.txt", "-o", forest, "--eval", forestEval, "--metric", "trees")
	guest, guestEval := filepath.Join(work, "guest.safetensors"), filepath.Join(work, "guest.json")
	runCommand(t, "model", "import-wasm", "../../examples/wasm/ratio.wasm", "--weights", file("guestweights", map[string][]float64{"scale": {100}, "bias": {1}}),
		"--inputs", "uv,pv", "-o", guest, "--eval", guestEval, "--metric", "wasm")
	count, countEval := filepath.Join(work, "count.safetensors"), filepath.Join(work, "count.json")
	runCommand(t, "model", "import-wasm", "../../loader/model/wasm/testdata/rowcount.wasm", "--inputs", "uv", "-o", count, "--eval", countEval, "--metric", "count")
	kinds := map[string]struct{ file, eval string }{
		"ratio": {
			file("ratio", map[string][]float64{"scale": {2}, "bias": {0.1}}),
			inRows(t, `{"kind": "ratio", "metric": "m", "input": {"uv": {"metric": "m"}, "pv": {"metric": "m"}}, "weights": {"scale": "scale", "bias": "bias"}}`, "ratio2", both),
		},
		"difference": {
			file("difference", map[string][]float64{"u": {0.3}, "p": {7}, "b": {0.1}}),
			inRows(t, `{"kind": "weighted_difference", "metric": "m", "input": {"uvd": {"metric": "m"}, "pvd": {"metric": "m"}}, "weights": {"w_uvd": "u", "w_pvd": "p", "bias": "b"}}`, "difference", both),
		},
		"linear": {
			file("linear", map[string][]float64{"w": {0.1, 0.7}, "b": {1}}),
			inRows(t, `{"kind": "linear", "metric": "m", "order": ["pv", "uv"], "input": {"uv": {"metric": "m"}, "pv": {"metric": "m"}}, "weights": {"weights": "w", "bias": "b"},
				"schema": {"uv": {"type": "integer", "min": 0}}}`, "linear", both),
		},
		"trees": {forest, inRows(t, read(forestEval), "trees", map[string]string{"visitors": "uv", "views": "pv", "device": "ratio", "p95": "avg_duration", "bounce": "orders"})},
		"wasm":  {guest, inRows(t, read(guestEval), "wasm", both)},
		"count": {count, inRows(t, read(countEval), "count", both)},
	}
	version := uint64(0)
	for name, k := range kinds {
		version++
		packModel(t, dir, name, int(version), k.file, k.eval)
		s.awaitModel(version, "active")
	}
	for name, k := range kinds {
		e, err := delta.ParseEval(name, []byte(k.eval))
		if err != nil {
			t.Fatal(err)
		}
		for _, h2 := range []bool{true, false} {
			c := s.client(h2)
			got := s.rows(c, http.MethodGet, "tenant=acme&metric="+e.Metric+byHours)
			if got.status != http.StatusOK || len(got.Rows) != 24 || got.Value != nil || !got.Exact || !strings.HasPrefix(got.header.Get("X-Quadnine-Model"), name+"@") {
				t.Fatalf("%s: %d by %s %.300q", name, got.status, got.header.Get("X-Quadnine-Model"), got.body)
			}
			if head := s.rows(c, http.MethodHead, "tenant=acme&metric="+e.Metric+byHours); head.status != http.StatusOK || head.body != "" || head.header.Get("Content-Length") != strconv.Itoa(len(got.body)) {
				t.Errorf("%s: HEAD: %d %v %q", name, head.status, head.header, head.body)
			}
			s.checkInputs(name, e, &got)
			for i, want := range evalOf(t, k.file, k.eval, e, &got) {
				if math.Float64bits(got.Rows[i].Value) != math.Float64bits(want) {
					t.Errorf("%s, row %d: %v, model eval says %v", name, i, got.Rows[i].Value, want)
				}
			}
			if name == "count" && got.Rows[23].Value != 24 {
				t.Errorf("the module saw calls of %v rows, want one of 24", got.Rows[23].Value)
			}
			// Without a step it is one row, and one number.
			if one := s.rows(c, http.MethodGet, "tenant=acme&metric="+e.Metric+day); one.status != http.StatusOK || strings.Contains(one.body, `"rows"`) || !strings.Contains(one.body, `"value":`) {
				t.Errorf("%s: one row: %d %.300q", name, one.status, one.body)
			}
		}
	}
	if n, want := sample(t, s.admin("/stats/prometheus"), "quadnine_model_rows_total"), float64(len(kinds)*2*2*24); n != want {
		t.Errorf("%v rows are counted, want %v", n, want)
	}
}

// checkInputs compares what a reply says that it was computed from with the service.
func (s *stand) checkInputs(name string, e *delta.Eval, got *rowsAnswer) {
	s.t.Helper()
	for _, in := range e.Input {
		from := statsapp.SeedStart
		want, err := s.app.Query(statsapp.Query{Tenant: "acme", Metric: in.Metric, From: from, To: from + 24*3600_000, Step: 3600_000})
		if err != nil {
			s.t.Fatal(err)
		}
		for i, row := range want.Rows {
			if v := got.Inputs[in.Metric][i]; v == nil || *v != row.Value || got.Rows[i].From != row.From || got.Rows[i].To != row.To {
				s.t.Errorf("%s, row %d: %s is not %+v in %.300q", name, i, in.Metric, row, got.body)
			}
		}
	}
}

// evalOf is what `model eval` makes of a reply's inputs.
func evalOf(t *testing.T, file, eval string, e *delta.Eval, got *rowsAnswer) (out []float64) {
	t.Helper()
	var lines strings.Builder
	for i := range got.Rows {
		row := map[string]*float64{}
		for name, in := range e.Input {
			row[name] = got.Inputs[in.Metric][i]
		}
		b, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		lines.Write(append(b, '\n'))
	}
	dir := t.TempDir()
	printed := runCommand(t, "model", "eval", file, put(t, dir, "rows", []byte(lines.String())), "--eval", put(t, dir, "eval.json", []byte(eval)))
	for line := range strings.Lines(printed) {
		v, err := strconv.ParseFloat(strings.TrimSpace(line), 64)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	if len(out) != len(got.Rows) {
		t.Fatalf("model eval printed %d rows of %d", len(out), len(got.Rows))
	}
	return out
}

// TestRowsOfOneReplyAreOfOneVersion: while versions come and go, every reply's rows
// are all of the version that it names.
func TestRowsOfOneReplyAreOfOneVersion(t *testing.T) {
	dir := t.TempDir()
	s := newStand(t, standConfig{models: modelsConfig{dir: dir, store: t.TempDir()}})
	drop := func(n uint64) {
		dropManifest(t, dir, n, weights{float64(n), 1}, func(m *delta.Manifest) { m.Eval.Rows = "rows" })
		s.becomes(n, "active")
	}
	drop(1)
	const versions = 6
	var stop atomic.Bool
	var wg sync.WaitGroup
	seen := make([]map[string]bool, 2)
	for i := range seen {
		c := s.client(i == 0)
		seen[i] = map[string]bool{}
		wg.Go(func() {
			for !stop.Load() || !seen[i]["score@"+strconv.Itoa(versions)] {
				got := s.rows(c, http.MethodGet, "tenant=acme&metric=score"+byHours)
				name := got.header.Get("X-Quadnine-Model")
				scale, err := strconv.ParseFloat(strings.TrimPrefix(name, "score@"), 64)
				if got.status != http.StatusOK || err != nil || len(got.Rows) != 24 {
					t.Errorf("%d by %q %.300q", got.status, name, got.body)
					return
				}
				seen[i][name] = true
				for r, row := range got.Rows {
					uv, pv := got.Inputs["uv"][r], got.Inputs["pv"][r]
					want := 1.0
					if *pv != 0 {
						want = float64(scale**uv / *pv) + 1
					}
					if math.Abs(row.Value-want) > 1e-9 {
						t.Errorf("%s, row %d: %v, want %v", name, r, row.Value, want)
						return
					}
				}
			}
		})
	}
	for n := uint64(2); n <= versions; n++ {
		drop(n)
	}
	stop.Store(true)
	wg.Wait()
}

// TestOneRowIsTheWholeQuerysFault: a row that a version does not take, cannot compute,
// or computes for too long costs its whole query an error that says why, and nobody
// else anything.
func TestOneRowIsTheWholeQuerysFault(t *testing.T) {
	rows := func(values ...string) string {
		var list []string
		for i, v := range values {
			list = append(list, fmt.Sprintf(`{"key":"k%d","value":%s}`, i, v))
		}
		return `{"exact":true,"rows":[` + strings.Join(list, ",") + `]}`
	}
	most := slices.Repeat([]string{"7"}, 1025)
	app := &figures{byTenant: map[string]string{
		"good": rows("7", "8"), "none": rows(), "most": rows(most[:1024]...), "many": rows(most...),
		"loop": rows("1", "7"), "trap": rows("2", "7"), "refuse": rows("4", "7"), "nan": rows("5", "7"),
		"high": rows("7", "11"), "text": rows("7", `"x"`), "missing": rows("7", "null"), "long": strings.Repeat(" ", 64<<10) + rows("7"),
	}}
	s, dir := evalStand(t, app, nil)
	work := t.TempDir()
	packModel(t, dir, "guess", 1, guestFile(t, work), strings.TrimSuffix(guessByGuest, "}")+`, "rows": "rows"}`)
	packModel(t, dir, "line", 2, put(t, work, "line.safetensors", numbers(t, map[string][]float64{"w": {2}, "b": {1}})),
		strings.TrimSuffix(otherByLine, "}")+`, "rows": "rows", "schema": {"x": {"type": "number", "max": 10}}}`)
	s.awaitModel(1, "active")
	s.awaitModel(2, "active")
	c := s.client(true)
	for _, tc := range []struct {
		tenant, metric string
		status         int
		says           string
	}{
		{"good", "line", 200, `"rows":[{"key":"k0","value":15},{"key":"k1","value":17}],"inputs":{"raw":[7,8]}`},
		{"none", "line", 200, `"rows":[],"inputs":{"raw":[]}`},
		{"none", "guess", 200, `"rows":[],"inputs":{"raw":[]}`},
		{"most", "line", 200, `{"key":"k1023","value":15}]`},
		{"many", "line", 422, "input raw: not what the version takes: the reply has 1025 rows, a query may have 1024 of this version with 1 inputs (at most 1024 rows, and 16384 numbers): ask for fewer"},
		{"long", "line", 422, "input raw: the reply is longer than 65536 bytes"},
		{"high", "line", 422, `input raw: rows[1]: member "value": not what the version takes: it is 11: want at most 10`},
		{"missing", "line", 422, `input raw: rows[1]: member "value": not what the version takes: it is missing`},
		{"text", "line", 422, `input raw: rows[1]: member "value": not what the version takes: it is "x": want a number`},
		{"text", "guess", 502, "input raw: rows[1]: "},
		{"missing", "guess", 502, `input raw: rows[1]: the reply has no number "value"`},
		{"refuse", "guess", 422, "input refused by it"},
		{"nan", "guess", 503, "rows[0]: "},
		{"trap", "guess", 503, "trapped"},
		{"loop", "guess", 503, "stopped: it took too long"},
		{"good", "line", 200, `"rows":[`},
	} {
		_, a := s.query(c, tc.tenant, tc.metric)
		if a.status != tc.status || !strings.Contains(a.body, tc.says) {
			t.Errorf("%s of %s: %d %.300q, want %d … %s …", tc.metric, tc.tenant, a.status, a.body, tc.status, tc.says)
		}
		if version := a.header.Get("X-Quadnine-Model"); (tc.status == 200) != (version != "") {
			t.Errorf("%s of %s: said to be by %q", tc.metric, tc.tenant, version)
		}
	}
	page := s.admin("/stats/prometheus")
	for name, want := range map[string]float64{
		"quadnine_model_failed_total": 2, "quadnine_model_input_refused_total": 6, "quadnine_model_not_finite_total": 1,
		"quadnine_model_bad_input_total": 2, "quadnine_model_rows_total": 2 + 1024 + 2,
	} {
		if n := sample(t, page, name); n != want {
			t.Errorf("%s is %v, want %v", name, n, want)
		}
	}
}

// --rows stands in the eval object; without one it would say nothing.
func TestImportRows(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "v.safetensors")
	for _, args := range [][]string{
		{"import-lightgbm", "../../loader/model/lightgbm/testdata/numeric.txt"}, {"import-wasm", "../../examples/wasm/ratio.wasm", "--inputs", "uv,pv"},
	} {
		args = append([]string{"model"}, append(args, "--rows", "series", "-o", out)...)
		var errs bytes.Buffer
		if code := execute(t.Context(), args, io.Discard, &errs); code != exitUsage || !strings.Contains(errs.String(), "--rows: stands in the eval object, which --eval FILE writes") {
			t.Errorf("%q: exit %d %q", args, code, errs.String())
		}
		eval := filepath.Join(dir, "eval.json")
		runCommand(t, append(args, "--eval", eval)...)
		text, err := os.ReadFile(eval)
		if err != nil {
			t.Fatal(err)
		}
		if e, err := delta.ParseEval(eval, text); err != nil || e.Rows != "series" {
			t.Errorf("%q: %v %s", args, err, text)
		}
	}
}
