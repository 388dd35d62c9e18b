package mmap_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/quadnine/quadnine/internal/mmap"
)

// lockedKB is what the kernel says is locked of this process.
func lockedKB(t *testing.T) (kb int64) {
	t.Helper()
	f, err := os.Open("/proc/self/status")
	must(t, err)
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if n, err := fmt.Sscanf(lines.Text(), "VmLck: %d kB", &kb); err == nil && n == 1 {
			return kb
		}
	}
	t.Fatal("no VmLck in /proc/self/status")
	return 0
}

// A locked region counts as locked with the kernel, is read in by Populate all the
// same, and is unlocked by Revoke and by Unmap.
func TestLockedUntilItIsUnmapped(t *testing.T) {
	const n = 8
	if mmap.LockLimit() < 2*n*page {
		t.Fatalf("this process may lock %d bytes only: raise RLIMIT_MEMLOCK (ulimit -l)", mmap.LockLimit())
	}
	before := mmap.Locked()
	for name, end := range map[string]func(*mmap.Region) error{"revoke": (*mmap.Region).Revoke, "unmap": (*mmap.Region).Unmap} {
		r := reserve(t, n*page)
		base := pattern(1, n*page)
		must(t, r.MapForPatches(0, file(t, base), 0, 4*page))
		must(t, patch(r, page+1, []byte("patched")))
		must(t, r.Seal())
		must(t, r.MapFile(4*page, file(t, base), 4*page, 2*page))
		must(t, r.CopyPages(6*page, base[6*page:]))
		at := lockedKB(t)
		must(t, r.Lock())
		must(t, r.Lock())
		must(t, r.Populate())
		if got, want := lockedKB(t)-at, int64(n)*page>>10; got != want {
			t.Errorf("%s: %d kB are locked, want %d", name, got, want)
		}
		if got := mmap.Locked() - before; got != n*page || !r.IsLocked() {
			t.Errorf("%s: %d bytes counted as locked (%v), want %d", name, got, r.IsLocked(), n*page)
		}
		copy(base[page+1:], "patched")
		if !bytes.Equal(content(t, r, 0, n*page), base) {
			t.Errorf("%s: the view differs", name)
		}
		must(t, end(r))
		if got := lockedKB(t) - at; got != 0 || mmap.Locked() != before || r.IsLocked() {
			t.Errorf("%s: %d kB are still locked, %d bytes counted", name, got, mmap.Locked()-before)
		}
		if err := r.Lock(); !errors.Is(err, mmap.ErrRevoked) && !errors.Is(err, mmap.ErrUnmapped) {
			t.Errorf("%s: locked afterwards: %v", name, err)
		}
	}
}

// Without the right to lock as much as one likes, the limit counts: what would go
// beyond it is refused with the figures, and nothing of it stays locked.
func TestLockLimit(t *testing.T) {
	done := make(chan struct{})
	go func() { // on a thread of its own, which ends with what it gave up
		defer close(done)
		runtime.LockOSThread()
		head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if err := unix.Capget(&head, &data[0]); err != nil {
			t.Error(err)
			return
		}
		data[0].Effective &^= 1 << unix.CAP_IPC_LOCK
		if err := unix.Capset(&head, &data[0]); err != nil {
			t.Error(err)
			return
		}
		var old unix.Rlimit
		err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &old)
		if err == nil {
			err = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: min(old.Max, 1<<20), Max: old.Max})
		}
		if err != nil {
			t.Error(err)
			return
		}
		defer func() {
			if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &old); err != nil {
				t.Error(err)
			}
		}()
		limit := mmap.LockLimit()
		if limit > 1<<20 {
			t.Errorf("without CAP_IPC_LOCK %d bytes may be locked", limit)
			return
		}
		size := limit/page*page + page
		r, err := mmap.Reserve(size)
		if err != nil {
			t.Error(err)
			return
		}
		f, err := os.Create(t.TempDir() + "/large")
		if err == nil {
			err = errors.Join(f.Truncate(size), r.MapFile(0, f, 0, size))
		}
		if err != nil {
			t.Error(err)
			return
		}
		want := fmt.Sprintf("lock %d bytes: %d of the %d ", size, mmap.Locked(), limit)
		if err := r.Lock(); !errors.Is(err, mmap.ErrLockLimit) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %v and %q", err, mmap.ErrLockLimit, want)
		}
		if r.IsLocked() {
			t.Error("it is locked")
		}
		if err := errors.Join(r.Unmap(), f.Close()); err != nil {
			t.Error(err)
		}
	}()
	<-done
}
