package judge

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/quadnine/quadnine/bench/proc"
)

// within bounds every start and every wait. It is generous because the machine
// may be busy; nothing waits for it to pass.
const within = 30 * time.Second

// bin holds the programs: the proxy under test and the server that drives it.
var bin struct{ proxy, gateway string }

// envoy puts the real Envoy in quadnine's place.
var envoy bool

func TestMain(m *testing.M) {
	flag.StringVar(&bin.proxy, "quadnine", "", "test this `binary` instead of building one")
	flag.BoolVar(&envoy, "envoy", false, "run the real Envoy in quadnine's place")
	flag.Parse()
	if os.Getenv("QUADNINE_JUDGE") != "1" {
		fmt.Println("judge: nothing was run: it has a target of its own, make judge")
		return
	}
	os.Exit(run(m))
}

// run prepares, tests and cleans up; it returns the exit status.
func run(m *testing.M) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "judge:", err)
		return 1
	}
	var err error
	if bin.gateway, err = proc.Find("envoy-gateway"); err != nil {
		return fail(fmt.Errorf("%w (make judge installs envoy-gateway)", proc.ErrMissing))
	}
	if envoy {
		if bin.proxy, err = proc.Find("envoy"); err != nil {
			return fail(err)
		}
	}
	if bin.proxy != "" {
		if bin.proxy, err = filepath.Abs(bin.proxy); err != nil {
			return fail(err)
		}
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "quadnine-judge-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	bin.proxy = filepath.Join(dir, "quadnine")
	cmd := exec.CommandContext(context.Background(), "go", "build", "-o", bin.proxy, "./cmd/quadnine")
	cmd.Dir = "../.."
	if msg, err := cmd.CombinedOutput(); err != nil {
		return fail(errors.Join(fmt.Errorf("build quadnine: %w", err), errors.New(string(msg))))
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
