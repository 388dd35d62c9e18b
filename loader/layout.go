package loader

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/quadnine/quadnine/internal/mmap"
)

const (
	smallExtent = 16 << 12 // bytes; loader.md, measured: a shorter piece costs less copied than mapped
	maxPieces   = 2048     // of one version; beyond, longer and longer pieces are copied
	slackCopy   = 1 << 20  // bytes that one contiguous view may cost more than separate windows
)

// segment says that n bytes of a version, from byte off on, are those of blob
// from byte src on. A version's segments cover it in order.
type segment struct {
	off, n int64
	blob   *blob
	src    int64
}

// window is a stretch of the version's bytes that lies in the region in one
// piece: byte from is at byte at of the region.
type window struct{ from, to, at int64 }

// piece is a range of whole pages of the region and where they come from: pages
// of blob from byte src on, mapped; or, without blob, a copy of segments.
type piece struct {
	at, n int64
	blob  *blob
	src   int64
	win   int // index of its window
}

// layout is how a version lies in its region.
type layout struct {
	contiguous bool // one window: the whole file
	windows    []window
	size       int64 // of the region, bytes
	under      []piece
	over       []piece // on top of under, or beside it
	copied     int64   // bytes
}

// at returns where in the region byte off of the version is, and how many bytes
// follow it there.
func (l *layout) at(off int64) (at, room int64, ok bool) {
	i, found := slices.BinarySearchFunc(l.windows, off, func(w window, off int64) int { return cmp.Compare(w.from, off) })
	if !found {
		i--
	}
	if i < 0 || off >= l.windows[i].to {
		return 0, 0, false
	}
	w := l.windows[i]
	return w.at + off - w.from, w.to - off, true
}

// plan lays out a version: as one contiguous view when that is nearly free,
// otherwise with a window for each part (ranges in file order).
func plan(segs []segment, size int64, parts []window) layout {
	one := layout{contiguous: true, windows: []window{{0, size, 0}}}
	one.fill(segs)
	if one.copied <= slackCopy || len(parts) == 0 {
		return one
	}
	many := scattered(segs, parts)
	if one.copied <= many.copied+slackCopy {
		return one
	}
	return many
}

// scattered gives each part a window of its own, placed so that its pages can be
// mapped.
func scattered(segs []segment, parts []window) layout {
	many := layout{windows: slices.Clone(parts)}
	at := int64(0)
	for i := range many.windows {
		w := &many.windows[i]
		w.at = at + phase(clip(segs, w.from, w.to))
		at = pageUp(w.at + w.to - w.from)
	}
	many.fill(segs)
	return many
}

// phase returns where in its first page a window should begin so that most of
// its bytes can be mapped.
func phase(segs []segment) int64 {
	if len(segs) == 0 {
		return 0
	}
	page := mmap.PageSize()
	weight := make(map[int64]int64)
	for _, s := range segs {
		weight[mod(s.src-(s.off-segs[0].off), page)] += s.n
	}
	best := int64(0)
	for p, n := range weight {
		if n > weight[best] || n == weight[best] && p < best {
			best = p
		}
	}
	return best
}

func mod(a, b int64) int64 { return (a%b + b) % b }

func pageDown(n int64) int64 { return n / mmap.PageSize() * mmap.PageSize() }
func pageUp(n int64) int64   { return pageDown(n + mmap.PageSize() - 1) }

// clip returns what of segs lies in [from, to).
func clip(segs []segment, from, to int64) (out []segment) {
	i, found := slices.BinarySearchFunc(segs, from, func(s segment, off int64) int { return cmp.Compare(s.off, off) })
	if !found {
		i = max(i-1, 0)
	}
	for ; i < len(segs) && segs[i].off < to; i++ {
		s := segs[i]
		lo, hi := max(s.off, from), min(s.off+s.n, to)
		if lo < hi {
			out = append(out, segment{lo, hi - lo, s.blob, s.src + lo - s.off})
		}
	}
	return out
}

// fill finds the pieces for the windows.
func (l *layout) fill(segs []segment) {
	var mapped []piece
	under := make([]*piece, len(l.windows))
	for i, w := range l.windows {
		if w.from == w.to {
			continue
		}
		l.size = max(l.size, pageUp(w.at+w.to-w.from))
		p := mappable(w, clip(segs, w.from, w.to), i)
		if u, ok := underlay(p); ok {
			l.under, under[i] = append(l.under, u), &u
			p = slices.DeleteFunc(p, func(x piece) bool { return x.blob == u.blob && x.at-x.src == u.at-u.src })
		}
		mapped = append(mapped, p...)
	}
	for limit := int64(smallExtent); ; limit *= 2 {
		kept := slices.DeleteFunc(slices.Clone(mapped), func(p piece) bool { return p.n < limit })
		if len(kept) <= maxPieces {
			l.over = kept
			break
		}
	}
	mapped = l.over
	for i, w := range l.windows {
		if w.from < w.to {
			l.copies(i, mappable(w, clip(segs, w.from, w.to), i), mapped, under[i])
		}
	}
	slices.SortFunc(l.over, func(a, b piece) int { return cmp.Compare(a.at, b.at) })
}

// mappable returns the ranges of whole pages of w whose bytes all come from
// pages of one blob.
func mappable(w window, segs []segment, win int) (out []piece) {
	for i, s := range segs {
		start := w.at + s.off - w.from
		end := start + s.n
		if mod(start-s.src, mmap.PageSize()) != 0 {
			continue
		}
		lo, hi := pageUp(start), pageDown(end)
		if i == 0 {
			lo = pageDown(start)
		}
		if i == len(segs)-1 {
			hi = pageUp(end)
		}
		if lo < hi {
			out = append(out, piece{lo, hi - lo, s.blob, s.src - start + lo, win})
		}
	}
	return out
}

// underlay returns the piece that, mapped from the first to the last place where
// its blob shows through, saves the most mappings: the base.
func underlay(p []piece) (piece, bool) {
	type key struct {
		blob  *blob
		shift int64
	}
	sum := make(map[key]int64)
	var best key
	for _, x := range p {
		k := key{x.blob, x.at - x.src}
		sum[k] += x.n
		if sum[k] > sum[best] {
			best = k
		}
	}
	if best.blob == nil {
		return piece{}, false
	}
	u := piece{at: -1, blob: best.blob}
	for _, x := range p {
		if x.blob == best.blob && x.at-x.src == best.shift {
			if u.at < 0 {
				u.at, u.src, u.win = x.at, x.src, x.win
			}
			u.n = x.at + x.n - u.at
		}
	}
	return u, true
}

// copies adds the pieces of window i that neither its underlay nor a mapped
// piece shows rightly.
func (l *layout) copies(i int, pages, mapped []piece, under *piece) {
	w := l.windows[i]
	at := pageDown(w.at)
	add := func(to int64) {
		if at < to {
			l.over = append(l.over, piece{at: at, n: to - at, win: i})
			l.copied += to - at
		}
	}
	for _, p := range pages {
		shown := under != nil && under.blob == p.blob && under.at-under.src == p.at-p.src
		if !shown {
			_, shown = search(mapped, p.at)
		}
		if shown {
			add(p.at)
			at = p.at + p.n
		}
	}
	add(pageUp(w.at + w.to - w.from))
}

// search finds the piece at byte at, or where it would be.
func search(pieces []piece, at int64) (int, bool) {
	return slices.BinarySearchFunc(pieces, at, func(p piece, at int64) int { return cmp.Compare(p.at, at) })
}

// mappings returns how many kernel mappings the layout takes at most.
func (l *layout) mappings() int64 {
	n := int64(1 + 2*len(l.under))
	for _, p := range l.over {
		if p.blob != nil || !l.overUnder(p) {
			n += 2
		}
	}
	return n
}

// overUnder reports whether p lies wholly on an underlay.
func (l *layout) overUnder(p piece) bool {
	i, found := search(l.under, p.at)
	if !found {
		i--
	}
	return i >= 0 && p.at+p.n <= l.under[i].at+l.under[i].n
}

// mapInto fills a region of l.size bytes.
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
	var buf []byte
	for _, p := range l.over {
		if p.blob != nil {
			if err := r.MapFile(p.at, p.blob.f, p.src, min(p.n, p.blob.size-p.src)); err != nil {
				return err
			}
			continue
		}
		var err error
		if buf, err = l.copyPiece(r, p, segs, buf); err != nil {
			return err
		}
	}
	return r.Seal()
}

const copyStep = 1 << 20

// copyPiece assembles a piece from what its bytes come from.
func (l *layout) copyPiece(r *mmap.Region, p piece, segs []segment, buf []byte) ([]byte, error) {
	w := l.windows[p.win]
	put := r.CopyPages
	if l.overUnder(p) {
		put = r.Patch
	}
	for at := p.at; at < p.at+p.n; at += copyStep {
		lo, hi := max(at, w.at), min(at+copyStep, p.at+p.n, w.at+w.to-w.from)
		if lo >= hi {
			continue
		}
		skip := lo - at // before the window's first byte
		buf = slices.Grow(buf[:0], int(skip+hi-lo))[:skip+hi-lo]
		clear(buf[:skip])
		if err := read(segs, buf[skip:], w.from+lo-w.at); err != nil {
			return buf, err
		}
		if err := put(at, buf); err != nil {
			return buf, err
		}
	}
	return buf, nil
}

// read fills p with the version's bytes from off on, from the files.
func read(segs []segment, p []byte, off int64) error {
	for _, s := range clip(segs, off, off+int64(len(p))) {
		if n, err := s.blob.f.ReadAt(p[s.off-off:s.off-off+s.n], s.src); int64(n) < s.n {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("%s: byte %d: %w", s.blob.name, s.src+int64(n), err)
		}
	}
	return nil
}
