package proc

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// CPU returns the processor time (user and system) that the program and all its
// living children have used, threads that have ended included.
//
// It reads each process's CPU clock, which counts nanoseconds; the utime and
// stime of /proc/<pid>/stat count ticks of 10 ms, a tenth of what a TCP proxy
// uses for 200,000 requests.
func (p *Proc) CPU() (time.Duration, error) {
	pids := members(p.PID())
	if len(pids) == 0 {
		return 0, fmt.Errorf("proc: cpu of %s: it has ended\n%s", p.Name, p.Output())
	}
	var sum time.Duration
	for _, pid := range pids {
		var ts unix.Timespec
		// clock_getcpuclockid(3): ~pid<<3, and 2 for the scheduler's precise count.
		if err := unix.ClockGettime(int32(^pid<<3|2), &ts); err != nil {
			return 0, fmt.Errorf("proc: cpu of %s (pid %d): %w", p.Name, pid, err)
		}
		sum += time.Duration(ts.Nano())
	}
	return sum, nil
}

// RSS returns the resident memory of the program and its children in bytes.
func (p *Proc) RSS() (int64, error) {
	var pages int64
	for _, pid := range members(p.PID()) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		if err != nil {
			return 0, fmt.Errorf("proc: memory of %s: %w", p.Name, err)
		}
		f := strings.Fields(string(b)) // size resident shared …, in pages
		if len(f) < 2 {
			return 0, fmt.Errorf("proc: memory of %s: statm reads %q", p.Name, b)
		}
		n, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("proc: memory of %s: %w", p.Name, err)
		}
		pages += n
	}
	return pages * int64(os.Getpagesize()), nil
}

// Anon returns the private, anonymous part of the resident memory (RssAnon) of the
// program and its children in bytes: what is not a mapped file.
func (p *Proc) Anon() (int64, error) {
	var sum int64
	for _, pid := range members(p.PID()) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return 0, fmt.Errorf("proc: memory of %s: %w", p.Name, err)
		}
		_, rest, _ := strings.Cut(string(b), "\nRssAnon:")
		f := strings.Fields(rest) // "1234 kB …"
		if len(f) < 2 || f[1] != "kB" {
			return 0, fmt.Errorf("proc: memory of %s (pid %d): no RssAnon in its status", p.Name, pid)
		}
		n, err := strconv.ParseInt(f[0], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("proc: memory of %s: %w", p.Name, err)
		}
		sum += n << 10
	}
	return sum, nil
}

// members returns the processes of group pgid that are alive.
func members(pgid int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // ended while we looked
		}
		// pid (comm) state ppid pgrp …: comm may hold spaces, so cut behind it.
		_, rest, ok := strings.Cut(string(b), ") ")
		f := strings.Fields(rest)
		if ok && len(f) > 2 && f[0] != "Z" && f[2] == strconv.Itoa(pgid) {
			pids = append(pids, pid)
		}
	}
	return pids
}
