package patch

import (
	"cmp"
	"fmt"
	"io"
	"slices"
)

// sized is bytes that can be read from anywhere, and their number.
type sized interface {
	io.ReaderAt
	Size() int64
}

// Segment says that N bytes of the base, from byte Off on, are those of a file
// from byte Src on. File is an index into Files.Base.
type Segment struct {
	Off  int64 `json:"off"`
	N    int64 `json:"n"`
	File int   `json:"file"`
	Src  int64 `json:"src"`
}

// base is a version put together from the files that it lies in.
type base struct {
	segs  []Segment
	files []io.ReaderAt
	size  int64
}

// newBase checks that the segments cover a version from its first byte on.
func newBase(segs []Segment, files []io.ReaderAt) (*base, error) {
	b := &base{segs: segs, files: files}
	for i, s := range segs {
		if s.Off != b.size || s.N <= 0 || s.N > maxTarget || s.Src < 0 || s.File < 0 || s.File >= len(files) {
			return nil, fmt.Errorf("segment %d of the base, %+v, does not go on at byte %d of %d files", i, s, b.size, len(files))
		}
		b.size += s.N
	}
	return b, nil
}

// Size returns the bytes of the version.
func (b *base) Size() int64 { return b.size }

// ReadAt reads the version's bytes, as io.ReaderAt says.
func (b *base) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("byte %d of the base", off)
	}
	i, found := slices.BinarySearchFunc(b.segs, off, func(s Segment, off int64) int { return cmp.Compare(s.Off, off) })
	if !found {
		i--
	}
	for ; n < len(p) && i >= 0 && i < len(b.segs); i++ {
		s := b.segs[i]
		in := off + int64(n) - s.Off
		if in >= s.N {
			break // behind the last one
		}
		want := p[n:]
		want = want[:min(int64(len(want)), s.N-in)]
		m, err := b.files[s.File].ReadAt(want, s.Src+in)
		n += m
		if m < len(want) {
			return n, cutShort(err, s.Src+in+int64(m), s.Src+s.N)
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// plain returns the file that holds the whole base as it is, or -1.
func (b *base) plain() int {
	if len(b.segs) == 1 && b.segs[0].Src == 0 {
		return b.segs[0].File
	}
	return -1
}
