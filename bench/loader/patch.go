package loader

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/quadnine/quadnine/bench/proc"
	"github.com/quadnine/quadnine/loader/delta"
)

// bsdiffVersion is what `make deps` installs.
const bsdiffVersion = "1.3.2"

// Tools are the programs that a comparison needs.
func Tools() []string { return []string{"zstd", "python3"} }

// bsdiffDir returns the folder of the Python package.
func bsdiffDir() (string, error) {
	cache, err := proc.CacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "bsdiff4-"+bsdiffVersion)
	if _, err := os.Stat(dir); err != nil {
		return "", fmt.Errorf("%w: Python's bsdiff4 %s; install it with: make deps", proc.ErrMissing, bsdiffVersion)
	}
	return dir, nil
}

// bsdiffScript measures the library's call only: not Python's start.
const bsdiffScript = `
import json, sys, time
import bsdiff4
call = {"diff": bsdiff4.file_diff, "apply": bsdiff4.file_patch}[sys.argv[1]]
wall, cpu = time.perf_counter_ns(), time.process_time_ns()
call(*sys.argv[2:])
print(json.dumps({"wall_ns": time.perf_counter_ns() - wall, "cpu_ns": time.process_time_ns() - cpu}))
`

// bsdiff calls bsdiff4 in a process of its own.
func bsdiff(ctx context.Context, dir, what string, files ...string) (s sample, err error) {
	python, err := proc.Find("python3")
	if err != nil {
		return s, err
	}
	cmd := exec.CommandContext(ctx, python, append([]string{"-c", bsdiffScript, what}, files...)...)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return s, fmt.Errorf("bsdiff4 %s: %w", what, err)
	}
	var c cost
	if err := json.Unmarshal(out, &c); err != nil {
		return s, fmt.Errorf("bsdiff4 %s printed %q: %w", what, out, err)
	}
	return sample{Steps: map[string]cost{stepAll: c}, Private: peak(cmd)}, nil
}

// zstd runs zstd.
func zstd(ctx context.Context, args ...string) (s sample, err error) {
	name, err := proc.Find("zstd")
	if err != nil {
		return s, err
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = os.Stderr
	began := time.Now()
	if err := cmd.Run(); err != nil {
		return s, fmt.Errorf("zstd %v: %w", args, err)
	}
	c := cost{Wall: time.Since(began), CPU: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	return sample{Steps: map[string]cost{stepAll: c}, Private: peak(cmd)}, nil
}

// peak is the most memory that an ended command held, in bytes.
func peak(cmd *exec.Cmd) int64 {
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		return u.Maxrss << 10
	}
	return 0
}

// sameFile reports whether two files hold the same bytes: a patch that built
// something else must not get a row.
func sameFile(a, b string) error {
	ra, err := rootOf(a)
	if err != nil {
		return err
	}
	rb, err := rootOf(b)
	if err == nil && ra != rb {
		err = fmt.Errorf("%s is not what %s is", a, b)
	}
	return err
}

func rootOf(name string) (root delta.Root, err error) {
	b, end, err := open(name)
	if err != nil {
		return root, err
	}
	defer end()
	return delta.RootOf(b, b.Size())
}
