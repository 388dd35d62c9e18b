package loader

import (
	"fmt"
	"io"

	"github.com/quadnine/quadnine/loader/delta"
)

// View reads a version's bytes. It is good only inside the With that gave it.
type View struct{ v *Version }

// Info returns what is viewed.
func (w View) Info() *Info { return &w.v.info }

// Tensors returns the tensors in file order. The slice is shared: do not change
// it.
func (w View) Tensors() []delta.Tensor { return w.v.image.tensors }

// Tensor returns the type and the little-endian bytes of a tensor.
func (w View) Tensor(name string) (dtype string, data []byte, ok bool) {
	i, ok := w.v.image.byName[name]
	if !ok {
		return "", nil, false
	}
	t := &w.v.image.tensors[i]
	b, ok := w.bytes(t.Off, t.Len)
	return t.DType, b, ok
}

// Again returns a function that looks at the version's tensors later on, from
// anywhere and as often as wanted: each call is a With under a lease of its own,
// and an error once the version is freed. It allocates nothing.
func (w View) Again() func(f func(tensor func(name string) (dtype string, data []byte, ok bool)) error) error {
	v, tensor := w.v, w.Tensor
	return func(f func(func(string) (string, []byte, bool)) error) error {
		if !v.acquire() {
			return fmt.Errorf("loader: %s: %w", &v.info, ErrRevoked)
		}
		defer v.release()
		return v.with(func(View) error { return f(tensor) })
	}
}

// Contiguous returns the whole file's bytes, or false when the version's pieces
// do not fit together page by page: then there are only tensors.
func (w View) Contiguous() ([]byte, bool) {
	if !w.v.layout.contiguous {
		return nil, false
	}
	b, err := w.v.region.Bytes(0, w.v.info.Size)
	return b, err == nil
}

// bytes returns n bytes of the file from off on, when one window holds them all.
func (w View) bytes(off, n int64) ([]byte, bool) {
	if n == 0 {
		return nil, true
	}
	at, room, ok := w.v.layout.at(off)
	if !ok || n > room {
		return nil, false
	}
	b, err := w.v.region.Bytes(at, n)
	return b, err == nil
}

// mapped reads a version's bytes from its mapping, wherever they lie: what is
// proved is what will be served.
type mapped struct{ v *Version }

// Size returns the version's size.
func (m mapped) Size() int64 { return m.v.info.Size }

// ReadAt copies bytes out of the mapping. A fault is an error.
func (m mapped) ReadAt(p []byte, off int64) (n int, err error) {
	err = m.v.region.Guarded(func() error {
		for n < len(p) {
			at, room, ok := m.v.layout.at(off + int64(n))
			if !ok {
				return io.EOF
			}
			b, err := m.v.region.Bytes(at, min(room, int64(len(p)-n)))
			if err != nil {
				return err
			}
			n += copy(p[n:], b)
		}
		return nil
	})
	return n, err
}
