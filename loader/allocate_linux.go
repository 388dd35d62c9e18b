package loader

import (
	"errors"

	"golang.org/x/sys/unix"
)

// allocate takes the disk's room for the first size bytes of f, whose size stays: a
// full disk is found before anything is copied, and what is written afterwards costs
// a fifth less CPU (decision record 36). A file system that cannot is none the worse.
func allocate(f file, size int64) error {
	to, ok := f.(interface{ Fd() uintptr })
	if !ok || size <= 0 {
		return nil
	}
	err := unix.Fallocate(int(to.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG) {
		return err
	}
	return nil
}
