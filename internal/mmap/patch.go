//go:build unix

package mmap

import (
	"cmp"
	"fmt"
	"iter"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// span is a range of a region that is still writable.
type span struct{ at, n int64 }

// MapForPatches is MapFile for a piece that PatchAll will change in a few places:
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

// PatchAll writes each b over what MapForPatches put at byte at of the region. The
// patches ascend and do not overlap; each lies in one piece. They may be as short
// as a byte: the rest of a page that is patched stays what the file holds. What
// one patch refers to is not kept after the next is asked for.
//
// A patch costs a page fault and the copy of a page for each page that no patch
// touched before (decision record 23).
func (r *Region) PatchAll(patches iter.Seq2[int64, []byte]) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.usable(); err != nil {
		return fmt.Errorf("mmap: patch: %w", err)
	}
	slices.SortFunc(r.unsealed, func(a, b span) int { return cmp.Compare(a.at, b.at) })
	return r.Guarded(func() error {
		spans, end := r.unsealed, int64(0) // end is the byte after the last patch
		copied := int64(0)                 // the byte after the last page that is private
		for at, b := range patches {
			n := int64(len(b))
			for len(spans) > 0 && spans[0].at+spans[0].n <= at {
				spans = spans[1:]
			}
			if n == 0 || at < end || len(spans) == 0 || at < spans[0].at || n > spans[0].at+spans[0].n-at {
				return fmt.Errorf("mmap: patch [%d, +%d): %w", at, n, ErrBounds)
			}
			copy(unsafe.Slice((*byte)(r.addr(at)), n), b)
			end = at + n
			r.copied += pages(end) - max(at/PageSize()*PageSize(), copied)
			copied = pages(end)
		}
		return nil
	})
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
