//go:build unix && !linux

package mmap

import "golang.org/x/sys/unix"

// lock locks b, and reads it in at once.
func lock(b []byte) error { return unix.Mlock(b) }

// mayLockAll reports no right to lock without a limit: the limit is what counts.
func mayLockAll() bool { return false }
