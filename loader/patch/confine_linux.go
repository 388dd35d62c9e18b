package patch

import (
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

const rssUnit = 1 << 10 // ru_maxrss counts KiB here

// attributes make the child die with the thread that runs it.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// confine sets the limits of a child that waits for its job, and makes it the
// first that the kernel kills for want of memory.
//
// Private memory is what counts (RLIMIT_DATA, which takes private writable
// mappings in since Linux 4.7): files are mapped at will, and of the address space
// that RLIMIT_AS counts the Go runtime reserves far more than it uses.
func (c *Child) confine(pid int, j *Job, h *Header) error {
	limit := func(what string, resource int, n uint64) error {
		l := unix.Rlimit{Cur: n, Max: n}
		if err := unix.Prlimit(pid, resource, &l, nil); err != nil {
			return fmt.Errorf("limit its %s to %d bytes: %w: does a lower limit hold for this process (ulimit -H)?", what, n, err)
		}
		return nil
	}
	if c.Memory > 0 {
		if err := limit("memory", unix.RLIMIT_DATA, uint64(c.Memory)); err != nil {
			return err
		}
	}
	var old int64
	for _, s := range j.Base {
		old += s.N
	}
	// Of a delta, table and padding come to the payload, which is less than a page
	// for each page of the target.
	if err := limit("files", unix.RLIMIT_FSIZE, uint64(max(old, 2*h.TargetSize)+64<<20)); err != nil {
		return err
	}
	if err := limit("core file", unix.RLIMIT_CORE, 0); err != nil {
		return err
	}
	// Without it the kernel chooses by size, as ever.
	_ = os.WriteFile("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", []byte("1000"), 0)
	return nil
}
