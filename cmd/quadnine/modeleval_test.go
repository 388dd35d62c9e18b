package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/snapshot"
)

// runCommand runs a quadnine command that must succeed, and returns what it prints.
func runCommand(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if code := execute(t.Context(), args, &out, &errs); code != exitOK {
		t.Fatalf("quadnine %s: exit %d\n%s", strings.Join(args, " "), code, errs.String())
	}
	return out.String()
}

// put writes a file into a folder of the test's and returns its path.
func put(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// numbers returns a safetensors file of F64 tensors.
func numbers(t *testing.T, tensors map[string][]float64) []byte {
	t.Helper()
	var list []delta.TensorBytes
	for name, v := range tensors {
		x := delta.TensorBytes{Name: name, DType: "F64", Shape: []int64{int64(len(v))}}
		for _, n := range v {
			x.Data = append(x.Data, binaryFloat(n)...)
		}
		list = append(list, x)
	}
	var b bytes.Buffer
	if err := delta.WriteSafetensors(&b, list); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func binaryFloat(v float64) []byte {
	b := make([]byte, 8)
	for i := range b {
		b[i] = byte(math.Float64bits(v) >> (8 * i))
	}
	return b
}

// figures is an upstream that answers by tenant; what it is not told of is
// {"value": 7}.
type figures struct {
	byTenant map[string]string
}

func (f *figures) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	body, ok := f.byTenant[r.URL.Query().Get("tenant")]
	if !ok {
		body = `{"value": 7}`
	}
	_, _ = fmt.Fprint(w, body)
}

// evalStand is a stand over such an upstream, with a models directory.
func evalStand(t *testing.T, app http.Handler, log *auditLog) (s *stand, dir string) {
	t.Helper()
	dir = t.TempDir()
	c := standConfig{models: modelsConfig{dir: dir, store: t.TempDir()}, source: snapshot.Source{Upstreams: []string{startUpstream(t, app)}}}
	if log != nil {
		c.logTo = log
	}
	return newStand(t, c), dir
}

// query asks for a tenant's metric, and returns the number when there is one.
func (s *stand) query(c *http.Client, tenant, metric string) (float64, answer) {
	s.t.Helper()
	a := s.do(c, http.MethodGet, s.url("/q?tenant="+tenant+"&metric="+metric), nil)
	var got struct{ Value *float64 }
	if a.status != http.StatusOK || json.Unmarshal([]byte(a.body), &got) != nil || got.Value == nil {
		return math.NaN(), a
	}
	return *got.Value, a
}

// awaitModel waits until /models shows a version in a state.
func (s *stand) awaitModel(n uint64, state string) {
	s.t.Helper()
	for !s.modelState(n, state) {
		if page := s.admin("/models"); strings.Contains(page, "quarantine") {
			s.t.Fatalf("a drop is not used:\n%s", page)
		}
		if s.t.Context().Err() != nil {
			return
		}
	}
}

// packModel packs a version into the models directory.
func packModel(t *testing.T, dir, model string, n int, file, eval string, more ...string) {
	t.Helper()
	e := put(t, t.TempDir(), "eval.json", []byte(eval))
	runCommand(t, append([]string{"model", "pack", file, "--model", model, "--version", strconv.Itoa(n), "--eval", e, "-o", filepath.Join(dir, model+strconv.Itoa(n))}, more...)...)
}

const (
	guessByLine  = `{"kind": "linear", "metric": "guess", "input": {"x": {"metric": "raw"}}, "order": ["x"], "weights": {"weights": "w", "bias": "b"}}`
	otherByLine  = `{"kind": "linear", "metric": "line", "input": {"x": {"metric": "raw"}}, "order": ["x"], "weights": {"weights": "w", "bias": "b"}}`
	guessByGuest = `{"kind": "wasm", "metric": "guess", "input": {"x": {"metric": "raw"}}, "order": ["x"], "weights": {"module": "wasm.module"}, "limits": {"timeout_ms": 50}}`
)

// guestFile is the fickle module as a version.
func guestFile(t *testing.T, work string) string {
	t.Helper()
	file := filepath.Join(work, "guest.safetensors")
	runCommand(t, "model", "import-wasm", "../../loader/model/wasm/testdata/fickle.wasm", "-o", file)
	return file
}

// TestGuestFailsItsOwnQueryOnly: a WebAssembly module that loops without end is
// stopped, one that traps or takes all memory fails, and each costs the query that
// it answers an explained error. Others go on meanwhile: those of the same model,
// of another model, and those that no model answers.
func TestGuestFailsItsOwnQueryOnly(t *testing.T) {
	app := &figures{byTenant: map[string]string{
		"loop": `{"value": 1}`, "trap": `{"value": 2}`, "bomb": `{"value": 3}`, "refuse": `{"value": 4}`, "nan": `{"value": 5}`,
	}}
	s, dir := evalStand(t, app, nil)
	work := t.TempDir()
	packModel(t, dir, "guess", 1, guestFile(t, work), guessByGuest)
	packModel(t, dir, "line", 2, put(t, work, "line.safetensors", numbers(t, map[string][]float64{"w": {2}, "b": {1}})), otherByLine)
	s.awaitModel(1, "active")
	s.awaitModel(2, "active")

	var stop atomic.Bool
	var asked [3]atomic.Int64
	var wg sync.WaitGroup
	for i, want := range []struct {
		metric string
		value  float64
	}{{"raw", 7}, {"line", 15}, {"guess", 7}} {
		c := s.client(i%2 == 0)
		wg.Go(func() {
			for !stop.Load() || asked[i].Load() < 3 {
				if got, a := s.query(c, "good", want.metric); got != want.value {
					t.Errorf("%s beside it: %d %q, want %v", want.metric, a.status, a.body, want.value)
					return
				}
				asked[i].Add(1)
			}
		})
	}
	c := s.client(true)
	for tenant, want := range map[string]struct {
		status int
		says   string
	}{
		"loop": {503, "stopped: it took too long"}, "trap": {503, "trapped"}, "bomb": {503, "trapped"},
		"refuse": {422, "input refused by it"}, "nan": {503, "not finite"},
	} {
		before := [3]int64{asked[0].Load(), asked[1].Load(), asked[2].Load()}
		_, a := s.query(c, tenant, "guess")
		if a.status != want.status || !strings.Contains(a.body, want.says) {
			t.Errorf("%s: %d %q, want %d … %s …", tenant, a.status, a.body, want.status, want.says)
		}
		for i := range asked { // each goes on after what happened
			for asked[i].Load() == before[i] && !t.Failed() {
				continue
			}
		}
	}
	stop.Store(true)
	wg.Wait()
	page := s.admin("/stats/prometheus")
	for _, line := range []string{"quadnine_model_failed_total 3", "quadnine_model_input_refused_total 1", "quadnine_model_not_finite_total 1"} {
		if !strings.Contains(page, line) {
			t.Errorf("/stats/prometheus lacks %q", line)
		}
	}
}

// TestGuestThatLoopsIsTakenBack: a canary that is stopped is its own fault, and the
// judge takes it back; its callers are answered by the version before.
func TestGuestThatLoopsIsTakenBack(t *testing.T) {
	app := &figures{byTenant: map[string]string{}}
	for i := range 400 {
		app.byTenant["t"+strconv.Itoa(i)] = `{"value": 1}`
	}
	s, dir := evalStand(t, app, nil)
	work := t.TempDir()
	packModel(t, dir, "guess", 1, put(t, work, "line.safetensors", numbers(t, map[string][]float64{"w": {2}, "b": {1}})), guessByLine)
	s.awaitModel(1, "active")
	packModel(t, dir, "guess", 2, guestFile(t, work), guessByGuest, "--canary-weight", "50", "--min-requests", "100000")
	s.awaitModel(2, "canary")
	c := s.client(true)
	previous := 0
	for i := 0; !strings.Contains(s.admin("/models"), "refused"); i++ {
		got, a := s.query(c, "t"+strconv.Itoa(i%400), "guess")
		if got != 3 {
			t.Fatalf("request %d: %d %q, want version 1's answer", i, a.status, a.body)
		}
		if strings.Contains(a.header.Get("X-Quadnine-Degraded"), "previous; reason=model-failed") {
			previous++
		}
	}
	if previous == 0 {
		t.Error("nobody was answered by the version before")
	}
	if page := s.admin("/models"); !strings.Contains(page, "error-rate") {
		t.Errorf("/models does not say why:\n%s", page)
	}
}

// TestSchemaRefusesInputs: what a version does not take is an error that names the
// input, counted, and nobody's fault; a missing input that may be missing is what
// the manifest says; a version that takes less than the active one is told of.
func TestSchemaRefusesInputs(t *testing.T) {
	app := &figures{byTenant: map[string]string{
		"whole": `{"value": 3, "device": "desktop", "p95": 0.5, "live": true}`,
		"less":  `{"value": 3, "device": "desktop", "live": false}`,
		"high":  `{"value": 3, "device": "mobile", "p95": 2, "live": true}`,
		"other": `{"value": 3, "device": "tv", "p95": 0.5, "live": true}`,
		"gone":  `{"value": 3, "p95": 0.5, "live": true}`,
		"text":  `{"value": "3", "device": "mobile", "p95": 0.5, "live": true}`,
	}}
	log := newAuditLog(t)
	s, dir := evalStand(t, app, log)
	work := t.TempDir()
	file := put(t, work, "line.safetensors", numbers(t, map[string][]float64{"w": {1, 10, 100, 1000}, "b": {0.25}}))
	eval := func(p95 string) string {
		return `{"kind": "linear", "metric": "guess", "order": ["x", "device", "p95", "live"], "weights": {"weights": "w", "bias": "b"},
			"input": {"x": {"metric": "raw"}, "device": {"metric": "raw", "field": "device"}, "p95": {"metric": "raw", "field": "p95"}, "live": {"metric": "raw", "field": "live"}},
			"schema": {"device": {"type": "category", "categories": ["mobile", "desktop"]}, "p95": {"type": "number", "min": 0, "max": ` + p95 + `, "required": false, "default": 0.75}, "live": {"type": "boolean"}}}`
	}
	packModel(t, dir, "guess", 1, file, eval("1"))
	s.awaitModel(1, "active")
	c := s.client(true)
	for tenant, want := range map[string]struct {
		value  float64
		status int
		says   string
	}{
		"whole": {3 + 10 + 50 + 1000 + 0.25, 200, `"inputs":{"raw":3,"raw.device":1,"raw.p95":0.5,"raw.live":1}`},
		"less":  {3 + 10 + 75 + 0.25, 200, ""},
		"high":  {0, 422, `input raw: member "p95": not what the version takes: it is 2: want at most 1`},
		"other": {0, 422, `it is "tv": want one of 2 categories`},
		"gone":  {0, 422, `member "device": not what the version takes: it is missing`},
		"text":  {0, 502, "input raw"},
	} {
		got, a := s.query(c, tenant, "guess")
		if a.status != want.status || !strings.Contains(a.body, want.says) || want.status == 200 && got != want.value {
			t.Errorf("%s: %d %v %q, want %d %v … %s …", tenant, a.status, got, a.body, want.status, want.value, want.says)
		}
	}
	if page := s.admin("/stats/prometheus"); !strings.Contains(page, "quadnine_model_input_refused_total 3") || !strings.Contains(page, "quadnine_model_bad_input_total 1") {
		t.Error("/stats/prometheus does not count the refused inputs")
	}
	packModel(t, dir, "guess", 2, file, eval("0.8"), "--canary-weight", "0")
	log.await("version refuses inputs that the active one takes", "version=2", "active=1", "p95: wants at most 0.8")
	s.awaitModel(2, "active")
	if page := s.admin("/stats/prometheus"); !strings.Contains(page, "quadnine_model_narrowed_total 1") {
		t.Error("/stats/prometheus does not count the narrower version")
	}
}

// TestTreesAreAnsweredFromTheMapping: a LightGBM model is imported, shipped, and
// its successor shipped as a delta; the answers are those of `model eval`.
func TestTreesAreAnsweredFromTheMapping(t *testing.T) {
	app := &figures{byTenant: map[string]string{}}
	s, dir := evalStand(t, app, nil)
	work := t.TempDir()
	for i, name := range []string{"regression", "binary"} {
		n := i + 1
		file, eval := filepath.Join(work, name+".safetensors"), filepath.Join(work, name+".json")
		out := runCommand(t, "model", "import-lightgbm", "../../loader/model/lightgbm/testdata/"+name+".txt", "-o", file, "--eval", eval, "--metric", "guess")
		if !strings.Contains(out, "12 trees") {
			t.Errorf("import prints %q", out)
		}
		text, err := os.ReadFile(eval)
		if err != nil {
			t.Fatal(err)
		}
		more := []string{"--canary-weight", "0"}
		if n > 1 {
			more = append(more, "--base", filepath.Join(work, "regression.safetensors"))
		}
		packModel(t, dir, "guess", n, file, string(text), more...)
		s.awaitModel(uint64(n), "active")
		// Every input is 7: the upstream answers every metric so.
		e, err := delta.ParseEval(eval, text)
		if err != nil {
			t.Fatal(err)
		}
		row := map[string]float64{}
		for name := range e.Input {
			row[name] = 7
		}
		line, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		said := strings.TrimSpace(runCommand(t, "model", "eval", file, put(t, work, "rows", line), "--eval", eval))
		want, err := strconv.ParseFloat(said, 64)
		if err != nil {
			t.Fatal(err)
		}
		got, a := s.query(s.client(true), "acme", "guess")
		if math.Float64bits(got) != math.Float64bits(want) || a.header.Get("X-Quadnine-Model") != "guess@"+strconv.Itoa(n) {
			t.Errorf("%s: %v by %s, model eval says %v (%s)", name, got, a.header.Get("X-Quadnine-Model"), want, a.body)
		}
		if page := runCommand(t, "model", "inspect", filepath.Join(dir, "guess"+strconv.Itoa(n))); !strings.Contains(page, "trees") || !strings.Contains(page, "input visitors: value of visitors") {
			t.Errorf("inspect prints\n%s", page)
		}
	}
}

// TestEvaluatorsPage runs every command of docs/evaluators.md, in its order, and
// reads the eval object that it shows.
func TestEvaluatorsPage(t *testing.T) {
	const page = "../../docs/evaluators.md"
	commands := commandsOf(t, page)
	if len(commands) < 7 {
		t.Fatalf("found %d commands", len(commands))
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, eval, ok := strings.Cut(string(text), "```json\n")
	eval, _, ok2 := strings.Cut(eval, "```")
	if _, err := delta.ParseEval(page, []byte(eval)); err != nil || !ok || !ok2 {
		t.Errorf("the eval object of the page: %v", err)
	}
	dir := t.TempDir()
	for name, from := range map[string]string{"model.txt": "../../loader/model/lightgbm/testdata/numeric.txt", "ratio.wasm": "../../examples/wasm/ratio.wasm"} {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		put(t, dir, name, b)
	}
	put(t, dir, "weights.safetensors", numbers(t, map[string][]float64{"scale": {100}, "bias": {1}}))
	put(t, dir, "rows.jsonl", []byte(`{"visitors": 1, "views": 2, "device": 3, "p95": 0.5, "bounce": 0}`+"\n"))
	put(t, dir, "uvpv.jsonl", []byte(`{"uv": 2, "pv": 8}`+"\n"+`{"uv": 1, "pv": 0}`+"\n"))
	if err := os.Mkdir(filepath.Join(dir, "drops"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	var queries [][]string // of the sidecar that has the versions
	for _, c := range commands {
		words := shellWords(t, c.line)
		if words[0] == "curl" {
			queries = append(queries, words[1:])
			continue
		}
		if words[0] != "quadnine" || words[1] != "model" {
			t.Fatalf("the test does not know how to run %q", c.line)
		}
		out := runCommand(t, words[1:]...)
		t.Logf("$ %s\n%s", c.line, out)
		if words[2] == "eval" && words[3] == "guest.safetensors" && out != "26\n1\n" {
			t.Errorf("$ %s\nprinted %q", c.line, out)
		}
	}
	s := newStand(t, standConfig{models: modelsConfig{dir: filepath.Join(dir, "drops"), store: t.TempDir()}})
	for page := ""; strings.Count(page, " active ") < 2 || !strings.Contains(page, "forest") || !strings.Contains(page, "guest"); page = s.admin("/models") {
		if strings.Contains(page, "quarantine") {
			t.Fatal(page)
		}
	}
	for i, says := range []string{`"to":"2026-01-01T12:00:00Z","value":`, `"reason":"makes 94964 rows, at most 1024 are answered`} {
		for at, word := range queries[i] {
			queries[i][at] = strings.Replace(word, "127.0.0.1:8080", s.side.Addr(), 1)
		}
		if got := curl(t, queries[i]); !strings.Contains(got, says) {
			t.Errorf("curl %q\nprinted %q without %q", queries[i], got, says)
		}
	}
}
