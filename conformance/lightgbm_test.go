package conformance

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestLightGBM trains models with the real LightGBM, imports their text, and holds
// what `quadnine model eval` computes to what LightGBM predicts: equal, but for the
// exp of the C library, which may differ from Go's in the last places.
func TestLightGBM(t *testing.T) {
	dir := t.TempDir()
	p := tool(t, "model-python", filepath.Join("testdata", "forest.py"), dir)
	if err := p.Wait(deadline(t, 4*within)); err != nil {
		t.Fatalf("forest.py: %v\n%s", err, p.Output())
	}
	kinds := strings.Fields(p.Output())
	if len(kinds) < 6 {
		t.Fatalf("forest.py trained %v", kinds)
	}
	for _, kind := range kinds {
		at := func(name string) string { return filepath.Join(dir, kind+name) }
		model(t, "import-lightgbm", at(".txt"), "-o", at(".safetensors"), "--eval", at(".json"), "--metric", "score")
		optional(t, at(".json"))
		eval := start(t, bin.quadnine, []string{"model", "eval", at(".safetensors"), filepath.Join(dir, "rows.jsonl"), "--eval", at(".json")})
		if err := eval.Wait(deadline(t, within)); err != nil {
			t.Fatalf("%s: %v\n%s", kind, err, eval.Output())
		}
		text, err := os.ReadFile(at(".want"))
		if err != nil {
			t.Fatal(err)
		}
		want, got := strings.Fields(string(text)), strings.Fields(eval.Output())
		if len(want) < 500 || len(want) != len(got) {
			t.Fatalf("%s: %d answers, LightGBM has %d", kind, len(got), len(want))
		}
		exact := kind != "binary" && kind != "tweedie"
		differ := 0
		for i := range want {
			w, err := strconv.ParseFloat(want[i], 64)
			g, err2 := strconv.ParseFloat(got[i], 64)
			if err != nil || err2 != nil || exact && w != g || math.Abs(w-g) > 1e-15*math.Abs(w) {
				if differ++; differ < 4 {
					t.Errorf("%s, row %d: %s, LightGBM says %s", kind, i, got[i], want[i])
				}
			}
		}
		if differ > 0 {
			t.Errorf("%s: %d of %d rows differ", kind, differ, len(want))
		}
	}
}

// optional lets every input of an eval object be missing, as LightGBM does.
func optional(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var e map[string]any
	if err := json.Unmarshal(text, &e); err != nil {
		t.Fatal(err)
	}
	inputs, ok := e["input"].(map[string]any)
	if !ok {
		t.Fatalf("no inputs in %s", text)
	}
	rules := make(map[string]any, len(inputs))
	for name := range inputs {
		rules[name] = map[string]any{"type": "number", "required": false}
	}
	e["schema"] = rules
	if text, err = json.Marshal(e); err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
