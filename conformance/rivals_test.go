package conformance

import (
	"strings"
	"testing"

	"github.com/quadnine/quadnine/bench/proc"
	"github.com/quadnine/quadnine/bench/rivals"
)

// TestRivalsAnswer starts every proxy that the bench compares, through its
// adapter: each passes a query on and the right body back. No timing.
func TestRivalsAnswer(t *testing.T) {
	b, err := rivals.StartBackend(deadline(t, within), t.TempDir(), -1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Stop)
	for _, r := range rivals.All() {
		t.Run(strings.ReplaceAll(r.Name, "/", " "), func(t *testing.T) {
			run, err := r.Start(deadline(t, within), rivals.Place{
				Dir: t.TempDir(), Upstream: b.H2, HTTP1: b.H1, CPU: -1, Quadnine: bin.quadnine, Reverse: bin.reverse,
			})
			if err != nil {
				t.Fatal(err)
			}
			run.Stop()
		})
	}
}

// mustFind returns the path of an installed tool.
func mustFind(t *testing.T, name string) string {
	t.Helper()
	path, err := proc.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}
