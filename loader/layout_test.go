package loader

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/quadnine/quadnine/internal/mmap"
)

func randomBlob(tb testing.TB, rnd *rand.Rand, size int) (*blob, []byte) {
	tb.Helper()
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	name := filepath.Join(tb.TempDir(), "blob")
	must(tb, os.WriteFile(name, b, 0o644))
	f, err := os.Open(name)
	must(tb, err)
	tb.Cleanup(func() { f.Close() })
	return &blob{f, name, int64(size)}, b
}

// Whatever the segments are, aligned or not, the mapping shows their bytes.
func TestLayoutShowsTheSegments(t *testing.T) {
	for seed := range uint64(150) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		base, baseBytes := randomBlob(t, rnd, 100*4096+rnd.IntN(5000))
		patch, patchBytes := randomBlob(t, rnd, 60*4096+rnd.IntN(5000))
		var segs []segment
		var want []byte
		add := func(b *blob, all []byte, src, n int64) {
			if src < 0 || n <= 0 || src+n > b.size {
				return
			}
			segs = append(segs, segment{int64(len(want)), n, b, src})
			want = append(want, all[src:src+n]...)
		}
		for len(segs) < 2+rnd.IntN(30) {
			n := int64(rnd.IntN(30 * 4096))
			if rnd.IntN(3) > 0 {
				n = n / 4096 * 4096
			}
			switch rnd.IntN(4) {
			case 0: // from anywhere
				add(base, baseBytes, int64(rnd.IntN(100*4096)), n)
			case 1:
				add(patch, patchBytes, int64(rnd.IntN(50))*4096, n)
			case 2: // in place
				add(base, baseBytes, int64(len(want)), n)
			default: // congruent
				add(patch, patchBytes, int64(len(want))%4096+int64(rnd.IntN(40))*4096, n)
			}
		}
		size := int64(len(want))
		var parts []window
		for at := int64(0); at < size; {
			n := min(size-at, 1+int64(rnd.IntN(40*4096)))
			parts = append(parts, window{from: at, to: at + n})
			at += n
		}
		one := layout{contiguous: true, windows: []window{{0, size, 0}}}
		one.fill(segs)
		for _, l := range []layout{one, scattered(segs, parts), plan(segs, size, parts)} {
			showsSegments(t, seed, l, segs, want)
		}
	}
}

func showsSegments(t *testing.T, seed uint64, l layout, segs []segment, want []byte) {
	t.Helper()
	r, err := mmap.Reserve(l.size)
	must(t, err)
	defer func() { must(t, r.Unmap()) }()
	before := mmap.Mappings()
	must(t, l.mapInto(r, segs))
	if got := mmap.Mappings() - before; got > l.mappings() {
		t.Errorf("seed %d: %d mappings, at most %d were planned", seed, got, l.mappings())
	}
	must(t, r.Populate())
	v := &Version{region: r, layout: l}
	v.info.Size = int64(len(want))
	got := make([]byte, len(want))
	if n, err := (mapped{v}).ReadAt(got, 0); n != len(want) || err != nil {
		t.Fatalf("seed %d: %d of %d bytes, %v", seed, n, len(want), err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("seed %d: contiguous %v: the bytes differ", seed, l.contiguous)
	}
	for _, w := range l.windows {
		err := v.with(func(view View) error {
			if b, ok := view.bytes(w.from, w.to-w.from); !ok || !bytes.Equal(b, want[w.from:w.to]) {
				t.Errorf("seed %d: window %+v differs", seed, w)
			}
			return nil
		})
		must(t, err)
	}
}

func TestLayoutCosts(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	base, _ := randomBlob(t, rnd, 4096*4096)
	patch, _ := randomBlob(t, rnd, 1024*4096)

	// One long extent in place of the base's pages: mapped, nothing copied.
	l := plan([]segment{{0, 100 * 4096, base, 0}, {100 * 4096, 50 * 4096, patch, 0}, {150 * 4096, 3946 * 4096, base, 150 * 4096}}, 4096*4096, nil)
	if !l.contiguous || l.copied != 0 || len(l.under) != 1 || len(l.over) != 1 {
		t.Errorf("a long extent: %+v", l)
	}
	// 1,000 single pages: copied, in one mapping.
	var segs []segment
	for i := range int64(1000) {
		segs = append(segs, segment{i * 4 * 4096, 3 * 4096, base, i * 4 * 4096}, segment{(i*4 + 3) * 4096, 4096, patch, i * 4096})
	}
	l = plan(segs, 4000*4096, nil)
	if !l.contiguous || l.copied != 1000*4096 || l.mappings() > 5 { // the region, the base, the last page behind it
		t.Errorf("1,000 pages: copied %d, %d mappings", l.copied, l.mappings())
	}
	// The data moved by 8 bytes, as when a header grew: nothing fits page by page
	// in one view, so the tensors get windows of their own.
	l = plan([]segment{{0, 4104, patch, 0}, {4104, 4000 * 4096, base, 4096}}, 4104+4000*4096, []window{{from: 0, to: 4104}, {from: 4104, to: 4104 + 4000*4096}})
	if l.contiguous || l.copied != 0 {
		t.Errorf("moved data: contiguous %v, copied %d", l.contiguous, l.copied)
	}
}
