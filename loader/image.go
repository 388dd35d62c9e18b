package loader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/quadnine/quadnine/loader/delta"
)

// blob is a file of a version: a full safetensors file or a delta.
type blob struct {
	f    *os.File
	name string // for people
	size int64
}

// image is a version that was read and checked: what to map. It does not change
// once built, but for durable.
type image struct {
	manifest *delta.Manifest
	origin   origin
	dir      string // in the store
	blob     *blob
	delta    *delta.Delta // nil for a full file
	base     *image       // nil for a full file
	size     int64        // of the whole version
	segments []segment
	tensors  []delta.Tensor
	byName   map[string]int
	parts    []window    // header and tensors, in file order
	summed   string      // SHA-256 of the blob, when it was compared on its way in
	durable  atomic.Bool // it and what it is made of is on disk for good
}

func (im *image) number() uint64 { return im.manifest.Version }

// String returns "model@number".
func (im *image) String() string { return fmt.Sprintf("%s@%d", im.manifest.Model, im.number()) }

// build fills in what follows from manifest, blob, delta and base.
func (im *image) build() error {
	if im.delta == nil {
		im.size = im.blob.size
		im.segments = []segment{{0, im.size, im.blob, 0}}
	} else {
		if err := im.checkBase(); err != nil {
			return err
		}
		im.size = im.delta.Header.TargetSize
		im.segments = compose(im.base.segments, im.delta, im.blob)
	}
	if im.sameHeader() {
		im.tensors, im.byName, im.parts = im.base.tensors, im.base.byName, im.base.parts
		return nil
	}
	st, err := delta.ParseSafetensors(im, im.size)
	if err != nil {
		return fmt.Errorf("%s: %w", im.blob.name, err)
	}
	im.tensors = st.Tensors
	im.byName = make(map[string]int, len(st.Tensors))
	im.parts = append(im.parts, window{from: 0, to: st.DataOff})
	for i, t := range st.Tensors {
		im.byName[t.Name] = i
		if t.Len > 0 {
			im.parts = append(im.parts, window{from: t.Off, to: t.Off + t.Len})
		}
	}
	return nil
}

// sameHeader reports whether the delta leaves the base's header as it is, which
// saves reading it again: then all tensors lie where the base's do.
func (im *image) sameHeader() bool {
	if im.delta == nil || im.size != im.base.size {
		return false
	}
	e := &im.delta.Entries[0]
	return e.Kind == delta.Ref && e.BaseOff == 0 && e.Len >= im.base.parts[0].to
}

func (im *image) checkBase() error {
	h := &im.delta.Header
	err := im.manifest.CheckHeader(h)
	if im.origin.Flat { // it has another base than the one that the manifest speaks of
		err = nil
		if h.TargetRoot != im.manifest.TargetRoot {
			err = &delta.MismatchError{What: "the target", Who: "the manifest", Got: h.TargetRoot, Want: im.manifest.TargetRoot}
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", im.blob.name, err)
	}
	if im.base == nil || h.BaseRoot != im.base.manifest.TargetRoot || h.BaseSize != im.base.size {
		return fmt.Errorf("%s: %w", im.blob.name, errBaseMissing)
	}
	return nil
}

// ReadAt reads the version's bytes from the files.
func (im *image) ReadAt(p []byte, off int64) (int, error) {
	n := int64(len(p))
	if off < 0 || off > im.size {
		return 0, io.EOF
	}
	short := n > im.size-off
	if short {
		n = im.size - off
	}
	if err := read(im.segments, p[:n], off); err != nil {
		return 0, err
	}
	if short {
		return int(n), io.EOF
	}
	return int(n), nil
}

// chain yields im and every image below it.
func (im *image) chain(yield func(*image) bool) {
	for ; im != nil; im = im.base {
		if !yield(im) {
			return
		}
	}
}

// compose returns the segments of a target: the base's own ones where the delta
// refers to it, so that a chain of deltas costs no more than one.
func compose(base []segment, d *delta.Delta, b *blob) []segment {
	out := make([]segment, 0, len(base)+d.Header.Entries+2*(d.Header.Extents+d.Header.Rows))
	add := func(s segment) {
		if n := len(out); n > 0 {
			l := &out[n-1]
			if l.blob == s.blob && l.src+l.n == s.src && l.off+l.n == s.off {
				l.n += s.n
				return
			}
		}
		out = append(out, s)
	}
	for i := range d.Entries {
		e := &d.Entries[i]
		for r := range e.Runs {
			if r.Shipped {
				add(segment{e.TargetOff + r.Off, r.Len, b, d.Header.PayloadOffset + r.Src})
				continue
			}
			for s := range clip(base, r.Src, r.Src+r.Len) {
				add(segment{e.TargetOff + r.Off + s.off - r.Src, s.n, s.blob, s.src})
			}
		}
	}
	return out
}

// prove checks the whole version as it is mapped: against the base's leaves and
// the blocks that changed, or, for a full file, which was hashed on its way in,
// against its own leaves. It returns the leaves and the bytes that were read.
func (im *image) prove(ctx context.Context, v *Version, baseLeaves, own delta.Leaves, o delta.Options) (delta.Leaves, int64, error) {
	leaves, n := own, int64(0)
	if im.delta != nil {
		var err error
		leaves, n, err = im.delta.TargetLeaves(ctx, baseLeaves, mapped{v}, o)
		if err != nil {
			return nil, n, fmt.Errorf("whole-version proof: %w", err)
		}
	}
	if err := im.checkLeaves(leaves, "the version"); err != nil {
		if _, mismatch := errors.AsType[*delta.MismatchError](err); !mismatch {
			err = fmt.Errorf("whole-version proof: %w", err)
		}
		return nil, n, err
	}
	return leaves, n, nil
}

// checkLeaves holds the leaves of the whole version against what its manifest
// says; what names the version in the error.
func (im *image) checkLeaves(leaves delta.Leaves, what string) error {
	got, err := delta.RootFromLeaves(im.size, leaves)
	if err != nil {
		return err
	}
	if want := im.manifest.TargetRoot; got != want {
		return &delta.MismatchError{What: what, Who: "the manifest", Got: got, Want: want}
	}
	return nil
}
