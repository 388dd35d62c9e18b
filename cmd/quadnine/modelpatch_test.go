package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/quadnine/quadnine/examples/statsapp"
	"github.com/quadnine/quadnine/loader/delta"
)

// zstPatch makes a patch as zstd --patch-from does: a frame whose dictionary is the
// base.
func zstPatch(old, target []byte) ([]byte, error) {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderDictRaw(0, old), zstd.WithSingleSegment(true), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer func() { _ = e.Close() }()
	return e.EncodeAll(target, nil), nil
}

func zst(t *testing.T, old, target []byte) []byte {
	t.Helper()
	p, err := zstPatch(old, target)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestPatchIsDroppedAndAnswers: a patch that pack took becomes a version that gives
// the same number as its full file, one that lies costs itself, and no request
// fails meanwhile.
func TestPatchIsDroppedAndAnswers(t *testing.T) {
	dir, files := t.TempDir(), t.TempDir()
	s := newStand(t, standConfig{models: modelsConfig{dir: dir, store: t.TempDir()}})
	c := s.client(true)
	stat := func(metric string) float64 {
		r, err := s.app.Query(statsapp.Query{Tenant: "acme", Metric: metric, To: statsapp.MaxTime})
		if err != nil {
			t.Fatal(err)
		}
		return r.Value
	}
	ratio := stat("uv") / stat("pv")
	want := map[string]float64{"score@1": 2*ratio + 1, "score@2": 3*ratio + 5, "score@4": 7*ratio + 5}
	write := func(name string, b []byte) string {
		path := filepath.Join(files, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	// until asks until done, and checks every reply.
	until := func(done func(version string) bool) {
		t.Helper()
		for {
			value, version, a := s.score(c, "u")
			if a.status != http.StatusOK || math.Abs(value-want[version]) > 1e-12*math.Abs(value) {
				t.Fatalf("%d %v by %q, want %v (%s)", a.status, value, version, want[version], a.body)
			}
			if done(version) {
				return
			}
		}
	}
	dropVersion(t, dir, 1, weights{2, 1}, delta.Canary{})
	for version := ""; version != "score@1"; {
		_, version, _ = s.score(c, "u")
	}
	v1, v2 := weights{2, 1}.file(t), weights{3, 5}.file(t)
	eval, err := json.Marshal(&delta.Eval{
		Kind: delta.EvalRatio, Metric: "score",
		Input:   map[string]delta.Input{"uv": {Metric: "uv"}, "pv": {Metric: "pv"}},
		Weights: map[string]string{"scale": "scale", "bias": "bias"},
	})
	if err != nil {
		t.Fatal(err)
	}
	args := []string{
		"model", "pack", write("v2", v2), "--base", write("v1", v1), "--patch", write("p.zst", zst(t, v1, v2)), "--model", "score", "--version", "2",
		"--eval", write("eval.json", eval), "--canary-weight", "0", "-o", filepath.Join(dir, "v2"),
	}
	var out, errs bytes.Buffer
	if code := execute(t.Context(), args, &out, &errs); code != exitOK || !strings.Contains(out.String(), "zstd-patch: v2.zst") {
		t.Fatalf("pack: exit %d\n%s%s", code, &out, &errs)
	}
	until(func(version string) bool { return version == "score@2" })

	lie := delta.Pack{Manifest: delta.Manifest{Model: "score", Version: 3, SchemaVersion: 1, Canary: &delta.Canary{}}}
	if err := os.Mkdir(filepath.Join(dir, "v3"), 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(filepath.Join(dir, "v3"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	v3, v4 := weights{5, 5}.file(t), weights{7, 5}.file(t)
	files3 := []delta.PatchFile{{Role: delta.RoleZstdPatch, Bytes: bytes.NewReader(zst(t, v2, v4))}}
	if _, _, err := lie.Patches(t.Context(), root, 2, bytes.NewReader(v2), bytes.NewReader(v3), files3, false, false); err != nil {
		t.Fatal(err)
	}
	const why = "v3.zst: makes a version with root b3:"
	until(func(string) bool { return strings.Contains(s.admin("/models"), why) })
	dropVersion(t, dir, 4, weights{7, 5}, delta.Canary{})
	until(func(version string) bool { return version == "score@4" })

	page := s.admin("/stats/prometheus")
	if strings.Contains(page, "quadnine_model_patch_duration_seconds 0\n") || !strings.Contains(page, "\nquadnine_model_patch_duration_seconds ") {
		t.Errorf("no duration in\n%s", page)
	}
	for _, line := range []string{
		`quadnine_model_patches_total{result="applied"} 1`, `quadnine_model_patches_total{result="failed"} 1`, fmt.Sprint("quadnine_model_patch_made_bytes_total ", len(v2)),
	} {
		if !strings.Contains(page, line) {
			t.Errorf("no %s in\n%s", line, page)
		}
	}
}
