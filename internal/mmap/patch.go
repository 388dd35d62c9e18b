//go:build unix

package mmap

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// span is a range of a region that is still writable.
type span struct{ at, n int64 }

// MapForPatches is MapFile for a piece that Patch will change in a few places:
// a patched page becomes private memory, every other stays shared, and it all
// stays one kernel mapping, however many the patches. Seal ends it.
func (r *Region) MapForPatches(at int64, f *os.File, off, n int64) error {
	err := r.mapFile(at, f, off, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_NORESERVE)
	if err != nil {
		return fmt.Errorf("mmap: map %d bytes of %s from byte %d: %w", n, f.Name(), off, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unsealed = append(r.unsealed, span{at, pages(n)})
	return nil
}

// Patch writes b over what MapForPatches put at byte at of the region.
func (r *Region) Patch(at int64, b []byte) error {
	n := int64(len(b))
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.usable(); err != nil {
		return fmt.Errorf("mmap: patch: %w", err)
	}
	inside := false
	for _, s := range r.unsealed {
		inside = inside || at >= s.at && at <= s.at+s.n && n <= s.at+s.n-at
	}
	if !inside || n == 0 {
		return fmt.Errorf("mmap: patch [%d, +%d): %w", at, n, ErrBounds)
	}
	err := r.Guarded(func() error {
		copy(unsafe.Slice((*byte)(r.addr(at)), n), b)
		return nil
	})
	if err != nil {
		return err
	}
	r.copied += pages(at+n) - at/PageSize()*PageSize()
	return nil
}

// Seal makes what MapForPatches left writable read-only. Publish no region
// before.
func (r *Region) Seal() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.unsealed {
		if err := unix.Mprotect(unsafe.Slice((*byte)(r.addr(s.at)), s.n), unix.PROT_READ); err != nil {
			return fmt.Errorf("mmap: seal %d bytes: %w", s.n, err)
		}
	}
	r.unsealed = nil
	return nil
}
