package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestExperimentsPage runs every command of docs/experiments.md, in its order, with
// the warm-up requests that it shows, against a sidecar that watches the drops.
func TestExperimentsPage(t *testing.T) {
	const page = "../../docs/experiments.md"
	commands := commandsOf(t, page)
	if len(commands) < 8 {
		t.Fatalf("found %d commands", len(commands))
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, warmup, ok := strings.Cut(string(text), "```json\n")
	warmup, _, ok2 := strings.Cut(warmup, "```")
	if !ok || !ok2 {
		t.Fatal("the page shows no warm-up requests")
	}
	dir := t.TempDir()
	drops := filepath.Join(dir, "drops")
	if err := os.Mkdir(drops, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"v1.safetensors": weights{2, 1}.file(t), "v2.safetensors": weights{3, 1}.file(t), "warmup.json": []byte(warmup),
		"eval.json": []byte(`{"kind": "ratio", "metric": "score", "input": {"uv": {"metric": "uv"}, "pv": {"metric": "pv"}}, "weights": {"scale": "scale", "bias": "bias"}}`),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s := newStand(t, standConfig{models: modelsConfig{dir: drops, store: t.TempDir()}})
	c := s.client(true)
	t.Chdir(dir)
	// What has come of a command before the next one makes sense.
	after := map[string]func(){
		"pack v1":          func() { s.becomes(1, "active") },
		"pack v2":          func() { s.becomes(2, "shadow") },
		"shadow score":     func() { s.becomes(2, "canary") },
		"experiment start": func() { s.ask(c, 40) },
		"experiment stop":  func() { s.becomes(2, "active") },
	}
	for _, cmd := range commands {
		words := shellWords(t, cmd.line)
		if words[0] != "quadnine" || words[1] != "model" {
			t.Fatalf("the test does not know how to run %q", cmd.line)
		}
		if words[2] != "pack" {
			words = append(words, "--admin", s.side.AdminAddr())
		}
		var out, errs bytes.Buffer
		if code := execute(t.Context(), words[1:], &out, &errs); code != exitOK {
			t.Fatalf("$ %s\nexit %d %s", cmd.line, code, errs.String())
		}
		t.Logf("$ %s\n%s", cmd.line, out.String())
		for prefix, wait := range after {
			if strings.HasPrefix(strings.Join(words[2:], " "), prefix) {
				wait()
			}
		}
	}
}

// ask asks once for each of n users.
func (s *stand) ask(c *http.Client, n int) {
	s.t.Helper()
	for i := range n {
		if _, version, a := s.score(c, fmt.Sprint("user-", i)); a.status != http.StatusOK || version == "" {
			s.t.Fatalf("%d by %q", a.status, version)
		}
	}
}
