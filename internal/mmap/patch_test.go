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
	for i := int64(1); i < n; i += 4 {
		b := pattern(byte(i), 100)
		copy(want[i*page-50:], b) // over a page's edge
		must(t, r.Patch(i*page-50, b))
	}
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
	if err := r.Patch(0, []byte("x")); !errors.Is(err, mmap.ErrBounds) {
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
		if err := r.Patch(c.at, make([]byte, c.n)); !errors.Is(err, mmap.ErrBounds) {
			t.Errorf("Patch(%d, %d bytes): %v", c.at, c.n, err)
		}
	}
	must(t, f.Truncate(0))
	if err := r.Patch(page, []byte("x")); !errors.Is(err, mmap.ErrFault) {
		t.Errorf("Patch over a file that was cut: %v", err)
	}
}
