package delta

import (
	"errors"
	"io"
	"sort"
)

// gather is a payload that is read out of other files, piece by piece, zeros in
// between.
type gather struct {
	pieces []piece // by offset
	size   int64
}

// piece is n bytes of the payload: those of src from byte from on, or, with rows,
// those of the rows that it names of the array that begins there.
type piece struct {
	off, n  int64
	src     io.ReaderAt
	from    int64
	rows    []uint32
	rowSize int64
}

func (g *gather) add(off int64, src io.ReaderAt, from, n int64) {
	g.put(piece{off: off, n: n, src: src, from: from})
}

func (g *gather) addRows(off int64, src io.ReaderAt, from, rowSize int64, rows []uint32) {
	g.put(piece{off, int64(len(rows)) * rowSize, src, from, rows, rowSize})
}

func (g *gather) put(p piece) {
	g.pieces = append(g.pieces, p)
	g.size = p.off + p.n
}

// Size returns how long the payload is.
func (g *gather) Size() int64 { return g.size }

// ReadAt reads the payload, as io.ReaderAt says.
func (g *gather) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	i := sort.Search(len(g.pieces), func(i int) bool { return g.pieces[i].off+g.pieces[i].n > off })
	for ; n < len(p) && i < len(g.pieces); i++ {
		x := &g.pieces[i]
		at := off + int64(n)
		if at < x.off {
			m := int(min(x.off-at, int64(len(p)-n)))
			clear(p[n : n+m])
			n += m
			at += int64(m)
		}
		b := p[n : n+int(min(int64(len(p)-n), x.off+x.n-at))]
		if err := x.read(b, at-x.off); err != nil {
			return n, err
		}
		n += len(b)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// read fills b with the piece's bytes from in on.
func (x *piece) read(b []byte, in int64) error {
	if x.rows == nil {
		return readFull(x.src, b, x.from+in)
	}
	for len(b) > 0 {
		i, skip := in/x.rowSize, in%x.rowSize
		n := min(int64(len(b)), x.rowSize-skip)
		if err := readFull(x.src, b[:n], x.from+int64(x.rows[i])*x.rowSize+skip); err != nil {
			return err
		}
		b, in = b[n:], in+n
	}
	return nil
}
