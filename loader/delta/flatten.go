package delta

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
)

// Flatten makes one delta of a chain: what leads from the base of chain[0] to the
// target of its last one, newest wins. Every delta's base must be the target of
// the one before. Neither base nor targets are needed; the payloads are hashed
// first, so that only what the headers promise comes into the result, and read
// again by Write. Payload that a newer delta replaced is left out.
//
// The plan's Write writes the file; the result is the same bytes whatever
// o.Workers. Its header has the first delta's base and the last one's target, so
// who activates it proves the target as ever. Progress counts the payloads once.
//
// Memory: a few dozen bytes for each extent and row of the whole chain.
func Flatten(ctx context.Context, chain []*Delta, o Options) (*Plan, error) {
	if len(chain) == 0 {
		return nil, errors.New("no deltas to flatten")
	}
	var before *Delta
	for i, d := range chain {
		if err := before.follows(d); err != nil {
			return nil, fmt.Errorf("delta %d of %d: %w", i+1, len(chain), err)
		}
		before = d
		if err := d.VerifyPayload(ctx, o); err != nil {
			return nil, fmt.Errorf("delta %d of %d: %w", i+1, len(chain), err)
		}
	}
	first, last := &chain[0].Header, chain[len(chain)-1]
	p := &Plan{header: Header{
		BaseSize: first.BaseSize, BaseRoot: first.BaseRoot, TargetSize: last.Header.TargetSize, TargetRoot: last.Header.TargetRoot,
	}}
	f := flattener{chain: chain, rows: rowSizes(chain)}
	for i, d := range chain {
		f.parts = follow(f.parts, i, d)
	}
	for entries := last.Entries; len(entries) > 0; {
		n := 1
		for n < len(entries) && entries[n].Name == entries[0].Name {
			n++
		}
		end := &entries[n-1]
		f.plan(p, f.region(entries[0].Name, entries[0].TargetOff, end.TargetOff+end.Len))
		p.Report.ByTensor = p.Report.ByTensor || entries[0].Name != ""
		entries = entries[n:]
	}
	p.finish()
	return p, nil
}

// follows checks that next can be applied to what d makes; nil is the base.
func (d *Delta) follows(next *Delta) error {
	if d == nil {
		return nil
	}
	if next.Header.BaseRoot != d.Header.TargetRoot || next.Header.BaseSize != d.Header.TargetSize {
		return &MismatchError{What: "its base", Who: "the delta before", Got: next.Header.BaseRoot, Want: d.Header.TargetRoot}
	}
	return nil
}

// stretch is a range of the target that comes from one place.
type stretch struct {
	off, n int64
	from   int   // index in the chain, or -1: the base
	src    int64 // in that payload, or the base
}

func (s stretch) end() int64 { return s.off + s.n }

const fromBase = -1

// follow returns what d's target is made of, when below is what its base is made
// of; nil stands for the base itself.
func follow(below []stretch, index int, d *Delta) (out []stretch) {
	add := func(s stretch) {
		if n := len(out); n > 0 {
			l := &out[n-1]
			if l.from == s.from && l.src+l.n == s.src {
				l.n += s.n
				return
			}
		}
		out = append(out, s)
	}
	for i := range d.Entries {
		e := &d.Entries[i]
		for r := range e.Runs {
			at := e.TargetOff + r.Off
			switch {
			case r.Shipped:
				add(stretch{at, r.Len, index, r.Src})
			case index == 0:
				add(stretch{at, r.Len, fromBase, r.Src})
			default:
				for s := range within(below, r.Src, r.Src+r.Len) {
					add(stretch{at + s.off - r.Src, s.n, s.from, s.src})
				}
			}
		}
	}
	return out
}

// within yields what of parts lies in [from, to).
func within(parts []stretch, from, to int64) func(yield func(stretch) bool) {
	return func(yield func(stretch) bool) {
		i, found := slices.BinarySearchFunc(parts, from, func(s stretch, off int64) int { return cmp.Compare(s.off, off) })
		if !found {
			i = max(i-1, 0)
		}
		for ; i < len(parts) && parts[i].off < to; i++ {
			s := parts[i]
			lo, hi := max(s.off, from), min(s.end(), to)
			if lo < hi && !yield(stretch{lo, hi - lo, s.from, s.src + lo - s.off}) {
				return
			}
		}
	}
}

// rowSizes returns each tensor's row size, of those of which all ROWS have one.
func rowSizes(chain []*Delta) map[string]int64 {
	sizes := make(map[string]int64)
	for _, d := range chain {
		for i := range d.Entries {
			e := &d.Entries[i]
			if e.Kind != Rows {
				continue
			}
			if have, ok := sizes[e.Name]; ok && have != e.RowSize {
				sizes[e.Name] = 0
			} else {
				sizes[e.Name] = e.RowSize
			}
		}
	}
	return sizes
}

// flattener writes stretches as entries.
type flattener struct {
	chain []*Delta
	parts []stretch // of the last target
	rows  map[string]int64
}

// region writes the target's bytes from off to end in the cheapest way.
func (f *flattener) region(name string, off, end int64) []Entry {
	r := flatRegion{name: name, off: off, end: end}
	r.shifts = make(map[int64]bool)
	for s := range within(f.parts, off, end) {
		if s.from == fromBase {
			r.base = append(r.base, s)
			r.shifts[s.src-s.off] = true
		} else if n := len(r.shipped); n > 0 && r.shipped[n-1].to == s.off {
			r.shipped[n-1].to = s.end()
		} else {
			r.shipped = append(r.shipped, span{s.off, s.end()})
		}
	}
	candidates := [][]Entry{r.plain()}
	if list := r.byPages(); list != nil {
		candidates = append(candidates, list)
	}
	if list := r.byRows(f.rows[name]); list != nil {
		candidates = append(candidates, list)
	}
	return cheapest(candidates...)
}

// plan places entries, with their bytes from the chain's payloads.
func (f *flattener) plan(p *Plan, entries []Entry) {
	for _, e := range entries {
		p.place(&e)
		for r := range e.Runs {
			if !r.Shipped {
				continue
			}
			for s := range within(f.parts, e.TargetOff+r.Off, e.TargetOff+r.Off+r.Len) {
				p.payload.add(r.Src+s.off-e.TargetOff-r.Off, f.chain[s.from].payload, s.src, s.n)
			}
		}
		p.Entries = append(p.Entries, e)
	}
}
