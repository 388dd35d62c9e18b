package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/quadnine/quadnine/loader/delta"
)

// The commands of docs/models.md about disk space print what it shows.
func TestDiskSpaceCommands(t *testing.T) {
	commands := commandsOf(t, "../../docs/models.md")
	t.Chdir(t.TempDir())
	if err := os.MkdirAll("store/models", 0o755); err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, c := range commands {
		args, ok := strings.CutPrefix(c.line, "quadnine model gc ")
		if !ok {
			continue
		}
		ran++
		code, out := runModel(t, append([]string{"gc"}, strings.Fields(args)...)...)
		if want := strings.Join(c.shown, "\n") + "\n"; code != exitOK || out != want {
			t.Errorf("$ %s\n%s (exit %d), want %s", c.line, out, code, want)
		}
	}
	if ran != 2 {
		t.Errorf("%d commands", ran)
	}
}

// A running sidecar tells what its store holds and removes what nothing needs; its
// directory is refused to others meanwhile; a drop over the quota is put aside.
func TestModelGC(t *testing.T) {
	dir, store := t.TempDir(), t.TempDir()
	s := newStand(t, standConfig{models: modelsConfig{dir: dir, store: store, quotas: []string{"1MiB", "score=64KiB"}}})
	dropVersion(t, dir, 1, weights{2, 1}, delta.Canary{})
	for !s.modelState(1, "active") {
		runtime.Gosched()
	}
	stray := filepath.Join(store, "models", "score", "9")
	if err := os.CopyFS(stray, os.DirFS(filepath.Join(store, "models", "score", "1"))); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		says string
		left bool
	}{
		{[]string{"gc", "--dry-run"}, "bytes would be removed; the store's versions take ", true},
		{[]string{"gc"}, " of 1048576", false},
		{[]string{"gc"}, "0 bytes were removed", false},
	} {
		code, out, errs := s.model(c.args...)
		_, err := os.Stat(stray)
		if code != exitOK || !strings.Contains(out, c.says) || (err == nil) != c.left {
			t.Errorf("%v: exit %d %q %q; is it there: %v", c.args, code, out, errs, err)
		}
		if c.left && !strings.Contains(out, "models/score/9 ") {
			t.Errorf("%v lists %q", c.args, out)
		}
	}
	if code, out := runModel(t, "gc", store); code != exitFailure || !strings.Contains(out, "used by another process") || !strings.Contains(out, "--admin") {
		t.Errorf("a store in use: exit %d %s", code, out)
	}
	if code, out := runModel(t, "gc", store, "--admin", s.side.AdminAddr()); code != exitUsage {
		t.Errorf("both: exit %d %s", code, out)
	}

	packTo(t, dir, 2, 100<<10)
	var list modelList
	for done := false; !done; runtime.Gosched() {
		_, body, err := adminAddr(s.side.AdminAddr()).ask(t.Context(), http.MethodGet, "/models?format=json")
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(body, &list); err != nil {
			t.Fatal(err)
		}
		done = len(list.Models) == 1 && len(list.Models[0].Quarantined) == 1 && list.Models[0].Versions[0].Durable
	}
	m := list.Models[0]
	if why := m.Quarantined[0].Reason; !strings.Contains(why, "of the 65536 that it may: over the store's quota by ") {
		t.Errorf("quarantined for %q", why)
	}
	if m.Store == nil || m.Store.Used == 0 || m.Store.Limit != 64<<10 || m.Mappings == nil || m.Mappings.Used == 0 || m.Mappings.Limit == 0 {
		t.Errorf("store %+v, mappings %+v", m.Store, m.Mappings)
	}
	_, text, err := adminAddr(s.side.AdminAddr()).ask(t.Context(), http.MethodGet, "/models")
	if err != nil || !strings.Contains(string(text), ", durable\n") || !strings.Contains(string(text), "  store "+m.Store.String()+" bytes; mappings of all models ") {
		t.Errorf("%v: %s", err, text)
	}
	_, metrics, err := adminAddr(s.side.AdminAddr()).ask(t.Context(), http.MethodGet, "/stats/prometheus")
	if err != nil || !strings.Contains(string(metrics), `quadnine_model_store_used_bytes{model="score"} `) || !strings.Contains(string(metrics), "quadnine_model_store_quota_bytes 1.048576e+06") || !strings.Contains(string(metrics), "quadnine_model_mappings ") {
		t.Errorf("%v: %s", err, metrics)
	}
}

// packTo drops a version whose file has so many bytes of another tensor.
func packTo(t *testing.T, dir string, number uint64, n int) {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	if err := root.Mkdir("large", 0o755); err != nil {
		t.Fatal(err)
	}
	drop, err := root.OpenRoot("large")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = drop.Close() }()
	p := &delta.Pack{Manifest: delta.Manifest{Model: "score", Version: number, SchemaVersion: 1}}
	head := fmt.Sprintf(`{"large":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}`, n, n)
	file := append(binary.LittleEndian.AppendUint64(nil, uint64(len(head))), head...)
	if _, err := p.Full(t.Context(), drop, bytes.NewReader(append(file, make([]byte, n)...))); err != nil {
		t.Fatal(err)
	}
}

func TestQuotaFlag(t *testing.T) {
	c := modelsConfig{quotas: []string{"score=5GiB", "20GiB", "rank=1024"}}
	if all, models, err := c.quota(); err != nil || all != 20<<30 || models["score"] != 5<<30 || models["rank"] != 1024 {
		t.Errorf("%d %v %v", all, models, err)
	}
	for _, bad := range [][]string{{"0"}, {"much"}, {"1GiB", "2GiB"}, {"a=1", "a=2"}, {"=5"}, {"a=-1"}} {
		c := modelsConfig{quotas: bad}
		if _, _, err := c.quota(); err == nil || !strings.Contains(err.Error(), "--model-quota: ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// runModel runs a command of `quadnine model` and returns all that it prints.
func runModel(t *testing.T, args ...string) (code int, printed string) {
	t.Helper()
	var out bytes.Buffer
	code = execute(t.Context(), append([]string{"model"}, args...), &out, &out)
	return code, out.String()
}
