package conformance

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPromtoolAcceptsTheMetrics lets Prometheus' own linter read what the admin
// address exposes.
func TestPromtoolAcceptsTheMetrics(t *testing.T) {
	s, _ := behind(t)
	curl(t, true, s.url(query)).want(t, true)
	text := mustGet(t, client(t, false), "http://"+s.admin+"/stats/prometheus")
	if !strings.Contains(string(text), "quadnine_") {
		t.Fatalf("no metric quadnine_* in %d bytes: %.500s", len(text), text)
	}
	file := filepath.Join(t.TempDir(), "metrics")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	// promtool reads its standard input only; the shell's redirection is the way.
	p := tool(t, "sh", "-c", `exec "$0" check metrics <"$1"`, mustFind(t, "promtool"), file)
	if err := p.Wait(deadline(t, within)); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, p.Output())
	}
}
