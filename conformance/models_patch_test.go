package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/quadnine/quadnine/bench/proc"
)

// patchCommands returns the commands that docs/models.md shows for patches.
func patchCommands(t *testing.T) []string {
	t.Helper()
	page := string(read(t, filepath.Join("..", "docs", "models.md")))
	_, section, _ := strings.Cut(page, "\n## Patches\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var out []string
	for _, line := range regexp.MustCompile(`(?m)^\$ (.*)$`).FindAllStringSubmatch(section, -1) {
		out = append(out, line[1])
	}
	if len(out) < 4 {
		t.Fatalf("found %d commands about patches in docs/models.md", len(out))
	}
	return out
}

// runShown runs a command of the documentation in dir, as a shell does.
func runShown(t *testing.T, dir, line string) {
	t.Helper()
	cache, err := proc.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	shell, err := proc.Find("sh")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Dir(bin.quadnine)
	script := fmt.Sprintf("cd '%s' && PATH='%s':$PATH PYTHONPATH='%s' && export PATH PYTHONPATH && %s", dir, path, filepath.Join(cache, "bsdiff4-1.3.2"), line)
	p := start(t, shell, []string{"-c", script})
	if err := p.Wait(deadline(t, within)); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, p.Output())
	}
}

// TestModelPatches ships two versions as the documentation says: as a patch by
// Python's bsdiff4, and as one by zstd --patch-from. Both become active under load
// and give numpy's numbers.
func TestModelPatches(t *testing.T) {
	m := withModels(t, 3, 0)
	m.first(t)
	w, loaded := askScores(t, m.sidecar, m.want), loadScores(t, m.sidecar)
	if err := os.Mkdir(filepath.Join(m.dir, "drops"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, line := range patchCommands(t) {
		runShown(t, m.dir, line)
	}
	for n := 2; n <= 3; n++ {
		packed := filepath.Join(m.dir, "drops", fmt.Sprint("v", n))
		if whole, patch := size(t, m.file(n)), size(t, packed); patch > whole/4 {
			t.Errorf("the drop of version %d has %d bytes, the version %d", n, patch, whole)
		}
		if err := os.Rename(packed, m.packed(n)); err != nil {
			t.Fatal(err)
		}
		m.drop(t, n)
		w.await(t, m.sidecar, fmt.Sprint("activation of version ", n), func() bool { return m.models(w.ctx).state(n) == "active" })
		before := w.count(n)
		w.await(t, m.sidecar, fmt.Sprint("answers by version ", n), func() bool { return w.count(n) > before+100 })
	}
	loaded()
	w.end(t)
}
