package loader

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"

	"github.com/quadnine/quadnine/internal/mmap"
)

const copyStep = 1 << 20

// below returns the underlay that p lies on, or nil.
func (l *layout) below(p piece) *piece {
	i, found := search(l.under, p.at)
	if !found {
		i--
	}
	if i >= 0 && p.at+p.n <= l.under[i].at+l.under[i].n {
		return &l.under[i]
	}
	return nil
}

// mapInto fills a region of l.size bytes: the underlays, what is mapped over and
// beside them, and what is copied.
func (l *layout) mapInto(r *mmap.Region, segs []segment) error {
	for _, u := range l.under {
		put := r.MapFile
		first, _ := search(l.over, u.at)
		last, _ := search(l.over, u.at+u.n)
		if slices.ContainsFunc(l.over[first:last], func(p piece) bool { return p.blob == nil }) {
			put = r.MapForPatches
		}
		if err := put(u.at, u.blob.f, u.src, min(u.n, u.blob.size-u.src)); err != nil {
			return err
		}
	}
	for _, p := range l.over {
		var err error
		switch {
		case p.blob != nil:
			err = r.MapFile(p.at, p.blob.f, p.src, min(p.n, p.blob.size-p.src))
		case l.below(p) == nil:
			err = l.copyPiece(r, p, segs)
		}
		if err != nil {
			return err
		}
	}
	var failed error
	patched := r.PatchAll(l.patches(segs, &failed))
	if err := errors.Join(failed, patched); err != nil {
		return err
	}
	return r.Seal()
}

// copyPiece puts a piece together from what its bytes come from, in pages of its
// own.
func (l *layout) copyPiece(r *mmap.Region, p piece, segs []segment) error {
	w := l.windows[p.win]
	var buf []byte
	for at := p.at; at < p.at+p.n; at += copyStep {
		lo, hi := max(at, w.at), min(at+copyStep, p.at+p.n, w.at+w.to-w.from)
		if lo >= hi {
			continue
		}
		skip := lo - at // before the window's first byte
		buf = slices.Grow(buf[:0], int(skip+hi-lo))[:skip+hi-lo]
		clear(buf[:skip])
		if err := read(segs, buf[skip:], w.from+lo-w.at); err != nil {
			return err
		}
		if err := r.CopyPages(at, buf); err != nil {
			return err
		}
	}
	return nil
}

// patches yields what differs from the underlays where nothing is mapped over
// them, by place: the kernel copies the page around it, so that only what was
// shipped is read. A read that fails ends it and is stored in failed.
func (l *layout) patches(segs []segment, failed *error) iter.Seq2[int64, []byte] {
	return func(yield func(int64, []byte) bool) {
		var src ahead
		defer src.free()
		first := 0 // of segs, that reaches into the piece: both ascend
		for _, p := range l.over {
			if p.blob != nil {
				continue
			}
			under := l.below(p)
			if under == nil {
				continue
			}
			w := l.windows[p.win]
			from, to := w.from+max(p.at-w.at, 0), min(w.from+p.at+p.n-w.at, w.to)
			for segs[first].off+segs[first].n <= from {
				first++
			}
			for _, s := range segs[first:] {
				if s.off >= to {
					break
				}
				if skip := from - s.off; skip > 0 {
					s.off, s.src, s.n = from, s.src+skip, s.n-skip
				}
				s.n = min(s.n, to-s.off)
				at := w.at + s.off - w.from
				if s.blob == under.blob && at-s.src == under.at-under.src {
					continue // it shows through
				}
				for s.n > 0 {
					b, err := src.bytes(s.blob, s.src, min(s.n, aheadMost))
					if err != nil {
						*failed = err
						return
					}
					if !yield(at, b) {
						return
					}
					n := int64(len(b))
					s.n, s.src, at = s.n-n, s.src+n, at+n
				}
			}
		}
	}
}

// read fills p with the version's bytes from off on, from the files.
func read(segs []segment, p []byte, off int64) error {
	for s := range clip(segs, off, off+int64(len(p))) {
		if err := s.blob.read(p[s.off-off:s.off-off+s.n], s.src); err != nil {
			return err
		}
	}
	return nil
}

func (b *blob) read(p []byte, off int64) error {
	n, err := b.f.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%s: byte %d: %w", b.name, off+int64(n), err)
}

// ahead reads short pieces of files that follow one another, many at once.
type ahead struct {
	files []*aheadFile
}

type aheadFile struct {
	blob *blob
	off  int64
	b    []byte // what was read from byte off on
	next int64  // how much to read when the pieces go on
	lent *[aheadMost]byte
}

// What is read at once grows from the first to the last as long as pieces follow
// one another.
const aheadFirst, aheadMost = 16 << 10, 256 << 10

// aheads are lent to files that are read ahead: growing them anew for each version
// leaves the collector half a megabyte.
var aheads = sync.Pool{New: func() any { return new([aheadMost]byte) }}

// bytes returns n bytes of a file, aheadMost at most, from off on, which are good
// until the next call.
func (a *ahead) bytes(from *blob, off, n int64) ([]byte, error) {
	i := slices.IndexFunc(a.files, func(f *aheadFile) bool { return f.blob == from })
	if i < 0 {
		i = len(a.files)
		a.files = append(a.files, &aheadFile{blob: from, off: off, next: aheadFirst, lent: aheads.Get().(*[aheadMost]byte)})
	}
	f := a.files[i]
	end := f.off + int64(len(f.b))
	if off < f.off || off+n > end {
		if off < f.off || off > end+aheadFirst {
			f.next = aheadFirst
		} else if len(f.b) > 0 {
			f.next = min(2*f.next, aheadMost)
		}
		size := max(n, min(f.next, from.size-off))
		f.off, f.b = off, f.lent[:size]
		if err := from.read(f.b, off); err != nil {
			f.b = nil
			return nil, err
		}
	}
	return f.b[off-f.off:][:n], nil
}

// free ends the use of what bytes returned.
func (a *ahead) free() {
	for _, f := range a.files {
		aheads.Put(f.lent)
	}
	a.files = nil
}
