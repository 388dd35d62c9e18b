package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/telemetry"
)

// sample returns the value of one series of a scrape, NaN when it is not there.
func sample(t *testing.T, page, series string) float64 {
	t.Helper()
	for line := range strings.Lines(page) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			var v float64
			if err := json.Unmarshal([]byte(strings.TrimSpace(rest)), &v); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			return v
		}
	}
	return math.NaN()
}

func TestModelGaugesStandOnTheAdminPort(t *testing.T) {
	dir := t.TempDir()
	s := newStand(t, standConfig{models: modelsConfig{dir: dir, store: t.TempDir()}})
	c := s.client(true)
	long := delta.Canary{Weight: 50, PromoteAfter: time.Hour, MinRequests: 20}
	dropVersion(t, dir, 1, weights{2, 1}, long)
	for version := ""; version != "score@1"; {
		_, version, _ = s.score(c, "u")
	}
	dropVersion(t, dir, 2, weights{3, 1}, long)
	for i := 0; ; i++ { // until a caller's draw meets the canary: then there is a trial
		if _, version, _ := s.score(c, "u"+string(rune('a'+i%26))); version == "score@2" {
			break
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "broken"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "broken", "MANIFEST.json"), []byte("no JSON"), 0o600); err != nil {
		t.Fatal(err)
	}
	held, err := s.side.models.loader.AcquireVersion("score", 2)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Release()
	// The drop is read, and the replies' own leases are given back, in their own time.
	await := map[string]float64{
		`quadnine_model_quarantined`:                       1,
		`quadnine_model_leases{model="score",version="1"}`: 0,
		`quadnine_model_leases{model="score",version="2"}`: 1,
	}
	page := s.admin("/stats/prometheus")
	for began := time.Now(); len(await) > 0; page = s.admin("/stats/prometheus") {
		for series, want := range await {
			if sample(t, page, series) == want {
				delete(await, series)
			}
		}
		if time.Since(began) > 30*time.Second { // a bound for a broken test, not a pace
			t.Fatalf("still waiting for %v in\n%s", await, page)
		}
	}
	all := s.side.models.loader.Versions("score")
	for series, want := range map[string]float64{
		`quadnine_model_version{model="score",state="active"}`:           1,
		`quadnine_model_version{model="score",state="canary"}`:           2,
		`quadnine_model_version{model="score",state="standby"}`:          math.NaN(),
		`quadnine_model_canary_share{model="score"}`:                     0.5,
		`quadnine_model_mapped_bytes{model="score",version="1"}`:         float64(all[0].Size),
		`quadnine_model_mapped_bytes{model="score",version="2"}`:         float64(all[1].Size),
		`quadnine_model_private_bytes{model="score",version="2"}`:        float64(all[1].Copied),
		`quadnine_model_canary_evidence{model="score",signal="latency"}`: 1,
		`quadnine_model_canary_evidence{model="score",signal="errors"}`:  1,
	} {
		if got := sample(t, page, series); got != want && !(math.IsNaN(got) && math.IsNaN(want)) {
			t.Errorf("%s is %v, want %v", series, got, want)
		}
	}
	if t.Failed() {
		t.Log(page)
	}
}

// journal keeps JSON log records and lets a test wait for one.
type journal struct {
	records chan map[string]any

	mu   sync.Mutex
	part []byte // guarded by mu
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.part = append(j.part, p...)
	for {
		line, rest, ok := bytes.Cut(j.part, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		var r map[string]any
		if err := json.Unmarshal(line, &r); err != nil {
			return 0, err
		}
		j.part = rest
		j.records <- r
	}
}

// until returns the records of models up to one that says msg about version.
func (j *journal) until(t *testing.T, msg string, version float64) (out []map[string]any) {
	t.Helper()
	limit := time.After(30 * time.Second) // a bound for a broken test, not a pace
	for {
		select {
		case r := <-j.records:
			out = append(out, r)
			if r["msg"] == msg && r["version"] == version {
				return out
			}
		case <-limit:
			t.Fatalf("no %s of version %v among %v", msg, version, out)
		}
	}
}

// about returns the first record with msg and value under key.
func about(t *testing.T, records []map[string]any, msg, key string, value float64) map[string]any {
	t.Helper()
	for _, r := range records {
		if r["msg"] == msg && r[key] == value {
			return r
		}
	}
	t.Fatalf("no %s with %s %v among %v", msg, key, value, records)
	return nil
}

// following is the adapter with telemetry, without a data plane.
func following(t *testing.T, dir string) (*models, *telemetry.Telemetry, *journal) {
	t.Helper()
	return followingWith(t, modelsConfig{dir: dir})
}

// followingWith is following with what the command line says besides.
func followingWith(t *testing.T, cfg modelsConfig) (*models, *telemetry.Telemetry, *journal) {
	t.Helper()
	cfg.store = t.TempDir()
	sink := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	t.Cleanup(sink.Close)
	j := &journal{records: make(chan map[string]any, 1024)}
	tel, err := telemetry.Setup(t.Context(), telemetry.Options{Endpoint: sink.URL, LogWriter: j, LogFormat: "json", LogLevel: slog.LevelInfo})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Shutdown(t.Context()) }) // the sink keeps nothing
	a := newModels(tel.Logger)
	a.instrument(tel)
	began := time.Now()
	if err := a.open(t.Context(), cfg, func() int64 { return int64(time.Since(began)) }); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { a.follow(t.Context()) }) // which ends before the cleanups
	t.Cleanup(func() {
		wg.Wait()
		if err := a.close(); err != nil {
			t.Error(err)
		}
	})
	return a, tel, j
}

// tried returns the trial that version n is the canary of.
func tried(t *testing.T, a *models, n uint64) *policy.Judge {
	t.Helper()
	for began := time.Now(); time.Since(began) < 30*time.Second; { // a bound for a broken test, not a pace
		if tr := (*a.trials.Load())["score"]; tr != nil && tr.canary == n {
			return tr.judge
		}
	}
	t.Fatalf("version %d is not on trial", n)
	return nil
}

func TestReloadsAreLoggedWithTheirTraceAndCountedOnce(t *testing.T) {
	dir := t.TempDir()
	a, tel, j := following(t, dir)
	quick := delta.Canary{Weight: 50, PromoteAfter: time.Millisecond, MinRequests: 20}

	dropVersion(t, dir, 1, weights{2, 1}, quick)
	first := j.until(t, string(loader.EventActive), 1)
	loaded, active := about(t, first, "model.loaded", "version", 1), about(t, first, "model.active", "version", 1)
	id, _ := loaded["trace_id"].(string)
	if len(id) != 32 || active["trace_id"] != id {
		t.Errorf("traces %v and %v, want one", loaded["trace_id"], active["trace_id"])
	}
	for _, r := range []map[string]any{loaded, active} {
		if took, _ := r["took"].(float64); took <= 0 {
			t.Errorf("%v took %v", r["msg"], r["took"])
		}
		if n, _ := r["bytes"].(float64); n <= 0 {
			t.Errorf("%v is of %v bytes", r["msg"], r["bytes"])
		}
	}

	// Promoted by the loader's own look at the trial.
	dropVersion(t, dir, 2, weights{3, 1}, quick)
	judge := tried(t, a, 2)
	for range 1000 { // what the default bounds want of a canary without a failure, and some
		judge.Record(policy.SideCanary, policy.Success, time.Millisecond)
		judge.Record(policy.SideActive, policy.Success, time.Millisecond)
	}
	second := about(t, j.until(t, string(loader.EventActive), 2), "model.active", "version", 2)
	if second["from"] != 1.0 || second["trace_id"] == id || second["trace_id"] == nil {
		t.Errorf("%v, want a trace of its own, from 1", second)
	}

	// Taken back by it: Version is what answers again, From what is gone.
	dropVersion(t, dir, 3, weights{4, 1}, quick)
	tried(t, a, 3).NotFinite(policy.SideCanary)
	records := j.until(t, string(loader.EventUnloadSuccess), 3)
	back, gone := about(t, records, "model.rolled_back", "from", 3), about(t, records, "model.unload.success", "version", 3)
	if back["version"] != 2.0 || back["trace_id"] != about(t, records, "model.canary", "version", 3)["trace_id"] || back["reason"] == nil {
		t.Errorf("%v, want version 2 again, with the trace of 3 and why", back)
	}
	if n, _ := gone["bytes"].(float64); n <= 0 || gone["trace_id"] != nil {
		t.Errorf("%v, want what was mapped, after the reload's end", gone)
	}
	for id, want := range map[telemetry.CounterID]uint64{telemetry.ModelPromoted: 1, telemetry.ModelTakenBack: 1} {
		if n := tel.Registry.Total(id); n != want {
			t.Errorf("counter %d is %d, want %d", id, n, want)
		}
	}
}

// A rollback that a request found, and whose switch failed there, is counted and
// audited when the loader makes it.
func TestRollbackThatARequestCouldNotMakeIsCounted(t *testing.T) {
	dir := t.TempDir()
	a, tel, j := following(t, dir)
	never := delta.Canary{Weight: 50, PromoteAfter: time.Hour, MinRequests: 20}
	dropVersion(t, dir, 1, weights{2, 1}, never)
	j.until(t, string(loader.EventActive), 1)
	dropVersion(t, dir, 2, weights{3, 1}, never)
	judge := tried(t, a, 2)
	// The request's part, and the loader's look cannot come between.
	judge.NotFinite(policy.SideCanary)
	_, e := judge.Verdict(a.now())
	records := j.until(t, string(loader.EventUnloadSuccess), 2)
	audit := about(t, records, "version taken back", "from", 2)
	if audit["to"] != 1.0 || audit["rollback"] != "swapped" || audit["breaker"] != "open" || audit["why"] != "non-finite" {
		t.Errorf("audited as %v (First was the request's: %v)", audit, e.First)
	}
	if n := tel.Registry.Total(telemetry.ModelTakenBack); n != 1 {
		t.Errorf("%d counted, want 1", n)
	}
}

func TestRevokedLeasesAreTold(t *testing.T) {
	j := &journal{records: make(chan map[string]any, 1)}
	a := newModels(slog.New(slog.NewJSONHandler(j, nil)))
	a.tell(t.Context(), nil, &loader.Event{
		Kind: loader.EventUnloadTimeout, Model: "score", Version: 4, Took: 300 * time.Second, Bytes: 4096, Copied: 512, Leases: 3,
	})
	r := <-j.records
	for key, want := range map[string]any{
		"level": "WARN", "msg": "model.unload.timeout", "model": "score", "version": 4.0, "took": 300e9, "bytes": 4096.0, "copied": 512.0, "leases": 3.0,
	} {
		if r[key] != want {
			t.Errorf("%s is %v, want %v", key, r[key], want)
		}
	}
}

// Versions that do not fit the control group are a warning, what they take at start
// is news.
func TestMemoryOfVersionsIsTold(t *testing.T) {
	j := &journal{records: make(chan map[string]any, 1)}
	a := newModels(slog.New(slog.NewJSONHandler(j, nil)))
	for kind, level := range map[loader.Kind]string{loader.EventMemory: "INFO", loader.EventShort: "WARN"} {
		a.tell(t.Context(), nil, &loader.Event{Kind: kind, Bytes: 4096, Reason: "figures"})
		if r := <-j.records; r["level"] != level || r["msg"] != string(kind) || r["bytes"] != 4096.0 || r["reason"] != "figures" {
			t.Errorf("%s: %v, want level %s and the figures", kind, r, level)
		}
	}
}

func TestReloadEndsWithItsOwnEvents(t *testing.T) {
	loaded := loader.Event{Kind: loader.EventLoaded, Model: "score", Version: 2, Drop: "v2"}
	for name, c := range map[string]struct {
		event      loader.Event
		part, ends bool
	}{
		"proved":                {loader.Event{Kind: loader.EventProved, Version: 2, Drop: "v2"}, true, false},
		"canary":                {loader.Event{Kind: loader.EventCanary, Version: 2, Drop: "v2"}, true, false},
		"active":                {loader.Event{Kind: loader.EventActive, Version: 2, From: 1, Drop: "v2"}, true, true},
		"rolled back":           {loader.Event{Kind: loader.EventRolledBack, Version: 1, From: 2, Drop: "v2"}, true, true},
		"quarantined":           {loader.Event{Kind: loader.EventQuarantined, Version: 2, Drop: "v2"}, true, true},
		"its number once more":  {loader.Event{Kind: loader.EventQuarantined, Version: 2, Drop: "copy"}, false, false},
		"another is unloaded":   {loader.Event{Kind: loader.EventUnloadSuccess, Version: 1, Drop: "v1"}, false, false},
		"back to an older one":  {loader.Event{Kind: loader.EventRolledBack, Version: 2, From: 1, Drop: "v1"}, false, false},
		"the next one, its end": {loader.Event{Kind: loader.EventLoaded, Version: 3, Drop: "v3"}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := reloading{open: make(map[string]*reload)}
			r.settle(r.of(&loaded), &loaded)
			c.event.Model = "score"
			now := r.of(&c.event)
			r.settle(now, &c.event)
			if part, ended := now != nil, len(r.open) == 0; part != c.part || ended != c.ends {
				t.Errorf("part of it %v, ended %v, want %v, %v", part, ended, c.part, c.ends)
			}
			r.abandon()
		})
	}
}
