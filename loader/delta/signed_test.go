package delta

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// allFields is what a manifest can say beside its files.
func allFields() Manifest {
	return Manifest{
		Model: "score", Version: 3, SchemaVersion: 2, RequiredEnv: []string{"REGION", "ZONE"},
		Eval: &Eval{
			Kind: EvalWasm, Metric: "score", Input: map[string]Input{"uv": {Metric: "uv", Field: "p95"}, "pv": {Metric: "pv"}},
			Order: []string{"uv", "pv"}, Rows: "rows", Weights: map[string]string{"scale": "a", "bias": "b"},
			Schema: map[string]Rule{"uv": {Type: RuleNumber, Default: new(2.5), Min: new(0.5), Max: new(9.0), Categories: []string{"a", "b"}}},
			Limits: &Limits{MemoryPages: 7, TimeoutMS: 30},
		},
		Canary: &Canary{Weight: 2.5, PromoteAfter: 90 * time.Second, MinRequests: 7},
		// shadow and warmup say nothing without eval: TestStudiesAreSigned changes them.
	}
}

// edits yields every way to change one member or element of the JSON value v,
// or to take it away, by its path. The changes last until the next one.
func edits(path string, v any, put func(any), drop func(), yield func(path string)) {
	if drop != nil {
		drop()
		yield(path + " left out")
		put(v)
	}
	switch v := v.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			edits(path+"."+name, v[name], func(x any) { v[name] = x }, func() { delete(v, name) }, yield)
		}
	case []any:
		for i := range v {
			edits(path+"["+strconv.Itoa(i)+"]", v[i], func(x any) { v[i] = x }, nil, yield)
		}
		put(v[:len(v)-1])
		yield(path + " shortened")
		slices.Reverse(v)
		put(v)
		yield(path + " reversed")
		slices.Reverse(v)
		put(v)
	default:
		put(other(path, v))
		yield(path)
		put(v)
	}
}

// other returns a value unlike v that may stand where v does.
func other(path string, v any) any {
	if n, ok := v.(json.Number); ok {
		return json.Number(strings.Replace("1"+n.String(), "12.5", "3.5", 1))
	}
	if b, ok := v.(bool); ok {
		return !b
	}
	s, _ := v.(string)
	switch {
	case strings.HasSuffix(path, ".type"):
		return RuleInteger
	case strings.HasSuffix(path, ".promote_after"):
		return "91s"
	case strings.HasSuffix(path, ".kind"):
		return EvalWeightedDifference
	case strings.HasPrefix(s, "b3:"), strings.HasSuffix(path, ".sha256"):
		return s[:len(s)-1] + map[bool]string{true: "1", false: "0"}[strings.HasSuffix(s, "0")]
	}
	return s + "x"
}

// A drop of which one field of the manifest was changed, or left out, is refused,
// for the signature where nothing else can tell.
func TestEveryFieldIsSigned(t *testing.T) {
	key := newKey(t)
	v1, v2 := twoVersions()
	dir := t.TempDir()
	p := Pack{Manifest: allFields(), Key: key}
	if _, _, err := p.Delta(t.Context(), openRoot(t, dir), 1, bytes.NewReader(v1), bytes.NewReader(v2), true); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, ManifestName)
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var tree map[string]any
	if err := dec.Decode(&tree); err != nil {
		t.Fatal(err)
	}
	write := func() {
		t.Helper()
		b, err := json.Marshal(tree)
		if err == nil {
			err = os.WriteFile(name, b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write()
	if err := verifyDrop(t, dir, key.Public()); err != nil {
		t.Fatalf("other spaces and order: %v", err) // the form is what is signed
	}
	elsewhere := []string{"target_root", "base", "base.root", "files", "signature", "eval.kind", "eval.input.uv"} // other checks may come first
	tried, bySignature := 0, 0
	for _, top := range slices.Sorted(maps.Keys(tree)) {
		edits(top, tree[top], func(x any) { tree[top] = x }, func() { delete(tree, top) }, func(path string) {
			tried++
			write()
			err := verifyDrop(t, dir, key.Public())
			if err == nil {
				t.Errorf("%s: taken", path)
				return
			}
			if strings.Contains(err.Error(), "signature: bad signature: key ") {
				bySignature++
				return
			}
			field, _, _ := strings.Cut(path, " ")
			required := strings.HasSuffix(path, " left out") && strings.Contains(err.Error(), field+": is missing")
			if !required && !slices.ContainsFunc(elsewhere, func(e string) bool { return strings.HasPrefix(field, e) }) {
				t.Errorf("%s: %v, want a bad signature", path, err)
			}
		})
	}
	if tried < 60 || bySignature < 30 {
		t.Errorf("%d changes tried, %d noticed by the signature", tried, bySignature)
	}
	write()
	if err := verifyDrop(t, dir, key.Public()); err != nil {
		t.Errorf("with everything as it was: %v", err)
	}
}

// What was not there cannot be added.
func TestNothingIsAddedToASignedManifest(t *testing.T) {
	key := newKey(t)
	for _, add := range []string{
		`"canary": {}`, `"canary": {"weight": 0}`, `"required_env": ["PATH"]`,
		`"eval": {"kind": "ratio", "metric": "score", "input": {"uv": {"metric": "uv"}}, "weights": {}}`,
	} {
		dir, _ := packed(t, key)
		name := filepath.Join(dir, ManifestName)
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, bytes.Replace(text, []byte("{"), []byte("{"+add+","), 1), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := verifyDrop(t, dir, key.Public()); err == nil || !strings.Contains(err.Error(), "signature: bad signature") {
			t.Errorf("%s: %v, want a bad signature", add, err)
		}
	}
}
