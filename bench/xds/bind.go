package xds

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// bind binds every thread of this process to one CPU; threads that start later
// inherit it. free undoes it.
func bind(cpu int) (free func(), err error) {
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return nil, fmt.Errorf("which CPUs may be used: %w", err)
	}
	one.Set(cpu)
	if err := bindThreads(&one); err != nil {
		return nil, err
	}
	return func() { _ = bindThreads(&before) }, nil // it was so before
}

// bindThreads binds every thread. It runs twice: a thread that was started by
// one not yet bound is found the second time.
func bindThreads(to *unix.CPUSet) error {
	for range 2 {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("threads of this process: %w", err)
		}
		for _, t := range threads {
			id, err := strconv.Atoi(t.Name())
			if err != nil {
				continue
			}
			if err := unix.SchedSetaffinity(id, to); err != nil && err != unix.ESRCH {
				return fmt.Errorf("bind thread %d: %w", id, err)
			}
		}
	}
	return nil
}
