package delta

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
)

// Target is a version's bytes, put together from a base and a delta as they are
// read. It is safe for concurrent use if base and delta file are.
type Target struct {
	delta *Delta
	base  io.ReaderAt
}

// Apply returns the target that d makes from base. It checks that the base has
// the right size; whether it is the right base is for VerifyBase to say.
func (d *Delta) Apply(base Sized) (*Target, error) {
	if base.Size() != d.Header.BaseSize {
		return nil, fmt.Errorf("the base has %d bytes, the delta wants one of %d (root %s): give the version that the delta was made from",
			base.Size(), d.Header.BaseSize, d.Header.BaseRoot.Short())
	}
	return &Target{d, base}, nil
}

// Size returns how many bytes the target has.
func (t *Target) Size() int64 { return t.delta.Header.TargetSize }

// ReadAt reads the target's bytes from off, as io.ReaderAt says.
func (t *Target) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	entries := t.delta.Entries
	i := sort.Search(len(entries), func(i int) bool { return entries[i].TargetOff+entries[i].Len > off })
	for ; n < len(p) && i < len(entries); i++ {
		e := &entries[i]
		in := off + int64(n) - e.TargetOff
		m, err := t.entry(e, p[n:n+int(min(int64(len(p)-n), e.Len-in))], in)
		n += m
		if err != nil {
			return n, err
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// entry fills p with the bytes of e from in on.
func (t *Target) entry(e *Entry, p []byte, in int64) (n int, err error) {
	for n < len(p) {
		run := e.from(in + int64(n))
		left := p[n:][:min(int64(len(p)-n), run.Len)]
		var m int
		if run.Shipped {
			m, err = part(t.delta.payload, left, run.Src, "payload")
		} else {
			m, err = part(t.base, left, run.Src, "base")
		}
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// part is readFull with the number of bytes, and who was read, in the error.
func part(r io.ReaderAt, p []byte, off int64, who string) (int, error) {
	if err := readFull(r, p, off); err != nil {
		return 0, fmt.Errorf("%s: %w", who, err)
	}
	return len(p), nil
}

// TargetLeaves returns the leaves of a target that d describes. A block that is
// entirely REF, at an offset of the base that begins a block too, has the base's
// leaf; only the others are read from target, which is Apply's or a mapping of
// it. read is how many bytes those are.
//
// RootFromLeaves of the result is the proof of the whole version, as good as
// the base's leaves are.
func (d *Delta) TargetLeaves(ctx context.Context, base Leaves, target Sized, o Options) (l Leaves, read int64, err error) {
	size := d.Header.TargetSize
	if base.Len() != LeafCount(d.Header.BaseSize) || target.Size() != size {
		return nil, 0, fmt.Errorf("%d leaves and a target of %d bytes do not fit a delta from %d to %d bytes",
			base.Len(), target.Size(), d.Header.BaseSize, size)
	}
	l = make(Leaves, LeafCount(size)*RootSize)
	known := d.baseBlocks()
	var dirty []int64
	for i := range l.Len() {
		if from := known(i); from >= 0 {
			copy(l.At(i), base.At(from))
			continue
		}
		dirty = append(dirty, i)
		read += min(BlockSize, size-i*BlockSize)
	}
	err = each(ctx, o, int64(len(dirty)), lendChunk, returnChunk, func(buf *[chunkSize]byte, n int64) error {
		i := dirty[n]
		b := buf[:min(BlockSize, size-i*BlockSize)]
		if err := readFull(target, b, i*BlockSize); err != nil {
			return err
		}
		putLeaf(l.At(i), b)
		o.done(int64(len(b)))
		return nil
	})
	return l, read, err
}

// baseBlocks returns a function that says which block of the base the target's
// block i is, or -1. It must be asked in ascending order.
func (d *Delta) baseBlocks() func(i int64) int64 {
	entries := d.Entries
	return func(i int64) int64 {
		off := i * BlockSize
		end := min(off+BlockSize, d.Header.TargetSize)
		for len(entries) > 0 && entries[0].TargetOff+entries[0].Len <= off {
			entries = entries[1:]
		}
		if len(entries) == 0 {
			return -1
		}
		// All entries that the block touches must come from one stretch of the base.
		shift := entries[0].BaseOff - entries[0].TargetOff
		from := off + shift
		short := end-off < BlockSize && from+end-off != d.Header.BaseSize
		if shift%BlockSize != 0 || from < 0 || short {
			return -1
		}
		for j := range entries {
			e := &entries[j]
			if e.TargetOff >= end {
				break
			}
			if e.Kind == Whole || e.BaseOff-e.TargetOff != shift || touches(e, off-e.TargetOff, end-e.TargetOff) {
				return -1
			}
		}
		return from / BlockSize
	}
}

// touches reports whether any of [from, to) of the entry, as far as it reaches,
// comes from the payload.
func touches(e *Entry, from, to int64) bool {
	if e.Kind == Rows {
		x := e.row(from)
		return x < len(e.Rows) && int64(e.Rows[x])*e.RowSize < to
	}
	x := sort.Search(len(e.Extents), func(i int) bool { return e.Extents[i].Off+e.Extents[i].Len > from })
	return x < len(e.Extents) && e.Extents[x].Off < to
}

// VerifyPayload hashes the payload and compares it with the header: what has to
// be done before any of it is used. Header and table were checked by Parse.
func (d *Delta) VerifyPayload(ctx context.Context, o Options) error {
	l, err := LeavesOf(ctx, d.payload, o)
	if err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	return match("payload", "the header", rootOf(d.Header.PayloadSize, l), d.Header.PayloadRoot)
}

// VerifyBase hashes base and compares it with the header. It returns the leaves,
// for TargetLeaves.
func (d *Delta) VerifyBase(ctx context.Context, base Sized, o Options) (Leaves, error) {
	if _, err := d.Apply(base); err != nil {
		return nil, err
	}
	l, err := LeavesOf(ctx, base, o)
	if err != nil {
		return nil, fmt.Errorf("base: %w", err)
	}
	return l, match("base", "the delta", rootOf(base.Size(), l), d.Header.BaseRoot)
}

// Verify checks payload, base and target: after it the version is what its maker
// had. It hashes the base and the changed blocks.
func (d *Delta) Verify(ctx context.Context, base Sized, o Options) error {
	if err := d.VerifyPayload(ctx, o); err != nil {
		return err
	}
	leaves, err := d.VerifyBase(ctx, base, o)
	if err != nil {
		return err
	}
	target, err := d.Apply(base)
	if err != nil {
		return err
	}
	l, _, err := d.TargetLeaves(ctx, leaves, target, o)
	if err != nil {
		return err
	}
	return match("target", "the header", rootOf(target.Size(), l), d.Header.TargetRoot)
}

// Unpack writes the target to w and checks its root on the way. On an error what
// w has must not be used.
func (d *Delta) Unpack(ctx context.Context, w io.Writer, base Sized, o Options) error {
	target, err := d.Apply(base)
	if err != nil {
		return err
	}
	err = Copy(ctx, w, target, d.Header.TargetRoot, o)
	if _, ok := errors.AsType[*MismatchError](err); !ok {
		return err
	}
	if _, why := d.VerifyBase(ctx, base, Options{Workers: o.Workers}); why != nil {
		return why // the likelier reason, and the one that can be mended
	}
	return err
}

// Copy writes s to w and checks its root on the way. On an error what w has must
// not be used.
func Copy(ctx context.Context, w io.Writer, s Sized, want Root, o Options) error {
	var h Hasher
	if err := copyTo(ctx, io.MultiWriter(w, &h), s, o); err != nil {
		return err
	}
	return match("target", "its maker", h.Root(), want)
}

func match(what, who string, got, want Root) error {
	if got != want {
		return &MismatchError{What: what, Who: who, Got: got, Want: want}
	}
	return nil
}
