package conformance

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/quadnine/quadnine/bench/load/echo"
	"github.com/quadnine/quadnine/bench/proc"
	"github.com/quadnine/quadnine/bench/rivals"
)

// bin holds the programs under test, built once.
var bin struct{ quadnine, statsapp, reverse, stats, interop string }

// tools are the programs that the tests start, the bench's rivals included.
var tools = append(rivals.Tools(), "curl", "nghttp", "h2spec", "prometheus", "promtool", "model-python", "versitygw", "skopeo", "oras", "docker-registry", "model-signing", "openssl")

func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == echo.ChildArg { // the rivals' backend
		fmt.Fprintln(os.Stderr, echo.Child(os.Args[2], os.Args[3]))
		os.Exit(1)
	}
	flag.StringVar(&bin.quadnine, "quadnine", "", "test this `binary` instead of building one")
	flag.Parse()
	os.Exit(run(m))
}

// run prepares, tests and cleans up; it returns the exit status.
func run(m *testing.M) int {
	if err := proc.FindAll(tools...); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		return 1
	}
	dir, err := os.MkdirTemp("", "quadnine-conformance-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	for _, b := range []struct {
		out              *string
		name, module, at string
	}{
		{&bin.quadnine, "quadnine", "..", "./cmd/quadnine"},
		{&bin.statsapp, "statsapp", "..", "./examples/statsapp/cmd/statsapp"},
		{&bin.reverse, "reverseproxy", "../bench", "./cmd/reverseproxy"},
		{&bin.stats, "stats", "../bench", "./cmd/stats"},
		{&bin.interop, "interop-client", ".", "google.golang.org/grpc/interop/client"},
	} {
		if *b.out != "" {
			continue
		}
		*b.out = filepath.Join(dir, b.name)
		cmd := exec.Command("go", "build", "-o", *b.out, b.at)
		cmd.Dir = b.module
		if msg, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "conformance: build %s: %v\n%s", b.name, err, msg)
			return 1
		}
	}
	return m.Run()
}

// soak returns the length of a loop: reduced, or full under QUADNINE_SOAK=1.
func soak(reduced, full int) int {
	if os.Getenv("QUADNINE_SOAK") == "1" {
		return full
	}
	return reduced
}
