package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What `model eval` cannot compute it says of which line.
func TestModelEvalNamesTheLine(t *testing.T) {
	dir := t.TempDir()
	file := put(t, dir, "line.safetensors", numbers(t, map[string][]float64{"w": {2}, "b": {1}}))
	eval := put(t, dir, "eval.json", []byte(strings.TrimSuffix(guessByLine, "}")+`, "schema": {"x": {"type": "number", "max": 10}}}`))
	for rows, want := range map[string]string{
		"{\"x\": 1}\n\n{\"x\": 11}\n": "line 3: x: it is 11: want at most 10",
		"{\"x\": 1}\n[]\n":            "line 2: ",
		"{}\n":                        "line 1: x: it is missing",
		"{\"x\": \"1\"}":              `line 1: x: it is "1": want a number`,
	} {
		var out, errs bytes.Buffer
		if code := execute(t.Context(), []string{"model", "eval", file, put(t, dir, "rows", []byte(rows)), "--eval", eval}, &out, &errs); code == exitOK || !strings.Contains(errs.String(), want) {
			t.Errorf("%q: exit %d %q, want %q", rows, code, errs.String(), want)
		}
	}
	if got := runCommand(t, "model", "eval", file, put(t, dir, "rows", []byte("{\"x\": 1}\n{\"x\": 2.5}")), "--eval", eval); got != "3\n6\n" {
		t.Errorf("printed %q", got)
	}
}

// A module is given as many rows in a call as its limits leave room for, however
// many there are.
func TestModelEvalGivesAModuleRowsInParts(t *testing.T) {
	dir := t.TempDir()
	weights := put(t, dir, "weights.safetensors", numbers(t, map[string][]float64{"scale": {100}, "bias": {1}}))
	file, eval := filepath.Join(dir, "guest.safetensors"), filepath.Join(dir, "guest.json")
	runCommand(t, "model", "import-wasm", "../../examples/wasm/ratio.wasm", "--weights", weights, "--inputs", "uv,pv", "-o", file, "--eval", eval)
	text, err := os.ReadFile(eval)
	if err != nil {
		t.Fatal(err)
	}
	small := strings.NewReplacer(`"memory_pages": 64`, `"memory_pages": 16`, `"timeout_ms": 100`, `"timeout_ms": 1000`).Replace(string(text))
	const rows = 70_000 // of 24 bytes, more than 16 pages
	out := runCommand(t, "model", "eval", file, put(t, dir, "rows", []byte(strings.Repeat(`{"uv": 2, "pv": 8}`+"\n", rows))), "--eval", put(t, dir, "small.json", []byte(small)))
	if small == string(text) || out != strings.Repeat("26\n", rows) {
		t.Errorf("printed %d bytes, %.40q", len(out), out)
	}
}

// A weight that is called as the module is would take its place.
func TestImportWasmKeepsTheModulesName(t *testing.T) {
	dir := t.TempDir()
	weights := put(t, dir, "weights.safetensors", numbers(t, map[string][]float64{"module": {100}}))
	var out, errs bytes.Buffer
	args := []string{"model", "import-wasm", "../../examples/wasm/ratio.wasm", "--weights", weights, "--inputs", "uv,pv", "-o", filepath.Join(dir, "guest.safetensors")}
	if code := execute(t.Context(), args, &out, &errs); code == exitOK || !strings.Contains(errs.String(), "tensor module: that is what the module itself is called") {
		t.Errorf("exit %d %q", code, errs.String())
	}
}
