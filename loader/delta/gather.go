package delta

import (
	"errors"
	"io"
	"sort"
)

// gather is a payload that is read out of the target, piece by piece, zeros in
// between.
type gather struct {
	from   Sized
	pieces []piece // by offset
	size   int64
}

type piece struct{ off, from, len int64 }

func (g *gather) add(off, from, n int64) {
	g.pieces = append(g.pieces, piece{off, from, n})
	g.size = off + n
}

// Size returns how long the payload is.
func (g *gather) Size() int64 { return g.size }

// ReadAt reads the payload, as io.ReaderAt says.
func (g *gather) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	i := sort.Search(len(g.pieces), func(i int) bool { return g.pieces[i].off+g.pieces[i].len > off })
	for ; n < len(p) && i < len(g.pieces); i++ {
		x := g.pieces[i]
		at := off + int64(n)
		if at < x.off {
			m := int(min(x.off-at, int64(len(p)-n)))
			clear(p[n : n+m])
			n += m
			at += int64(m)
		}
		b := p[n : n+int(min(int64(len(p)-n), x.off+x.len-at))]
		if err := readFull(g.from, b, x.from+at-x.off); err != nil {
			return n, err
		}
		n += len(b)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
