package delta

import (
	"bytes"
	"context"
	"fmt"
	"math/bits"
)

// A region that changed for more than 7/8 is shipped whole: it then costs the
// base's mapping nothing, and one mapping instead of many.
const wholeNumerator, wholeDenominator = 7, 8

// Plan is the difference between two versions, before it is written.
type Plan struct {
	Entries []Entry
	Report  Report

	header  Header
	payload gather
	base    Sized  // nil: the target is not proved once more
	leaves  Leaves // of base
}

// Diff compares base and target. When both are safetensors files, tensors of one
// name are compared with one another, wherever they lie; otherwise the files are
// compared page by page. Each tensor is written in the way that costs least to
// bring in: REF, PAGES, ROWS or WHOLE; the result does not depend on o.Workers.
//
// Memory, beside what the plan says: 64 bytes of hashes a block of 16 KiB, a bit a
// page and a bit a row (at most 1/512 of the tensors), half a MiB a worker.
// Progress counts base and target for hashing and the
// target once more for comparing.
func Diff(ctx context.Context, base, target Sized, o Options) (*Plan, error) {
	if base.Size() > maxSize || target.Size() > maxSize {
		return nil, fmt.Errorf("base and target have %d and %d bytes, at most %d are allowed", base.Size(), target.Size(), int64(maxSize))
	}
	d := differ{base: base, target: target}
	var err error
	if d.baseLeaves, err = LeavesOf(ctx, base, o); err != nil {
		return nil, fmt.Errorf("base: %w", err)
	}
	if d.targetLeaves, err = LeavesOf(ctx, target, o); err != nil {
		return nil, fmt.Errorf("target: %w", err)
	}
	p := &Plan{base: base, leaves: d.baseLeaves, header: Header{
		BaseSize: base.Size(), BaseRoot: rootOf(base.Size(), d.baseLeaves),
		TargetSize: target.Size(), TargetRoot: rootOf(target.Size(), d.targetLeaves),
	}}
	p.Report.ByTensor = d.match(&p.Report)
	if err := d.compare(ctx, o); err != nil {
		return nil, err
	}
	for i := range d.regions {
		for _, e := range d.regions[i].entries() {
			p.add(e, target)
		}
	}
	p.finish()
	return p, nil
}

// differ is one comparison under way.
type differ struct {
	base, target             Sized
	baseLeaves, targetLeaves Leaves
	regions                  []region // cover the target
}

// match pairs the target's regions with the base's, and reports whether by
// tensor.
func (d *differ) match(r *Report) bool {
	b, errBase := ParseSafetensors(d.base, d.base.Size())
	t, errTarget := ParseSafetensors(d.target, d.target.Size())
	if errBase != nil || errTarget != nil {
		d.region("", 0, d.target.Size(), 0, d.base.Size(), 0)
		return false
	}
	// A header of another length has shifted: its pages would not match anyway.
	if t.DataOff == b.DataOff {
		d.region("", 0, t.DataOff, 0, b.DataOff, 0)
	} else {
		d.region("", 0, t.DataOff, 0, 0, 0)
	}
	for _, x := range t.Tensors {
		y, _ := b.Tensor(x.Name)
		d.region(x.Name, x.Off, x.Len, y.Off, y.Len, rowBytes(&x, &y))
	}
	for _, y := range b.Tensors {
		if _, ok := t.Tensor(y.Name); !ok {
			r.Removed = append(r.Removed, y.Name)
		}
	}
	return true
}

// region notes that target bytes are to be compared with base bytes, as far as
// both reach; rows of rowSize bytes may change by themselves, 0: there are none.
func (d *differ) region(name string, off, n, baseOff, baseLen, rowSize int64) {
	if n == 0 {
		return
	}
	r := region{name: name, off: off, len: n, baseOff: baseOff, common: min(n, baseLen)}
	if r.common > 0 {
		r.changed = make([]uint64, (r.pages()+63)/64)
	}
	if rowSize > 0 && r.common > rowSize && r.common%rowSize == 0 && r.common/rowSize <= 1<<32 {
		r.rowSize, r.rows = rowSize, make([]uint64, (r.common/rowSize+63)/64)
	}
	d.regions = append(d.regions, r)
}

// buffers are a worker's two halves of a comparison: 64 pages each, one word of
// a region's bits, so that workers never share one.
type buffers struct{ base, target []byte }

// compare finds the changed pages of all regions.
func (d *differ) compare(ctx context.Context, o Options) error {
	type span struct {
		r    *region
		word int64
	}
	var total int64
	first := make([]int64, len(d.regions)) // of each region's words
	for i := range d.regions {
		first[i] = total
		total += int64(len(d.regions[i].changed))
	}
	find := func(n int64) span {
		lo, hi := 0, len(first)-1
		for lo < hi { // the last region that begins at or before n and has words
			mid := (lo + hi + 1) / 2
			if first[mid] <= n {
				lo = mid
			} else {
				hi = mid - 1
			}
		}
		for len(d.regions[lo].changed) == 0 {
			lo--
		}
		return span{&d.regions[lo], n - first[lo]}
	}
	start := func() buffers { return buffers{make([]byte, 64*PageSize), make([]byte, 64*PageSize)} }
	return each(ctx, o, total, start, func(buffers) {}, func(b buffers, n int64) error {
		s := find(n)
		from, to := s.r.span(s.word * 64)
		_, to2 := s.r.span(min(s.word*64+63, s.r.pages()-1))
		to = max(to, to2)
		o.done(to - from)
		if d.sameLeaves(s.r.baseOff+from, s.r.off+from, to-from) {
			return nil
		}
		x, y := b.base[:to-from], b.target[:to-from]
		if err := readFull(d.base, x, s.r.baseOff+from); err != nil {
			return fmt.Errorf("base: %w", err)
		}
		if err := readFull(d.target, y, s.r.off+from); err != nil {
			return fmt.Errorf("target: %w", err)
		}
		for page := s.word * 64; page < min(s.word*64+64, s.r.pages()); page++ {
			a, z := s.r.span(page)
			if !bytes.Equal(x[a-from:z-from], y[a-from:z-from]) {
				s.r.changed[s.word] |= 1 << (page & 63)
				s.r.markRows(a, x[a-from:z-from], y[a-from:z-from])
			}
		}
		return nil
	})
}

// sameLeaves reports whether the leaves prove n bytes equal.
func (d *differ) sameLeaves(baseOff, off, n int64) bool {
	if (baseOff-off)%BlockSize != 0 {
		return false
	}
	for i, j := off/BlockSize, baseOff/BlockSize; i*BlockSize < off+n; i, j = i+1, j+1 {
		if !bytes.Equal(d.targetLeaves.At(i), d.baseLeaves.At(j)) {
			return false
		}
	}
	return true
}

// region is a stretch of the target with what it is compared to.
type region struct {
	name     string
	off, len int64 // in the target
	baseOff  int64
	common   int64    // how much of it the base has; 0: nothing
	changed  []uint64 // a bit for each page of the base that the common part touches
	rowSize  int64    // 0: it has no rows
	rows     []uint64 // a bit for each row of the common part; set atomically, as workers may share a word
}

// pages returns how many pages of the base the common part touches.
func (r *region) pages() int64 {
	return (alignUp(r.baseOff+r.common) - r.baseOff&^(PageSize-1)) / PageSize
}

// span returns where page i lies in the region.
func (r *region) span(i int64) (from, to int64) {
	first := r.baseOff&^(PageSize-1) - r.baseOff // 0 or less
	return max(first+i*PageSize, 0), min(first+(i+1)*PageSize, r.common)
}

func (r *region) isChanged(page int64) bool { return r.changed[page/64]>>(page&63)&1 != 0 }

// entries turns what changed into entries that cover the region.
func (r *region) entries() []Entry {
	pages := r.byPages()
	if rows := r.byRows(); rows != nil {
		return cheapest(pages, rows)
	}
	return pages
}

// byPages writes the region as REF, PAGES and WHOLE.
func (r *region) byPages() []Entry {
	var list []Entry
	add := func(e Entry) {
		if e.Len == 0 {
			return
		}
		e.Name = r.name
		if n := len(list); n > 0 && list[n-1].Kind == e.Kind && e.Kind != Pages {
			list[n-1].Len += e.Len
			return
		}
		list = append(list, e)
	}
	edge := func(from, to int64, changed bool) {
		if changed {
			add(Entry{Kind: Whole, TargetOff: r.off + from, Len: to - from})
		} else {
			add(Entry{Kind: Ref, TargetOff: r.off + from, Len: to - from, BaseOff: r.baseOff + from})
		}
	}
	switch n := r.count(); {
	case r.common == 0:
	case n == 0:
		edge(0, r.common, false)
	case n*wholeDenominator > r.pages()*wholeNumerator:
		edge(0, r.common, true)
	default:
		// Only whole pages of the base can be mapped over: the edges go by themselves.
		first, last := int64(0), r.pages()
		from, to := int64(0), r.common
		if r.baseOff%PageSize != 0 {
			_, from = r.span(0)
			edge(0, from, r.isChanged(0))
			first++
		}
		if last > first && (r.baseOff+r.common)%PageSize != 0 {
			last--
			to, _ = r.span(last)
		}
		extents := r.extents(first, last, from)
		if len(extents) == 0 {
			edge(from, to, false)
		} else {
			add(Entry{Kind: Pages, TargetOff: r.off + from, Len: to - from, BaseOff: r.baseOff + from, Extents: extents})
		}
		if to < r.common {
			edge(to, r.common, r.isChanged(last))
		}
	}
	edge(r.common, r.len, true)
	return list
}

func (r *region) count() (n int64) {
	for _, w := range r.changed {
		n += int64(bits.OnesCount64(w))
	}
	return n
}

// extents returns the runs of changed pages in [first, last), counted from byte
// from of the region. Adjacent pages share an extent; a gap of one page or more
// is worth its own mapping (joining over gaps nearly doubled the bytes of
// scattered rows).
func (r *region) extents(first, last, from int64) []Extent {
	var list []Extent
	for page := first; page < last; page++ {
		if !r.isChanged(page) {
			continue
		}
		a, z := r.span(page)
		if n := len(list); n > 0 && list[n-1].Off+list[n-1].Len == a-from {
			list[n-1].Len += z - a
			continue
		}
		list = append(list, Extent{Off: a - from, Len: z - a})
	}
	return list
}
