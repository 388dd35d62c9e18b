package loader

import (
	"cmp"
	"iter"
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
	copied     int64   // bytes of private memory
}

// copies returns how many pieces are copied.
func (l *layout) copies() (n int64) {
	for _, p := range l.over {
		if p.blob == nil {
			n++
		}
	}
	return n
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
	if one.copied <= slackCopy || misfits(segs) <= slackCopy || len(parts) == 0 {
		return one
	}
	many := scattered(segs, parts)
	if one.copied <= many.copied+slackCopy {
		return one
	}
	return many
}

// misfits returns how many bytes one view copies that windows could map: those of
// long segments that lie otherwise in their page than in their file.
func misfits(segs []segment) (n int64) {
	for _, s := range segs {
		if s.n >= smallExtent && inPage(s.off-s.src) != 0 {
			n += s.n
		}
	}
	return n
}

// scattered gives each part a window of its own, placed so that its pages can be
// mapped.
func scattered(segs []segment, parts []window) layout {
	many := layout{windows: slices.Clone(parts)}
	at := int64(0)
	for i := range many.windows {
		w := &many.windows[i]
		w.at = at + phase(slices.Collect(clip(segs, w.from, w.to)))
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
	weight := make(map[int64]int64)
	for _, s := range segs {
		weight[inPage(s.src-(s.off-segs[0].off))] += s.n
	}
	best := int64(0)
	for p, n := range weight {
		if n > weight[best] || n == weight[best] && p < best {
			best = p
		}
	}
	return best
}

// A page's size is a power of two. inPage returns where in its page byte n is.
func inPage(n int64) int64   { return n & (mmap.PageSize() - 1) }
func pageDown(n int64) int64 { return n - inPage(n) }
func pageUp(n int64) int64   { return pageDown(n + mmap.PageSize() - 1) }

// clip yields what of segs lies in [from, to).
func clip(segs []segment, from, to int64) iter.Seq[segment] {
	return func(yield func(segment) bool) {
		i, found := slices.BinarySearchFunc(segs, from, func(s segment, off int64) int { return cmp.Compare(s.off, off) })
		if !found {
			i = max(i-1, 0)
		}
		for ; i < len(segs) && segs[i].off < to; i++ {
			s := segs[i]
			lo, hi := max(s.off, from), min(s.off+s.n, to)
			if lo < hi && !yield(segment{lo, hi - lo, s.blob, s.src + lo - s.off}) {
				return
			}
		}
	}
}

// fill finds the pieces for the windows. It goes over the segments three times
// rather than keep what it found: there may be as many as a tensor has rows.
func (l *layout) fill(segs []segment) {
	var mapped []piece
	under := make([]*piece, len(l.windows))
	for i, w := range l.windows {
		if w.from == w.to {
			continue
		}
		l.size = max(l.size, pageUp(w.at+w.to-w.from))
		if u, ok := underlay(mappable(w, segs, i)); ok {
			l.under, under[i] = append(l.under, u), &u
		}
		for p := range mappable(w, segs, i) {
			if p.n >= smallExtent && !under[i].shows(p) {
				mapped = append(mapped, p)
			}
		}
	}
	for limit := int64(2 * smallExtent); len(mapped) > maxPieces; limit *= 2 {
		mapped = slices.DeleteFunc(mapped, func(p piece) bool { return p.n < limit })
	}
	l.over = make([]piece, 0, len(mapped)+len(segs)/2)
	for i, w := range l.windows {
		if w.from < w.to {
			l.lay(i, mappable(w, segs, i), mapped, under[i])
		}
	}
}

// shows reports whether p shows through the underlay u, which may be nil.
func (u *piece) shows(p piece) bool {
	return u != nil && u.blob == p.blob && u.at-u.src == p.at-p.src
}

// mappable yields the ranges of whole pages of w whose bytes all come from pages of
// one blob.
func mappable(w window, segs []segment, win int) iter.Seq[piece] {
	return func(yield func(piece) bool) {
		for s := range clip(segs, w.from, w.to) {
			start := w.at + s.off - w.from
			end := start + s.n
			if inPage(start-s.src) != 0 {
				continue
			}
			lo, hi := pageUp(start), pageDown(end)
			if s.off == w.from {
				lo = pageDown(start)
			}
			if s.off+s.n == w.to {
				hi = pageUp(end)
			}
			if lo < hi && !yield(piece{lo, hi - lo, s.blob, s.src - start + lo, win}) {
				return
			}
		}
	}
}

// underlay returns the piece that, mapped from the first to the last place where
// its blob shows through, saves the most mappings: the base.
func underlay(pieces iter.Seq[piece]) (u piece, ok bool) {
	type key struct {
		blob  *blob
		shift int64
	}
	sum := make(map[key]int64)
	var best, last key
	run := int64(0) // of last, not in sum yet: most pieces are the base's
	for p := range pieces {
		k := key{p.blob, p.at - p.src}
		if k != last {
			sum[last] += run
			last, run = k, 0
		}
		run += p.n
		if sum[k]+run > sum[best] {
			best = k
		}
	}
	if best.blob == nil {
		return u, false
	}
	u = piece{at: -1, blob: best.blob}
	for p := range pieces {
		if p.blob == best.blob && p.at-p.src == best.shift {
			if u.at < 0 {
				u.at, u.src, u.win = p.at, p.src, p.win
			}
			u.n = p.at + p.n - u.at
		}
	}
	return u, true
}

// lay adds the pieces of window i, in order: those that are mapped, and copies of
// what neither they nor the underlay show rightly.
func (l *layout) lay(i int, pages iter.Seq[piece], mapped []piece, under *piece) {
	w := l.windows[i]
	at := pageDown(w.at)
	add := func(to int64) {
		if at < to {
			l.over = append(l.over, piece{at: at, n: to - at, win: i})
			l.copied += to - at
		}
	}
	for p := range pages {
		if !under.shows(p) {
			if _, ok := search(mapped, p.at); !ok {
				continue
			}
			add(p.at)
			l.over = append(l.over, p)
		} else {
			add(p.at)
		}
		at = p.at + p.n
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
		if p.blob != nil || l.below(p) == nil {
			n += 2
		}
	}
	return n
}
