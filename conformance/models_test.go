package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// evalJSON makes a version of testdata/score.py answer the metric score.
const evalJSON = `{"kind": "ratio", "metric": "score",
  "input": {"uv": {"metric": "uv"}, "pv": {"metric": "pv"}},
  "weights": {"scale": "scale", "bias": "bias"}}`

// modelStand is a sidecar with a watched directory, and versions to drop into it.
type modelStand struct {
	*sidecar

	upstream string
	dir      string             // of files: v1.safetensors, …, and packed drops score-v1, …
	watched  string             // by the sidecar
	store    string             // the sidecar's
	want     map[string]float64 // by score@n; what numpy says
}

// withModels starts a sidecar and writes versions 1 to count with numpy; version
// bad, if there is one, is not a number.
func withModels(t *testing.T, count, bad int) *modelStand {
	t.Helper()
	var args []int
	if bad != 0 {
		args = append(args, bad)
	}
	return withScript(t, "score.py", evalJSON, count, args...)
}

// withScript starts a sidecar and lets a script of testdata write versions 1 to
// count, which answer as eval says.
func withScript(t *testing.T, script, eval string, count int, more ...int) *modelStand {
	t.Helper()
	m := &modelStand{upstream: addrs(t, 1)[0], dir: t.TempDir(), watched: t.TempDir(), store: t.TempDir(), want: make(map[string]float64)}
	startStats(t, m.upstream, []string{"acme", "globex"})
	m.restart(t)
	args := []string{filepath.Join("testdata", script), m.dir, m.metric(t, "uv"), m.metric(t, "pv"), strconv.Itoa(count)}
	for _, n := range more {
		args = append(args, strconv.Itoa(n))
	}
	p := tool(t, "model-python", args...)
	if err := p.Wait(deadline(t, 2*within)); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, p.Output())
	}
	for line := range strings.Lines(p.Output()) {
		var n int
		var text string
		if _, err := fmt.Sscan(line, &n, &text); err != nil {
			t.Fatalf("%s says %q: %v", script, line, err)
		}
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatalf("%s says %q: %v", script, line, err)
		}
		if before := m.want[modelName(n-1)]; math.Abs(value-before) < 1e-3 {
			t.Fatalf("versions %d and %d answer alike, %v: a mix would not be seen", n-1, n, value)
		}
		m.want[modelName(n)] = value
	}
	if len(m.want) != count {
		t.Fatalf("%s wrote %d versions, want %d:\n%s", script, len(m.want), count, p.Output())
	}
	if err := os.WriteFile(filepath.Join(m.dir, "eval.json"), []byte(eval), 0o600); err != nil {
		t.Fatal(err)
	}
	return m
}

// restart starts the sidecar on the same watched directory and store.
func (m *modelStand) restart(t *testing.T) {
	t.Helper()
	m.sidecar = startSidecar(t, nil, "--upstream", "http://"+m.upstream, "--models", m.watched, "--model-store", m.store)
}

// metric returns a number of acme's as the service's reply has it.
func (m *modelStand) metric(t *testing.T, name string) string {
	t.Helper()
	var body struct{ Value json.Number }
	if err := json.Unmarshal(mustGet(t, client(t, true), m.url("/api/v2/metrics/query?tenant=acme&metric="+name)), &body); err != nil {
		t.Fatal(err)
	}
	return body.Value.String()
}

// file returns the path of version n's safetensors file.
func (m *modelStand) file(n int) string {
	return filepath.Join(m.dir, fmt.Sprintf("v%d.safetensors", n))
}

// packed returns the path of version n's drop, before it is dropped.
func (m *modelStand) packed(n int) string { return filepath.Join(m.dir, fmt.Sprint("score-v", n)) }

// model runs `quadnine model` and returns what it prints.
func model(t *testing.T, args ...string) string {
	t.Helper()
	p := start(t, bin.quadnine, append([]string{"model"}, args...))
	if err := p.Wait(deadline(t, within)); err != nil {
		t.Fatalf("quadnine model %v: %v\n%s", args, err, p.Output())
	}
	return p.Output()
}

// pack makes version n's drop: version 1 whole, later ones as a delta from the
// one before.
func (m *modelStand) pack(t *testing.T, n int, flags ...string) {
	t.Helper()
	args := append([]string{"pack", m.file(n), "--model", "score", "--version", strconv.Itoa(n), "--eval", filepath.Join(m.dir, "eval.json"), "-o", m.packed(n)}, flags...)
	if n > 1 {
		args = append(args, "--base", m.file(n-1))
	}
	model(t, args...)
}

// drop copies version n's drop into the watched directory as the documentation
// says: the files first, then MANIFEST.json is renamed into place.
func (m *modelStand) drop(t *testing.T, n int) {
	t.Helper()
	const manifest, part = "MANIFEST.json", ".MANIFEST.json.part"
	to := filepath.Join(m.watched, filepath.Base(m.packed(n)))
	if err := os.Mkdir(to, 0o755); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(m.packed(n))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(m.packed(n), e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		name := e.Name()
		if name == manifest {
			name = part
		}
		if err := os.WriteFile(filepath.Join(to, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(filepath.Join(to, part), filepath.Join(to, manifest)); err != nil {
		t.Fatal(err)
	}
}

// first drops version 1 and waits until it is active; only then is there a score
// to ask for.
func (m *modelStand) first(t *testing.T) {
	t.Helper()
	m.pack(t, 1)
	m.drop(t, 1)
	ctx := deadline(t, within)
	if !until(ctx, func() bool { return m.models(ctx).state(1) == "active" }) {
		t.Fatalf("version 1 is not active:\n%s", mustGet(t, client(t, false), "http://"+m.admin+"/models"))
	}
}

// TestModelGoesFromNumpyToTheReply drops two versions that numpy wrote, under
// load: every number is numpy's for the version that the reply names.
func TestModelGoesFromNumpyToTheReply(t *testing.T) {
	m := withModels(t, 2, 0)
	m.first(t)
	w, loaded := askScores(t, m.sidecar, m.want), loadScores(t, m.sidecar)
	m.pack(t, 2, "--canary-weight", "50", "--promote-after", "500ms", "--min-requests", "20")
	whole, delta := size(t, m.file(2)), size(t, m.packed(2))
	if delta > whole/4 {
		t.Errorf("the drop has %d bytes, the version %d: that is no delta", delta, whole)
	}
	if out := model(t, "diff", m.file(1), m.file(2)); !regexp.MustCompile(`(?m)^table +ROWS .* 0 +40$`).MatchString(out) {
		t.Errorf("numpy changed 40 rows of table; they do not go as rows:\n%s", out)
	}
	w.await(t, m.sidecar, "answers by version 1", func() bool { return w.count(1) > 200 })
	m.drop(t, 2)
	w.await(t, m.sidecar, "answer by version 2", func() bool { return w.count(2) > 0 })
	trial := w.count(1)
	w.await(t, m.sidecar, "promotion of version 2", func() bool { return m.models(w.ctx).state(2) == "active" })
	v1, v2 := w.count(1), w.count(2)
	if v1 == trial || v2 < 20 {
		t.Errorf("during the trial version 1 gave %d replies and version 2 %d, want both to answer", v1-trial, v2)
	}
	w.await(t, m.sidecar, "answers by version 2 alone", func() bool { return w.count(2) > v2+500 })
	if late := w.count(1) - v1; late > 6 {
		t.Errorf("%d replies by version 1 after version 2 was active, want those in flight at most", late)
	}
	loaded()
	w.end(t)

	out := filepath.Join(t.TempDir(), "v2.safetensors")
	model(t, "unpack", m.packed(2), "--base", m.file(1), "-o", out)
	if !bytes.Equal(read(t, out), read(t, m.file(2))) {
		t.Error("unpack does not give the safetensors file back byte for byte")
	}
}

// TestModelThatIsNoNumberGoesBack drops a version whose weight is NaN: nobody sees
// its answer, it is taken back by itself, and a restart does not bring it back.
func TestModelThatIsNoNumberGoesBack(t *testing.T) {
	m := withModels(t, 2, 2)
	m.first(t)
	delete(m.want, modelName(2)) // no reply may name it
	w := askScores(t, m.sidecar, m.want)
	m.pack(t, 2, "--canary-weight", "50", "--promote-after", "1h", "--min-requests", "20")
	m.drop(t, 2)
	var why string
	w.await(t, m.sidecar, "refusal of version 2", func() bool { why = m.models(w.ctx).refused(2); return why != "" })
	if !strings.Contains(why, "non-finite") {
		t.Errorf("version 2 is refused for %q, want non-finite answers as the reason", why)
	}
	good := w.good.Load()
	w.await(t, m.sidecar, "answers after the rollback", func() bool { return w.good.Load() > good+500 })
	w.end(t)

	m.Kill() // what was decided is on disk by the time it is shown
	m.restart(t)
	w = askScores(t, m.sidecar, m.want)
	w.await(t, m.sidecar, "answers after the restart", func() bool { return w.good.Load() > 500 })
	if got := m.models(w.ctx); got.refused(2) != why || got.state(2) != "" || got.state(1) != "active" {
		t.Errorf("after the restart /models says %+v, want version 1 active and version 2 refused for %q", got, why)
	}
	w.end(t)
}

// TestManyActivationsUnderLoad activates version after version at once, under
// load.
func TestManyActivationsUnderLoad(t *testing.T) {
	versions := soak(5, 200)
	m := withModels(t, 1+versions, 0)
	for n := 2; n <= 1+versions; n++ {
		m.pack(t, n, "--canary-weight", "0")
	}
	m.first(t)
	w, loaded := askScores(t, m.sidecar, m.want), loadScores(t, m.sidecar)
	for n := 2; n <= 1+versions; n++ {
		before := w.count(n - 1)
		w.await(t, m.sidecar, fmt.Sprint("answers by version ", n-1), func() bool { return w.count(n-1) > before+100 })
		m.drop(t, n)
		w.await(t, m.sidecar, fmt.Sprint("activation of version ", n), func() bool { return m.models(w.ctx).state(n) == "active" })
		r, err := askScore(w.ctx, client(t, true), m.url(score), "after")
		if err != nil || r.model != modelName(n) {
			t.Errorf("version %d is active, but %q answers: %v", n, r.model, err)
		}
	}
	loaded()
	w.end(t)
}

// read returns a file's bytes.
func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// size returns the bytes of a file, or of the files in a folder.
func size(t *testing.T, path string) (total int64) {
	t.Helper()
	err := filepath.Walk(path, func(_ string, st os.FileInfo, err error) error {
		if err == nil && st.Mode().IsRegular() {
			total += st.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return total
}
