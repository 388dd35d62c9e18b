package delta

// flatRegion is a tensor of a flattened chain: what is shipped, in runs, and what
// is the base's.
type flatRegion struct {
	name     string
	off, end int64 // in the target
	base     []stretch
	shipped  []span
	shifts   map[int64]bool // from the target to the base; one, unless the chain moved parts of the tensor
}

type span struct{ from, to int64 }

// whole writes [from, to) as WHOLE.
func (r *flatRegion) whole(list []Entry, from, to int64) []Entry {
	if from < to {
		list = append(list, Entry{Kind: Whole, Name: r.name, TargetOff: from, Len: to - from})
	}
	return list
}

// ref writes [from, to), which begins in s, as REF.
func (r *flatRegion) ref(list []Entry, from, to int64, s stretch) []Entry {
	if from < to {
		list = append(list, Entry{Kind: Ref, Name: r.name, TargetOff: from, Len: to - from, BaseOff: s.src + from - s.off})
	}
	return list
}

// plain writes the region as REF and WHOLE, which can say everything.
func (r *flatRegion) plain() (list []Entry) {
	shipped := r.shipped
	for _, s := range r.base {
		for len(shipped) > 0 && shipped[0].from < s.off {
			list = r.whole(list, shipped[0].from, shipped[0].to)
			shipped = shipped[1:]
		}
		list = r.ref(list, s.off, s.end(), s)
	}
	for _, s := range shipped {
		list = r.whole(list, s.from, s.to)
	}
	return list
}

// middle returns the range from the first byte of the base to the last one, and
// the runs shipped within; ok is false when that is not one stretch of the base
// with holes.
func (r *flatRegion) middle() (from, to int64, holes []span, ok bool) {
	if len(r.base) == 0 || len(r.shifts) != 1 {
		return 0, 0, nil, false
	}
	from, to = r.base[0].off, r.base[len(r.base)-1].end()
	for _, s := range r.shipped {
		if s.from > from && s.to < to {
			holes = append(holes, s)
		}
	}
	return from, to, holes, len(holes) > 0
}

// byPages writes the region with PAGES, or returns nil when its runs are no whole
// pages of the base.
func (r *flatRegion) byPages() []Entry {
	from, to, holes, ok := r.middle()
	if !ok {
		return nil
	}
	shift := r.base[0].src - r.base[0].off
	start := alignUp(from+shift) - shift // of the PAGES entry
	if start > r.base[0].end() {
		return nil
	}
	e := Entry{Kind: Pages, Name: r.name, TargetOff: start, Len: to - start, BaseOff: start + shift}
	for _, s := range holes {
		if (s.from+shift)%PageSize != 0 || (s.to+shift)%PageSize != 0 {
			return nil
		}
		e.Extents = append(e.Extents, Extent{Off: s.from - start, Len: s.to - s.from})
	}
	list := r.whole(nil, r.off, from)
	list = r.ref(list, from, start, r.base[0])
	return r.whole(append(list, e), to, r.end)
}

// byRows writes the region with ROWS of size bytes, counted from its first byte,
// or returns nil when its runs are no whole rows. What is shipped before the first
// and behind the last byte of the base goes by itself.
func (r *flatRegion) byRows(size int64) []Entry {
	from, to, holes, ok := r.middle()
	if !ok || size <= 0 || (from-r.off)%size != 0 || (to-from)%size != 0 || (to-from)/size > 1<<32 {
		return nil
	}
	e := Entry{Kind: Rows, Name: r.name, TargetOff: from, Len: to - from, BaseOff: r.base[0].src, RowSize: size}
	for _, s := range holes {
		if (s.from-from)%size != 0 || (s.to-from)%size != 0 {
			return nil
		}
		for row := (s.from - from) / size; row < (s.to-from)/size; row++ {
			e.Rows = append(e.Rows, uint32(row))
		}
	}
	list := r.whole(nil, r.off, from)
	return r.whole(append(list, e), to, r.end)
}
