//go:build unix

package mmap_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"hash/fnv"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/quadnine/quadnine/internal/mmap"
)

var page = mmap.PageSize()

// pattern returns n bytes that say which page and file they belong to.
func pattern(seed byte, n int64) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = seed ^ byte(i) ^ byte(int64(i)/page*31)
	}
	return b
}

func file(t *testing.T, b []byte) *os.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0) // truncate needs it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func reserve(t *testing.T, n int64) *mmap.Region {
	t.Helper()
	r, err := mmap.Reserve(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Unmap(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, r *mmap.Region, off, n int64) (out []byte) {
	t.Helper()
	must(t, r.Guarded(func() error {
		b, err := r.Bytes(off, n)
		out = bytes.Clone(b)
		return err
	}))
	return out
}

func TestExtentsLieOverTheBase(t *testing.T) {
	for _, tail := range []int64{0, 1, page - 1} {
		size := 8*page + tail
		base, patch := pattern(1, size), pattern(2, 4*page)
		f, p := file(t, base), file(t, patch)
		r := reserve(t, size)
		must(t, r.MapFile(0, f, 0, size))
		must(t, r.MapFile(2*page, p, page, 2*page))
		must(t, r.CopyPages(7*page, patch[:page]))
		f.Close()
		p.Close()
		must(t, r.Populate())

		want := bytes.Clone(base)
		copy(want[2*page:], patch[page:3*page])
		copy(want[7*page:], patch[:page])
		if !bytes.Equal(content(t, r, 0, size), want) {
			t.Errorf("tail %d: the view differs", tail)
		}
		if r.Pieces() != 3 || r.Copied() != page {
			t.Errorf("pieces %d, copied %d", r.Pieces(), r.Copied())
		}
	}
}

func TestBoundsAndAlignment(t *testing.T) {
	f := file(t, pattern(1, 3*page+5))
	r := reserve(t, 3*page+5)
	for _, c := range []struct {
		name       string
		at, off, n int64
		want       error
	}{
		{"negative", -page, 0, page, mmap.ErrBounds},
		{"nothing", 0, 0, 0, mmap.ErrBounds},
		{"past the end", 3 * page, 0, 6, mmap.ErrBounds},
		{"overflow", page, 0, 1<<63 - 1, mmap.ErrBounds},
		{"unaligned place", 1, 0, 1, mmap.ErrAlign},
		{"unaligned offset", 0, 7, 1, mmap.ErrAlign},
		{"negative offset", 0, -page, 1, mmap.ErrAlign},
		{"past the file", 0, 3 * page, 6, mmap.ErrBounds},
		{"the last byte", 3 * page, 3 * page, 5, nil},
	} {
		if err := r.MapFile(c.at, f, c.off, c.n); !errors.Is(err, c.want) {
			t.Errorf("%s: MapFile: %v, want %v", c.name, err, c.want)
		}
	}
	if err := r.CopyPages(3*page, make([]byte, 6)); !errors.Is(err, mmap.ErrBounds) {
		t.Errorf("CopyPages past the end: %v", err)
	}
	if _, err := r.Bytes(3*page, 6); !errors.Is(err, mmap.ErrBounds) {
		t.Errorf("Bytes past the end: %v", err)
	}
	if _, err := r.Bytes(1, 1<<63-1); !errors.Is(err, mmap.ErrBounds) {
		t.Errorf("Bytes with overflow: %v", err)
	}
	if b, err := r.Bytes(3*page+5, 0); err != nil || len(b) != 0 {
		t.Errorf("no bytes at the end: %v, %v", b, err)
	}
	for _, n := range []int64{0, -1, 1 << 50} {
		if _, err := mmap.Reserve(n); !errors.Is(err, mmap.ErrBounds) {
			t.Errorf("Reserve(%d): %v", n, err)
		}
	}
}

// sum keeps a loop over mapped bytes from being compiled away.
var sum uint64

func TestTruncationAfterMappingIsAnError(t *testing.T) {
	f := file(t, pattern(1, 64*page))
	r := reserve(t, 64*page)
	must(t, r.MapFile(0, f, 0, 64*page))
	must(t, f.Truncate(10*page))

	for name, read := range map[string]func([]byte){
		"loop":   func(b []byte) { h := fnv.New64a(); h.Write(b); sum = h.Sum64() },
		"copy":   func(b []byte) { copy(make([]byte, len(b)), b) },
		"equal":  func(b []byte) { bytes.Equal(b, pattern(1, 64*page)) },
		"sha256": func(b []byte) { sha256.Sum256(b) }, // assembly
	} {
		err := r.Guarded(func() error {
			b, err := r.Bytes(0, 64*page)
			read(b)
			return err
		})
		if !errors.Is(err, mmap.ErrFault) {
			t.Errorf("%s: %v, want ErrFault", name, err)
		}
	}
	if err := r.Populate(); !errors.Is(err, mmap.ErrFault) {
		t.Errorf("Populate: %v, want ErrFault", err)
	}
	if !bytes.Equal(content(t, r, 0, 10*page), pattern(1, 10*page)) {
		t.Error("what is left of the file reads otherwise")
	}
	if err := r.MapFile(0, f, 0, 11*page); !errors.Is(err, mmap.ErrBounds) {
		t.Errorf("mapping more than the file has: %v", err)
	}
}

func TestHolesAreNotReadable(t *testing.T) {
	r := reserve(t, 2*page)
	must(t, r.CopyPages(0, []byte("x")))
	if err := r.Populate(); err == nil {
		t.Error("Populate passed over a hole")
	}
	err := r.Guarded(func() error {
		b, err := r.Bytes(page, 1)
		if err == nil && b[0] == 0 {
			t.Error("a hole was read")
		}
		return err
	})
	if !errors.Is(err, mmap.ErrFault) {
		t.Errorf("reading a hole: %v", err)
	}
}

func TestWritingFaults(t *testing.T) {
	f := file(t, pattern(1, page))
	r := reserve(t, 2*page)
	must(t, r.MapFile(0, f, 0, page))
	must(t, r.CopyPages(page, []byte("copied")))
	for _, at := range []int64{0, page} {
		err := r.Guarded(func() error {
			b, err := r.Bytes(at, 1)
			b[0]++
			return err
		})
		if !errors.Is(err, mmap.ErrFault) {
			t.Errorf("writing byte %d: %v", at, err)
		}
	}
}

func TestRevokeAndUnmapTwice(t *testing.T) {
	before := mmap.Mappings()
	r, err := mmap.Reserve(4 * page)
	must(t, err)
	f := file(t, pattern(1, 4*page))
	must(t, r.MapFile(0, f, 0, 4*page))
	must(t, r.CopyPages(page, pattern(2, page)))
	if mmap.Mappings() != before+5 {
		t.Errorf("%d mappings counted, want 5", mmap.Mappings()-before)
	}
	late, err := r.Bytes(0, 4*page)
	must(t, err)

	must(t, r.Revoke())
	must(t, r.Revoke())
	if err := r.Guarded(func() error { _ = bytes.Clone(late); return nil }); !errors.Is(err, mmap.ErrFault) {
		t.Errorf("late reader: %v, want ErrFault", err)
	}
	if mmap.Mappings() != before+1 {
		t.Errorf("%d mappings counted after Revoke, want 1", mmap.Mappings()-before)
	}
	_, err = r.Bytes(0, 1)
	if !errors.Is(err, mmap.ErrRevoked) || !errors.Is(r.CopyPages(0, late[:0:0]), mmap.ErrBounds) || !errors.Is(r.MapFile(0, f, 0, 1), mmap.ErrRevoked) {
		t.Errorf("used after Revoke: %v", err)
	}

	must(t, r.Unmap())
	must(t, r.Unmap())
	must(t, r.Revoke())
	if _, err := r.Bytes(0, 1); !errors.Is(err, mmap.ErrUnmapped) {
		t.Errorf("used after Unmap: %v", err)
	}
	if mmap.Mappings() != before {
		t.Errorf("%d mappings counted after Unmap, want 0", mmap.Mappings()-before)
	}
}

var nowhere *[4]int

func TestGuardedLetsOtherPanicsThrough(t *testing.T) {
	r := reserve(t, page)
	other := reserve(t, page)
	for name, f := range map[string]func(){
		"value":        func() { panic("mine") },
		"index":        func() { _ = []int{}[len(os.Args)*0] },
		"nil":          func() { _ = nowhere[len(os.Args)%4] },
		"other region": func() { b, _ := other.Bytes(0, 1); _ = bytes.Clone(b) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: the panic was swallowed", name)
				}
			}()
			_ = other.Guarded(func() error {
				if name == "other region" {
					return r.Guarded(func() error { f(); return nil })
				}
				f()
				return nil
			})
			if name == "other region" {
				panic("the outer guard took it, as it should")
			}
		}()
	}
	sentinel := errors.New("mine")
	if err := r.Guarded(func() error { return sentinel }); !errors.Is(err, sentinel) {
		t.Errorf("error of f: %v", err)
	}
}

func TestReadersWhileRevoked(t *testing.T) {
	for range 20 {
		r := reserve(t, 64*page)
		want := pattern(3, 64*page)
		must(t, r.MapFile(0, file(t, want), 0, 64*page))
		var wg sync.WaitGroup
		started := make(chan struct{}, 4)
		for range 4 {
			wg.Go(func() {
				for n := 0; ; n++ {
					var same bool
					err := r.Guarded(func() error {
						b, err := r.Bytes(0, 64*page)
						same = bytes.Equal(b, want)
						return err
					})
					if errors.Is(err, mmap.ErrFault) || errors.Is(err, mmap.ErrRevoked) {
						return
					}
					if err != nil || !same {
						t.Errorf("read %d: same %v, %v", n, same, err)
						return
					}
					if n == 0 {
						started <- struct{}{}
					}
				}
			})
		}
		wg.Go(func() {
			for err := error(nil); err == nil; {
				err = r.Populate()
			}
		})
		for range 4 {
			<-started
		}
		must(t, r.Revoke())
		wg.Wait()
	}
}

func BenchmarkGuarded(b *testing.B) {
	r, err := mmap.Reserve(page)
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := r.Unmap(); err != nil {
			b.Error(err)
		}
	}()
	b.ReportAllocs()
	f := func() error { return nil }
	for b.Loop() {
		if err := r.Guarded(f); err != nil {
			b.Fatal(err)
		}
	}
}
