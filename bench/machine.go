package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// errOneCPU says that the machine cannot keep proxy and client apart.
var errOneCPU = errors.New("two CPUs are needed: one for the proxy, one for client and backend")

// twoCPUs returns the first two CPUs this process may run on.
func twoCPUs() (first, second int, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return 0, 0, fmt.Errorf("which CPUs may be used: %w", err)
	}
	first = -1
	for cpu := range 64 * len(set) { // an array of 64-bit words
		switch {
		case !set.IsSet(cpu):
		case first < 0:
			first = cpu
		default:
			return first, cpu, nil
		}
	}
	return 0, 0, errOneCPU
}

// machine describes where the numbers come from: CPU model, count, Go.
func machine() string {
	model := runtime.GOARCH
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(v)
				break
			}
		}
	}
	return fmt.Sprintf("%s, %d CPUs, %s", model, runtime.NumCPU(), runtime.Version())
}
