//go:build unix

package mmap_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/quadnine/quadnine/internal/mmap"
)

func TestPatchesStayOneMapping(t *testing.T) {
	const n = 64
	base := pattern(1, n*page)
	f := file(t, base)
	r := reserve(t, n*page)
	before := mmap.Mappings()
	must(t, r.MapForPatches(0, f, 0, n*page))
	want := bytes.Clone(base)
	must(t, r.PatchAll(func(yield func(int64, []byte) bool) {
		for i := int64(1); i < n; i += 4 {
			b := pattern(byte(i), 100)
			copy(want[i*page-50:], b) // over a page's edge
			if !yield(i*page-50, b[:70]) || !yield(i*page+20, b[70:]) {
				return
			}
		}
	}))
	must(t, r.Seal())
	if got := mmap.Mappings() - before; got != 2 {
		t.Errorf("%d mappings counted, want 2", got)
	}
	if r.Copied() != n/4*2*page {
		t.Errorf("%d bytes copied, want %d", r.Copied(), n/4*2*page)
	}
	if !bytes.Equal(content(t, r, 0, n*page), want) {
		t.Error("the view differs")
	}
	onDisk := make([]byte, n*page)
	if _, err := f.ReadAt(onDisk, 0); err != nil || !bytes.Equal(onDisk, base) {
		t.Errorf("the file was changed: %v", err)
	}
	if err := patch(r, 0, []byte("x")); !errors.Is(err, mmap.ErrBounds) {
		t.Errorf("patched after Seal: %v", err)
	}
	err := r.Guarded(func() error {
		b, err := r.Bytes(0, 1)
		b[0]++
		return err
	})
	if !errors.Is(err, mmap.ErrFault) {
		t.Errorf("written after Seal: %v", err)
	}
}

func TestPatchBounds(t *testing.T) {
	r := reserve(t, 4*page)
	f := file(t, pattern(1, 4*page))
	must(t, r.MapFile(0, f, 0, page))
	must(t, r.MapForPatches(page, f, 0, page))
	for _, c := range []struct{ at, n int64 }{{0, 1}, {page - 1, 2}, {2*page - 1, 2}, {page, 0}, {3 * page, 1}, {-1, 1}} {
		if err := patch(r, c.at, make([]byte, c.n)); !errors.Is(err, mmap.ErrBounds) {
			t.Errorf("patch(%d, %d bytes): %v", c.at, c.n, err)
		}
	}
	for name, list := range map[string][]int64{"backwards": {page + 8, page}, "overlap": {page, page + 3}} {
		err := r.PatchAll(func(yield func(int64, []byte) bool) {
			for _, at := range list {
				if !yield(at, []byte("four")) {
					return
				}
			}
		})
		if !errors.Is(err, mmap.ErrBounds) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, f.Truncate(0))
	if err := patch(r, page, []byte("x")); !errors.Is(err, mmap.ErrFault) {
		t.Errorf("Patch over a file that was cut: %v", err)
	}
}

// patch writes one patch.
func patch(r *mmap.Region, at int64, b []byte) error {
	return r.PatchAll(func(yield func(int64, []byte) bool) { yield(at, b) })
}
