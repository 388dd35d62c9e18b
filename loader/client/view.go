package client

import (
	"cmp"
	"io"
	"slices"

	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/loader/wire"
)

// View reads a version's bytes. It is good only inside the With that gave it.
type View struct{ v *version }

// Info returns what is viewed.
func (w View) Info() *Info { return &w.v.info }

// Tensors returns the tensors in file order. The slice is shared: do not change
// it.
func (w View) Tensors() []delta.Tensor { return w.v.file.Tensors }

// Tensor returns the type and the little-endian bytes of a tensor.
func (w View) Tensor(name string) (dtype string, data []byte, ok bool) {
	t, ok := w.v.file.Tensor(name)
	if !ok {
		return "", nil, false
	}
	b, ok := w.bytes(t.Off, t.Len)
	return t.DType, b, ok
}

// Contiguous returns the whole safetensors file's bytes, or false when the
// version's pieces do not fit together page by page: then there are only tensors.
func (w View) Contiguous() ([]byte, bool) { return w.bytes(0, w.v.info.Size) }

// bytes returns n bytes of the file from off on, when one window holds them all.
func (w View) bytes(off, n int64) ([]byte, bool) {
	if n == 0 {
		return nil, true
	}
	at, room, ok := w.v.at(off)
	if !ok || n > room {
		return nil, false
	}
	b, err := w.v.region.Bytes(at, n)
	return b, err == nil
}

// at returns where in the region byte off of the version is, and how many bytes
// follow it there.
func (v *version) at(off int64) (at, room int64, ok bool) {
	i, found := slices.BinarySearchFunc(v.windows, off, func(w wire.Window, off int64) int { return cmp.Compare(w.From, off) })
	if !found {
		i--
	}
	if i < 0 || off >= v.windows[i].To {
		return 0, 0, false
	}
	w := v.windows[i]
	return w.At + off - w.From, w.To - off, true
}

// Size returns the version's size; with ReadAt it makes v what is checked.
func (v *version) Size() int64 { return v.info.Size }

// ReadAt copies bytes out of the mapping, wherever they lie. A fault is an error.
func (v *version) ReadAt(p []byte, off int64) (n int, err error) {
	err = v.region.Guarded(func() error {
		for n < len(p) {
			at, room, ok := v.at(off + int64(n))
			if !ok {
				return io.EOF
			}
			b, err := v.region.Bytes(at, min(room, int64(len(p)-n)))
			if err != nil {
				return err
			}
			n += copy(p[n:], b)
		}
		return nil
	})
	return n, err
}
