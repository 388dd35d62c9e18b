package delta

import (
	"context"
	"errors"
	"io"
)

var errChanged = errors.New("base or target changed while they were read; use copies that nobody writes to")

// Write writes the delta, and then, for a plan of Diff, proves that base and
// payload make the target: neither our own mistake nor a file that changed
// meanwhile passes. On an error what w has must not be used.
func (p *Plan) Write(ctx context.Context, w io.Writer, o Options) (Header, error) {
	h, err := Encode(ctx, w, p.header, p.Entries, &p.payload, o)
	if err != nil || p.base == nil {
		return h, err
	}
	d := Delta{Header: h, Entries: p.Entries, payload: &p.payload}
	target, err := d.Apply(p.base)
	if err != nil {
		return h, err
	}
	l, _, err := d.TargetLeaves(ctx, p.leaves, target, Options{Workers: o.Workers})
	if err == nil && rootOf(target.Size(), l) != h.TargetRoot {
		err = errChanged
	}
	return h, err
}

// add places e in the payload. Its bytes are read from where it lies in the
// target.
func (p *Plan) add(e Entry, target io.ReaderAt) {
	p.place(&e)
	switch e.Kind {
	case Ref:
	case Whole:
		p.payload.add(e.PayloadOff, target, e.TargetOff, e.Len)
	case Pages:
		for _, x := range e.Extents {
			p.payload.add(x.PayloadOff, target, e.TargetOff+x.Off, x.Len)
		}
	case Rows:
		p.payload.addRows(e.PayloadOff, target, e.TargetOff, e.RowSize, e.Rows)
	}
	p.Entries = append(p.Entries, e)
}

// place sets e's payload offsets to what follows what is there.
func (p *Plan) place(e *Entry) {
	end := p.payload.size
	switch e.Kind {
	case Ref:
	case Whole:
		if e.Len >= PageSize {
			end += (e.TargetOff - end) & (PageSize - 1) // congruent with the target, so that its pages can be mapped
		}
		e.PayloadOff = end
	case Rows:
		e.PayloadOff = end
	case Pages:
		for i := range e.Extents {
			e.Extents[i].PayloadOff = alignUp(end)
			end = e.Extents[i].PayloadOff + e.Extents[i].Len
		}
	}
}
