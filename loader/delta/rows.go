package delta

import "sort"

// Run is a stretch of an entry whose bytes come from one place.
type Run struct {
	Off, Len int64 // from the entry's first byte
	Shipped  bool  // from the payload; otherwise from the base
	Src      int64 // in the payload or the base
}

// Runs yields the runs that cover e, in order. Rows that follow one another are
// one run.
func (e *Entry) Runs(yield func(Run) bool) {
	if e.Kind == Whole {
		yield(Run{0, e.Len, true, e.PayloadOff})
		return
	}
	done := int64(0)
	shipped := func(off, n, src int64) bool {
		if done < off && !yield(Run{done, off - done, false, e.BaseOff + done}) {
			return false
		}
		done = off + n
		return yield(Run{off, n, true, src})
	}
	for _, x := range e.Extents {
		if !shipped(x.Off, x.Len, x.PayloadOff) {
			return
		}
	}
	for i := 0; i < len(e.Rows); {
		n := 1
		for i+n < len(e.Rows) && e.Rows[i+n] == e.Rows[i]+uint32(n) {
			n++
		}
		if !shipped(int64(e.Rows[i])*e.RowSize, int64(n)*e.RowSize, e.PayloadOff+int64(i)*e.RowSize) {
			return
		}
		i += n
	}
	if done < e.Len {
		yield(Run{done, e.Len - done, false, e.BaseOff + done})
	}
}

// from returns where byte in of e comes from and what follows it there.
func (e *Entry) from(in int64) Run {
	base := func(end int64) Run { return Run{in, end - in, false, e.BaseOff + in} }
	payload := func(off, n, src int64) Run { return Run{in, off + n - in, true, src + in - off} }
	switch e.Kind {
	case Whole:
		return payload(0, e.Len, e.PayloadOff)
	case Pages:
		x := sort.Search(len(e.Extents), func(i int) bool { return e.Extents[i].Off+e.Extents[i].Len > in })
		switch {
		case x == len(e.Extents):
		case in < e.Extents[x].Off:
			return base(e.Extents[x].Off)
		default:
			return payload(e.Extents[x].Off, e.Extents[x].Len, e.Extents[x].PayloadOff)
		}
	case Rows:
		x := e.row(in)
		switch {
		case x == len(e.Rows):
		case in < int64(e.Rows[x])*e.RowSize:
			return base(int64(e.Rows[x]) * e.RowSize)
		default:
			return payload(int64(e.Rows[x])*e.RowSize, e.RowSize, e.PayloadOff+int64(x)*e.RowSize)
		}
	case Ref:
	}
	return base(e.Len)
}

// row returns the index of the first changed row that ends behind byte in.
func (e *Entry) row(in int64) int {
	return sort.Search(len(e.Rows), func(i int) bool { return (int64(e.Rows[i])+1)*e.RowSize > in })
}

// rows checks a ROWS entry. The order is checked before the sizes are multiplied:
// what ascends below Len/RowSize cannot overflow.
func (c *checker) rows(e *Entry) error {
	switch {
	case len(e.Rows) == 0:
		return malformed("ROWS has no rows, want at least one")
	case e.RowSize <= 0 || e.RowSize > e.Len || e.Len%e.RowSize != 0:
		return malformed("length %d is no whole number of rows of %d bytes", e.Len, e.RowSize)
	}
	next := int64(0)
	for i, r := range e.Rows {
		if int64(r) < next {
			return malformed("row number %d is %d, after %d: want them ascending", i, r, next-1)
		}
		next = int64(r) + 1
	}
	if have := e.Len / e.RowSize; next > have {
		return malformed("row number %d is %d, of %d rows", len(e.Rows)-1, next-1, have)
	}
	return c.take(e.PayloadOff, int64(len(e.Rows))*e.RowSize)
}
