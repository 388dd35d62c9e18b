package mmap

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// populate brings [at, at+n) into memory in one system call: a fault in the
// middle of a goroutine would hold up the garbage collector, a system call does
// not (MADV_POPULATE_READ, Linux 5.14; madvise(2)).
func (r *Region) populate(at, n int64) (bool, error) {
	for {
		err := unix.Madvise(unsafe.Slice((*byte)(r.addr(at)), n), unix.MADV_POPULATE_READ)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN):
		case errors.Is(err, unix.EINVAL): // an older kernel
			return false, nil
		case errors.Is(err, unix.EFAULT): // behind the end of a file that was cut
			return true, ErrFault
		default:
			return true, err
		}
	}
}
