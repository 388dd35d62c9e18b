package delta

import (
	"bytes"
	"math/bits"
	"slices"
	"sync/atomic"
)

// A row is looked for between a cache line, below which its number weighs too
// much, and a block, above which pages are as good.
const minRow, maxRow = 64, BlockSize

// rowBytes returns the size of the rows in which target and base are compared:
// the longest end of their common shape with minRow to maxRow bytes. It is 0 when
// there is none, or when the two differ in more than their first dimension.
func rowBytes(target, base *Tensor) int64 {
	if target.DType != base.DType || len(target.Shape) < 2 || len(target.Shape) != len(base.Shape) ||
		!slices.Equal(target.Shape[1:], base.Shape[1:]) || target.Len == 0 {
		return 0
	}
	size, best := target.Len, int64(0)
	for _, n := range target.Shape[:len(target.Shape)-1] { // no dimension is 0: Len is not
		if size%n != 0 {
			break // less than a byte an element
		}
		size /= n
		if size >= minRow && size <= maxRow {
			best = max(best, size)
		}
	}
	return best
}

// markRows notes which rows differ between x and y, a page from byte off of the
// region on.
func (r *region) markRows(off int64, x, y []byte) {
	if r.rowSize == 0 {
		return
	}
	for len(x) > 0 {
		row := off / r.rowSize
		n := min(int64(len(x)), (row+1)*r.rowSize-off)
		if !bytes.Equal(x[:n], y[:n]) {
			atomic.OrUint64(&r.rows[row/64], 1<<(row&63))
		}
		x, y, off = x[n:], y[n:], off+n
	}
}

// byRows writes the region as ROWS, and WHOLE where the base does not reach. It
// returns nil when it has no rows, or none that changed.
func (r *region) byRows() []Entry {
	var rows []uint32
	for i, w := range r.rows {
		for ; w != 0; w &= w - 1 {
			rows = append(rows, uint32(i*64+bits.TrailingZeros64(w)))
		}
	}
	if rows == nil {
		return nil
	}
	list := []Entry{{Kind: Rows, Name: r.name, TargetOff: r.off, Len: r.common, BaseOff: r.baseOff, RowSize: r.rowSize, Rows: rows}}
	if r.common < r.len {
		list = append(list, Entry{Kind: Whole, Name: r.name, TargetOff: r.off + r.common, Len: r.len - r.common})
	}
	return list
}
