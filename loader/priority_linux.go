package loader

import "golang.org/x/sys/unix"

// lower gives the calling thread the lowest priority, so that hashing never runs
// before a shard. The thread must be locked and end with its goroutine. What the
// kernel says against it changes nothing: the work is done either way.
func lower() { _ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), 19) }
