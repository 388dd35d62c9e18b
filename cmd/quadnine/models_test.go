package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/examples/statsapp"
	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/proxy"
)

// weights is a model of the kind "ratio": score = scale·(uv/pv) + bias.
type weights struct{ scale, bias float64 }

// file returns the weights as safetensors.
func (w weights) file(t *testing.T) []byte {
	t.Helper()
	scalar := func(at int) map[string]any {
		return map[string]any{"dtype": "F64", "shape": []int{}, "data_offsets": []int{at, at + 8}}
	}
	head, err := json.Marshal(map[string]any{"bias": scalar(0), "scale": scalar(8)})
	if err != nil {
		t.Fatal(err)
	}
	out := binary.LittleEndian.AppendUint64(nil, uint64(len(head)))
	out = append(out, head...)
	out = binary.LittleEndian.AppendUint64(out, math.Float64bits(w.bias))
	return binary.LittleEndian.AppendUint64(out, math.Float64bits(w.scale))
}

// dropVersion writes a full drop of version n into dir.
func dropVersion(t *testing.T, dir string, n uint64, w weights, c delta.Canary) {
	t.Helper()
	drop := filepath.Join(dir, "v"+strconv.FormatUint(n, 10))
	if err := os.MkdirAll(drop, 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(drop)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	p := delta.Pack{Manifest: delta.Manifest{
		Model: "score", Version: n, SchemaVersion: 1, Canary: &c,
		Eval: &delta.Eval{
			Kind: delta.EvalRatio, Metric: "score",
			Input:   map[string]delta.Input{"uv": {Metric: "uv"}, "pv": {Metric: "pv"}},
			Weights: map[string]string{"scale": "scale", "bias": "bias"},
		},
	}}
	if _, err := p.Full(t.Context(), root, bytes.NewReader(w.file(t))); err != nil {
		t.Fatal(err)
	}
}

// score asks for acme's score as user, and returns its number and the version
// that is said to have answered.
func (s *stand) score(c *http.Client, user string) (value float64, version string, a answer) {
	s.t.Helper()
	a = s.do(c, http.MethodGet, s.url("/api/v2/metrics/query?tenant=acme&metric=score"), nil, "X-User-Id", user)
	var got struct{ Value *float64 }
	if a.status == http.StatusOK {
		if err := json.Unmarshal([]byte(a.body), &got); err != nil || got.Value == nil {
			s.t.Fatalf("no number in %q: %v", a.body, err)
		}
		value = *got.Value
	}
	return value, a.header.Get("X-Quadnine-Model"), a
}

// modelState reports whether /models shows version n in a state.
func (s *stand) modelState(n uint64, state string) bool {
	s.t.Helper()
	for line := range strings.Lines(s.admin("/models")) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == fmt.Sprint("@", n) && f[1] == state {
			return true
		}
	}
	return false
}

func TestModelIsDroppedTriedPromotedAndTakenBack(t *testing.T) {
	dir, store := t.TempDir(), t.TempDir()
	s := newStand(t, standConfig{models: modelsConfig{dir: dir, store: store}})
	c := s.client(true)
	ratio := func() float64 {
		uv, err := s.app.Query(statsapp.Query{Tenant: "acme", Metric: "uv", To: statsapp.MaxTime})
		if err != nil {
			t.Fatal(err)
		}
		pv, err := s.app.Query(statsapp.Query{Tenant: "acme", Metric: "pv", To: statsapp.MaxTime})
		if err != nil {
			t.Fatal(err)
		}
		return uv.Value / pv.Value
	}()
	want := map[string]float64{"score@1": 2*ratio + 1, "score@2": 3*ratio + 1, "score@3": math.NaN()}
	quick := delta.Canary{Weight: 50, PromoteAfter: 100 * time.Millisecond, MinRequests: 20}

	// Until a version is there, the metric is explained, not invented.
	if _, _, a := s.score(c, "u"); a.status != http.StatusNotFound { // the upstream has no metric of that name
		t.Fatalf("before the first drop: %d %q", a.status, a.body)
	}
	dropVersion(t, dir, 1, weights{2, 1}, quick)
	for version := ""; version != "score@1"; {
		_, version, _ = s.score(c, "u")
	}

	// ask checks one reply: whole, and its number that of the version it names.
	asked := 0
	ask := func() string {
		asked++
		value, version, a := s.score(c, "u"+strconv.Itoa(asked%200))
		if a.status != http.StatusOK || math.Abs(value-want[version]) > 1e-12*math.Abs(want[version]) || math.IsNaN(want[version]) {
			t.Fatalf("request %d: %d %v by %q, want %v (%s)", asked, a.status, value, version, want[version], a.body)
		}
		return version
	}
	dropVersion(t, dir, 2, weights{3, 1}, quick)
	seen := map[string]int{}
	for !s.modelState(2, "active") {
		seen[ask()]++
	}
	for range 50 {
		if v := ask(); v != "score@2" {
			t.Fatalf("after the promotion %s answers", v)
		}
	}
	if seen["score@1"] == 0 || seen["score@2"] == 0 {
		t.Fatalf("during the trial: %v, want both", seen)
	}
	if page := s.admin("/explain?tenant=acme&metric=score"); !strings.Contains(page, "score@2 was promoted: ") {
		t.Errorf("after the promotion /explain does not say why:\n%s", page)
	}
	if page := s.admin("/models"); !strings.Contains(page, "verdict=promote why=passed") {
		t.Errorf("/models does not say why it was promoted:\n%s", page)
	}

	// A version whose answers are no numbers goes back by itself; nobody sees one.
	dropVersion(t, dir, 3, weights{math.NaN(), 1}, quick)
	for refused := false; !refused; refused = strings.Contains(s.admin("/models"), "refused") {
		ask()
	}
	for range 50 {
		if v := ask(); v != "score@2" {
			t.Fatalf("after the rollback %s answers", v)
		}
	}
	if page := s.admin("/explain?tenant=acme&metric=score"); !strings.Contains(page, "score@3 was taken back") || !strings.Contains(page, "non-finite") {
		t.Fatalf("/explain does not say why:\n%s", page)
	}
	if page := s.admin("/models"); !strings.Contains(page, "not finite") && !strings.Contains(page, "non-finite") {
		t.Fatalf("/models does not say why:\n%s", page)
	}
}

// Requests find the model before the version, so all of its versions answer the
// same metric.
func TestVersionForAnotherMetricIsQuarantined(t *testing.T) {
	a := newModels(slog.New(slog.DiscardHandler))
	embedded := func(name string) *proxy.Model { return &proxy.Model{Name: name, Embedded: true} }
	for _, step := range []struct {
		model  *proxy.Model
		metric string
		want   string // in the error; "" is none
	}{
		{embedded("score"), "score", ""},
		{embedded("score"), "score", ""},
		{embedded("score"), "uv", "model score answers metric score, this version uv: give it a model of its own"},
		{&proxy.Model{Name: "score"}, "", "model score answers metric score, this version none, for its manifest has no eval"},
		{embedded("other"), "score", "metric score is answered by model score already"},
		{&proxy.Model{Name: "routed"}, "", ""},
		{&proxy.Model{Name: "routed"}, "", ""},
		{embedded("routed"), "pv", "model routed accompanies requests, this version answers metric pv"},
		{&proxy.Model{Name: "second"}, "", "model routed accompanies every request already"},
	} {
		err := a.introduce(step.model, step.metric)
		if step.want == "" && err != nil || step.want != "" && (err == nil || !strings.Contains(err.Error(), step.want)) {
			t.Errorf("%s for %q: %v, want %q", step.model.Name, step.metric, err, step.want)
		}
	}
	for metric, want := range map[string]string{"score": "score", "uv": "routed", "pv": "routed"} {
		if m := a.For(quadnine.Key{Tenant: "t", Metric: metric}); m == nil || m.Name != want {
			t.Errorf("%s is answered by %v, want %s", metric, m, want)
		}
	}
}

// A trial can begin with all that a manifest's canary may say.
func TestTrialBeginsWithTheLeastOfAManifest(t *testing.T) {
	a := newModels(slog.New(slog.DiscardHandler))
	a.now = func() int64 { return 1 }
	for _, c := range []delta.Canary{{Weight: 5}, delta.DefaultCanary, {PromoteAfter: 720 * time.Hour, MinRequests: 1<<53 - 1}} {
		canary := &loader.Info{Model: "score", Number: 2, Canary: c}
		if v, why := a.Verdict(canary, &loader.Info{Model: "score", Number: 1}); v != loader.Hold {
			t.Errorf("%+v: %v, %s", c, v, why)
		}
	}
}

// A delta whose base is missing says so where people look.
func TestWaitingDropIsShown(t *testing.T) {
	dir := t.TempDir()
	s := newStand(t, standConfig{models: modelsConfig{dir: dir, store: t.TempDir()}})
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	p := delta.Pack{Manifest: delta.Manifest{Model: "score", Version: 3, SchemaVersion: 1}}
	old, next := bytes.NewReader(weights{1, 1}.file(t)), bytes.NewReader(weights{2, 1}.file(t))
	if _, _, err := p.Delta(t.Context(), root, 2, old, next, false); err != nil {
		t.Fatal(err)
	}
	for !s.modelState(3, "waiting") {
		runtime.Gosched()
	}
	const why = "base missing: score@2 with root "
	if page := s.admin("/models"); !strings.Contains(page, why) {
		t.Errorf("/models\n%s", page)
	}
	if code, out, errs := s.model("ls"); code != exitOK || !strings.Contains(out, why) {
		t.Errorf("ls: exit %d %q\n%s", code, errs, out)
	}
}

func TestRefusedVersionStaysRefusedAfterARestart(t *testing.T) {
	dir, store := t.TempDir(), t.TempDir()
	quick := delta.Canary{Weight: 50, PromoteAfter: time.Hour, MinRequests: 20}
	cfg := modelsConfig{dir: dir, store: store}
	t.Run("taken back", func(t *testing.T) {
		s := newStand(t, standConfig{models: cfg})
		c := s.client(true)
		dropVersion(t, dir, 1, weights{2, 1}, quick)
		for version := ""; version != "score@1"; {
			_, version, _ = s.score(c, "u")
		}
		dropVersion(t, dir, 2, weights{math.Inf(1), 1}, quick)
		for i := 0; !strings.Contains(s.admin("/models"), "refused"); i++ {
			if _, version, a := s.score(c, fmt.Sprint("u", i%200)); a.status != http.StatusOK || version != "score@1" {
				t.Fatalf("%d by %q", a.status, version)
			}
		}
	})
	t.Run("restarted", func(t *testing.T) {
		s := newStand(t, standConfig{models: cfg})
		c := s.client(true)
		for i := range 200 {
			if _, version, a := s.score(c, fmt.Sprint("u", i)); a.status != http.StatusOK || version != "score@1" {
				t.Fatalf("%d by %q: %s", a.status, version, a.body)
			}
		}
		if page := s.admin("/models"); !strings.Contains(page, "refused") {
			t.Fatalf("/models forgot the refusal:\n%s", page)
		}
	})
}
