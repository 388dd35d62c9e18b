package conformance

import (
	"os"
	"strings"
	"testing"

	"github.com/quadnine/quadnine/bench/proc"
	"github.com/quadnine/quadnine/bench/rivals"
)

// TestRivalsAnswer starts every proxy and server that the bench compares, through
// its adapter and in every mode: each passes a query on and the right body back. No
// timing.
func TestRivalsAnswer(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	at := rivals.Place{CPU: -1, Programs: rivals.Programs{Quadnine: bin.quadnine, Reverse: bin.reverse, Stats: bin.stats, Self: self}}
	if at.Certs, err = rivals.NewCerts(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if at.Programs.Drops, err = rivals.NewDrops(t.Context(), bin.quadnine, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []rivals.Mode{rivals.Plain, rivals.HTTP1, rivals.TLS} {
		at.Mode, at.Dir = mode, t.TempDir()
		to, err := rivals.StartBackend(deadline(t, within), at, rivals.Body(5000))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(to.Stop)
		for _, r := range rivals.All() {
			answers(t, string(mode)+" "+r.Name, r, at, to)
		}
	}
	for _, r := range rivals.Servers() {
		answers(t, r.Name, r, at, nil)
	}
}

// answers starts r and asks it once.
func answers(t *testing.T, name string, r rivals.Rival, at rivals.Place, to *rivals.Backend) {
	t.Helper()
	t.Run(strings.ReplaceAll(name, "/", " "), func(t *testing.T) {
		if r.Cannot[string(at.Mode)] != "" {
			return // and the table says why
		}
		at.Dir, at.To = t.TempDir(), to
		run, err := r.Start(deadline(t, within), at)
		if err != nil {
			t.Fatal(err)
		}
		run.Stop()
	})
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
