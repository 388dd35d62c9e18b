package patch

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// reserve gives f size bytes and takes them from the disk now: a mapping of a file
// with holes ends in a fault when the disk is full. Where a file system cannot
// do so, the fault is caught.
func reserve(f *os.File, size int64) error {
	if err := f.Truncate(size); err != nil {
		return err
	}
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, size)
		switch {
		case errors.Is(err, unix.EINTR): // by a signal of the runtime's, most likely
		case errors.Is(err, unix.EOPNOTSUPP):
			return nil
		default:
			return err
		}
	}
}
