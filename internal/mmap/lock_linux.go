package mmap

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// lock marks b as locked without reading it in (mlock2(2), Linux 4.4): Populate
// does that piece by piece, so that nobody waits for all of it. An older kernel
// reads it in at once.
func lock(b []byte) error {
	_, _, errno := unix.Syscall(unix.SYS_MLOCK2, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MLOCK_ONFAULT)
	switch {
	case errno == 0:
		return nil
	case errors.Is(errno, unix.ENOSYS):
		return unix.Mlock(b)
	default:
		return errno
	}
}

// mayLockAll reports whether the process has CAP_IPC_LOCK, for which the kernel
// asks no limit (mlock(2)).
func mayLockAll() bool {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // of 32 capabilities each
	return unix.Capget(&head, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_IPC_LOCK) != 0
}
