package captures

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// within bounds every wait. Nothing waits for it to pass.
const within = 30 * time.Second

// quadnine is the binary under test.
var quadnine string

func TestMain(m *testing.M) {
	flag.StringVar(&quadnine, "quadnine", "", "test this `binary` instead of building one")
	flag.Parse()
	os.Exit(run(m))
}

// run prepares, tests and cleans up; it returns the exit status.
func run(m *testing.M) int {
	if quadnine == "" {
		dir, err := os.MkdirTemp("", "quadnine-captures-")
		if err != nil {
			fmt.Fprintln(os.Stderr, "captures:", err)
			return 1
		}
		defer os.RemoveAll(dir)
		quadnine = filepath.Join(dir, "quadnine")
		cmd := exec.Command("go", "build", "-o", quadnine, "./cmd/quadnine")
		cmd.Dir = "../.."
		if msg, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "captures: build quadnine: %v\n%s", err, msg)
			return 1
		}
	}
	return m.Run()
}

// deadline returns a context that ends with the test or after within.
func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	t.Cleanup(cancel)
	return ctx
}

// until asks ok every 5 ms until it says yes; false when that takes too long.
func until(t *testing.T, ok func() bool) bool {
	t.Helper()
	ctx := deadline(t)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}
