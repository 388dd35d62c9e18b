package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quadnine/quadnine/bench/proc"
)

// TestPythonComputesTheSameFromSharedMemory lets the example in Python map what
// the sidecar maps: for each version its number is numpy's, and the one that the
// sidecar answers, while versions come and go.
func TestPythonComputesTheSameFromSharedMemory(t *testing.T) {
	const versions = 3
	m := withModels(t, versions, 0)
	dir, err := os.MkdirTemp("", "shared") //nolint:usetesting // short: a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "models.sock")
	m.sidecar = startSidecar(t, nil, "--upstream", "http://"+m.upstream, "--models", m.watched, "--model-store", t.TempDir(), "--model-share", socket)
	m.first(t)

	example := filepath.Join("..", "examples", "shared-python")
	args := []string{filepath.Join("testdata", "shared.py"), example, socket, m.metric(t, "uv"), m.metric(t, "pv")}
	numpy, plain := tool(t, "model-python", args...), tool(t, "model-python", append(args, "plain")...)
	ctx := deadline(t, within)
	for n := 1; n <= versions; n++ {
		if n > 1 {
			m.pack(t, n, "--canary-weight", "0")
			m.drop(t, n)
		}
		for name, p := range map[string]*proc.Proc{"numpy": numpy, "without numpy": plain} {
			var number int
			var value float64
			last := func() bool {
				lines := strings.Split(p.Output(), "\n")
				_, err := fmt.Sscan(lines[max(len(lines)-2, 0)], &number, &value) // behind it nothing but the line's end
				return err == nil && number == n
			}
			if !until(ctx, last) {
				t.Fatalf("%s: no version %d:\n%s", name, n, p.Output())
			}
			if value != m.want[modelName(n)] {
				t.Errorf("%s: version %d gives %v, want %v", name, n, value, m.want[modelName(n)])
			}
		}
		r, err := askScore(ctx, client(t, true), m.url(score), "python")
		if err != nil || r.model != modelName(n) || r.value != m.want[modelName(n)] {
			t.Errorf("version %d: the sidecar answers %v by %q (%v), Python %v", n, r.value, r.model, err, m.want[modelName(n)])
		}
	}
}

func TestPythonExampleIsShort(t *testing.T) {
	text := string(read(t, filepath.Join("..", "examples", "shared-python", "quadnine_shared.py")))
	if n := strings.Count(text, "\n"); n > 200 {
		t.Errorf("the example has %d lines, want at most 200", n)
	}
}
