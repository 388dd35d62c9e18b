//go:build unix

package mmap

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrLockLimit means that a region is not locked because the process may not lock
// so much.
var ErrLockLimit = errors.New("over the limit on locked memory (RLIMIT_MEMLOCK)")

var locked atomic.Int64 // bytes of live regions

// Locked returns the bytes of all live regions that are locked into memory, each
// page counted as often as it is mapped, as the kernel counts them.
func Locked() int64 { return locked.Load() }

// LockLimit returns how many bytes this process may lock into memory:
// RLIMIT_MEMLOCK, or math.MaxInt64 when nothing bounds it.
func LockLimit() int64 {
	var l unix.Rlimit
	if mayLockAll() || unix.Getrlimit(unix.RLIMIT_MEMLOCK, &l) != nil || l.Cur > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(l.Cur)
}

// Lock keeps the region's pages in memory: those that are there, and the others
// from their first reader on, which is Populate where it comes next. The region
// must be filled. Revoke and Unmap unlock; locking twice does nothing. More than
// LockLimit is ErrLockLimit, with the figures, and locks nothing.
func (r *Region) Lock() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.usable(); err != nil {
		return fmt.Errorf("mmap: lock: %w", err)
	}
	if r.locked.Load() {
		return nil
	}
	if have, most := Locked(), LockLimit(); r.room > most-have {
		return fmt.Errorf("mmap: lock %d bytes: %d of the %d that this process may lock are locked: %w", r.room, have, most, ErrLockLimit)
	}
	all := unsafe.Slice((*byte)(r.base), r.room)
	if err := lock(all); err != nil {
		return errors.Join(fmt.Errorf("mmap: lock %d bytes: %w", r.room, err), unix.Munlock(all)) // what it got to stays locked
	}
	r.locked.Store(true)
	locked.Add(r.room)
	return nil
}

// IsLocked reports whether Lock took effect, and neither Revoke nor Unmap since. It
// waits for nobody, though Lock may read in a whole file under way.
func (r *Region) IsLocked() bool { return r.locked.Load() }

// unlocked notes that the kernel has unlocked what is not mapped any more. r.mu
// is held.
func (r *Region) unlocked() {
	if r.locked.Swap(false) {
		locked.Add(-r.room)
	}
}
