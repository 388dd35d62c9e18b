package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/quadnine/quadnine/internal/mmap"
	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/loader/wire"
)

// offer is a version that is offered, as far as it has come.
type offer struct {
	head    *wire.Offer
	files   []*os.File
	windows []wire.Window
	pieces  []wire.Piece
}

// add takes a frame; o is nil before the first one. whole reports that it was the
// last.
func (o *offer) add(f wire.Frame) (_ *offer, whole bool, err error) {
	if (o == nil) != (f.Type == wire.TypeOffer) {
		closeAll(f.Files)
		return o, false, fmt.Errorf("the sidecar sends %v out of turn", f.Type)
	}
	switch f.Type {
	case wire.TypeOffer:
		o = new(offer)
		if o.head, err = wire.ParseOffer(f.Body); err != nil {
			return nil, false, err
		}
	case wire.TypeFiles:
		o.files = append(o.files, f.Files...)
	case wire.TypeWindows:
		o.windows, err = wire.ParseWindows(o.windows, f.Body)
	default:
		o.pieces, err = wire.ParsePieces(o.pieces, f.Body)
	}
	h := o.head
	if err == nil && (len(o.files) > h.Files || len(o.windows) > h.Windows || len(o.pieces) > h.Pieces) {
		err = fmt.Errorf("the sidecar sends %d files, %d windows, %d pieces for version %d, which has %d, %d, %d",
			len(o.files), len(o.windows), len(o.pieces), h.Version, h.Files, h.Windows, h.Pieces)
	}
	return o, err == nil && len(o.files) == h.Files && len(o.windows) == h.Windows && len(o.pieces) == h.Pieces, err
}

// discard closes what came.
func (o *offer) discard() {
	if o != nil {
		closeAll(o.files)
	}
}

// mapped maps the version and checks its root. On an error nothing stays mapped.
// The files are closed in either case.
func (o *offer) mapped(ctx context.Context, s *session) (_ *version, err error) {
	defer o.discard()
	h := o.head
	if err := h.Check(o.windows, o.pieces, mmap.PageSize()); err != nil {
		return nil, err
	}
	r, err := mmap.Reserve(h.Region)
	if err != nil {
		return nil, err
	}
	v := &version{
		info:    Info{Model: s.client.model, Number: h.Version, Root: h.Root, Size: h.Size, Sealed: h.Sealed},
		session: s, region: r, windows: o.windows, done: make(chan struct{}), freed: make(chan struct{}),
	}
	v.refs.Store(1)
	err = o.fill(r)
	if err == nil {
		err = v.check(ctx, o)
	}
	if err != nil {
		return nil, errors.Join(err, r.Unmap())
	}
	v.info.Private = r.Copied()
	s.client.note(v, true)
	return v, nil
}

// check hashes what was mapped and reads what it says of itself.
func (v *version) check(ctx context.Context, o *offer) error {
	region, err := o.shown()
	if err != nil {
		return err
	}
	v.shows = v.sources(region)
	old := v.session.client.current.Load().active
	if old != nil && old.acquire() {
		defer old.release()
	} else {
		old = nil
	}
	if v.leaves, v.info.Hashed, err = v.hash(ctx, old); err != nil {
		return err
	}
	got, err := delta.RootFromLeaves(v.info.Size, v.leaves)
	if err != nil {
		return err
	}
	if got != v.info.Root {
		return &delta.MismatchError{What: "what was mapped", Who: "the sidecar", Got: got, Want: v.info.Root}
	}
	v.file, err = delta.ParseSafetensors(v, v.info.Size)
	return err
}

// fill puts the pieces into the region: what is mapped in the given order, then
// what is copied over it, so that many copies make no more mappings.
func (o *offer) fill(r *mmap.Region) error {
	copies := slices.DeleteFunc(slices.Clone(o.pieces), func(p wire.Piece) bool { return p.Kind != wire.Copy })
	var under []wire.Piece // for copies to lie on
	for _, p := range o.pieces {
		if p.Kind == wire.Copy {
			continue
		}
		put := r.MapFile
		if carries(p, copies) {
			under = append(under, p)
			put = r.MapForPatches
		}
		if err := put(p.At, o.files[p.File], p.Off, p.Len); err != nil {
			return err
		}
	}
	on := func(c wire.Piece) bool {
		return slices.ContainsFunc(under, func(p wire.Piece) bool { return c.At >= p.At && c.At+c.Len <= p.At+pageUp(p.Len) })
	}
	var failed error
	err := r.PatchAll(func(yield func(int64, []byte) bool) {
		failed = o.copies(copies, on, func(at int64, b []byte) error {
			if !yield(at, b) {
				return errStopped
			}
			return nil
		})
	})
	if err == nil {
		err = failed
	}
	if err == nil {
		err = o.copies(copies, func(c wire.Piece) bool { return !on(c) }, r.CopyPages)
	}
	if err != nil {
		return err
	}
	return r.Seal()
}

var errStopped = errors.New("stopped")

// carries reports whether one of copies, which ascend, lies wholly on p.
func carries(p wire.Piece, copies []wire.Piece) bool {
	i, _ := slices.BinarySearchFunc(copies, p.At, func(c wire.Piece, at int64) int { return cmp.Compare(c.At, at) })
	return i < len(copies) && copies[i].At+copies[i].Len <= p.At+pageUp(p.Len)
}

func pageUp(n int64) int64 { return (n + mmap.PageSize() - 1) / mmap.PageSize() * mmap.PageSize() }

// copies reads those of copies that want says, and hands them over in steps.
func (o *offer) copies(copies []wire.Piece, want func(wire.Piece) bool, put func(at int64, b []byte) error) error {
	const step = 1 << 20 // whole pages
	var buf []byte
	for _, c := range copies {
		if !want(c) {
			continue
		}
		for done := int64(0); done < c.Len; {
			n := min(c.Len-done, step)
			buf = slices.Grow(buf[:0], int(n))[:n]
			if _, err := o.files[c.File].ReadAt(buf, c.Off+done); err != nil {
				return err
			}
			if err := put(c.At+done, buf); err != nil {
				return err
			}
			done += n
		}
	}
	return nil
}
