package differential

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/quadnine/quadnine/bench/proc"
)

// within bounds every start and every single exchange. It is generous because
// the machine may be busy; nothing waits for it to pass.
const within = 30 * time.Second

// bin holds the programs under test.
var bin struct{ quadnine, envoy string }

// self puts a second Envoy in quadnine's place.
var self bool

func TestMain(m *testing.M) {
	flag.StringVar(&bin.quadnine, "quadnine", "", "test this `binary` instead of building one")
	flag.BoolVar(&self, "self", false, "compare Envoy with itself")
	flag.Parse()
	os.Exit(run(m))
}

// run prepares, tests and cleans up; it returns the exit status.
func run(m *testing.M) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "differential:", err)
		return 1
	}
	var err error
	if bin.envoy, err = proc.Find("envoy"); err != nil {
		return fail(err)
	}
	if err := allowed.load(); err != nil {
		return fail(err)
	}
	dir, err := os.MkdirTemp("", "quadnine-differential-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	if bin.quadnine == "" && !self {
		bin.quadnine = filepath.Join(dir, "quadnine")
		cmd := exec.Command("go", "build", "-o", bin.quadnine, "./cmd/quadnine")
		cmd.Dir = "../.."
		if msg, err := cmd.CombinedOutput(); err != nil {
			return fail(fmt.Errorf("build quadnine: %w\n%s", err, msg))
		}
	}
	status := m.Run()
	whole := flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == ""
	if whole && !self {
		if gone := allowed.unused(); len(gone) > 0 {
			return fail(fmt.Errorf("differences.txt lists what no longer differs: delete\n%s", gone))
		}
	}
	return status
}

// soak returns the length of a loop: reduced, or full under QUADNINE_SOAK=1.
func soak(reduced, full int) int {
	if os.Getenv("QUADNINE_SOAK") == "1" {
		return full
	}
	return reduced
}
