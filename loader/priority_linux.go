package loader

import (
	"time"

	"golang.org/x/sys/unix"
)

// slice is how long a thread of the lowest priority runs before one that woke up
// takes its place: the least that Linux grants. It grants about 3 ms when not asked,
// and a shard would wait as long (decision record 36). Kernels before 6.12 know one
// slice for all threads and pass over this.
const slice = 100 * time.Microsecond

// lower gives the calling thread the lowest priority, so that hashing never runs
// before a shard. The thread must be locked and end with its goroutine. What the
// kernel says against it changes nothing: the work is done either way.
//
// SCHED_IDLE would be lower still. Its share of a CPU is so small that a thread which
// something else keeps from running holds up the whole process at its next collection.
func lower() {
	a := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL, Nice: 19, Runtime: uint64(slice)}
	if err := unix.SchedSetAttr(0, &a, 0); err != nil {
		_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), 19)
	}
}
