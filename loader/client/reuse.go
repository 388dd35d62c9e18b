package client

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"

	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/loader/wire"
)

// fileID names a file on this machine, as long as it is mapped or open.
type fileID struct{ dev, ino uint64 }

func idOf(f *os.File) (fileID, error) {
	fi, err := f.Stat()
	if err != nil {
		return fileID{}, err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}, fmt.Errorf("%s: no inode", f.Name())
	}
	return fileID{uint64(st.Dev), st.Ino}, nil //nolint:unconvert // int32 on other systems
}

// stretch says that bytes [from, to), of a region or of a version, are those of a
// file from byte off on.
type stretch struct {
	from, to int64
	file     fileID
	off      int64
}

// part returns what of s lies in [from, to).
func (s stretch) part(from, to int64) stretch {
	lo, hi := max(s.from, from), min(s.to, to)
	return stretch{lo, hi, s.file, s.off + lo - s.from}
}

// shown returns what a region shows once all pieces lie in it, in order.
func (o *offer) shown() (all []stretch, err error) {
	ids := make([]fileID, len(o.files))
	for i, f := range o.files {
		if ids[i], err = idOf(f); err != nil {
			return nil, err
		}
	}
	put := func(kind wire.Kind) {
		for _, p := range o.pieces {
			if p.Kind == kind {
				all = over(all, stretch{p.At, p.At + pageUp(p.Len), ids[p.File], p.Off})
			}
		}
	}
	put(wire.Map)
	put(wire.Copy)
	return all, nil
}

// over puts s over a list that ascends without overlaps.
func over(all []stretch, s stretch) []stretch {
	first, _ := slices.BinarySearchFunc(all, s.from, func(x stretch, at int64) int { return cmp.Compare(x.to, at+1) })
	last := first
	var put []stretch
	for ; last < len(all) && all[last].from < s.to; last++ {
		x := all[last]
		if x.from < s.from {
			put = append(put, x.part(x.from, s.from))
		}
		if x.to > s.to {
			put = append(put, s, x.part(s.to, x.to))
			return slices.Replace(all, first, last+1, put...)
		}
	}
	return slices.Replace(all, first, last, append(put, s)...)
}

// sources returns what a version's bytes are made of, given what its region shows.
func (v *version) sources(region []stretch) (out []stretch) {
	for _, w := range v.windows {
		size := w.To - w.From
		i, _ := slices.BinarySearchFunc(region, w.At, func(x stretch, at int64) int { return cmp.Compare(x.to, at+1) })
		for ; i < len(region) && region[i].from < w.At+size; i++ {
			x := region[i].part(w.At, w.At+size)
			x.from, x.to = x.from-w.At+w.From, x.to-w.At+w.From
			out = append(out, x)
		}
	}
	return out
}

// same yields the ranges in which two lists show the same bytes of the same files.
func same(a, b []stretch, yield func(from, to int64)) {
	for len(a) > 0 && len(b) > 0 {
		from, to := max(a[0].from, b[0].from), min(a[0].to, b[0].to)
		if from < to && a[0].part(from, to) == b[0].part(from, to) {
			yield(from, to)
		}
		if a[0].to <= b[0].to {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
}

// hash returns the leaves of what is mapped. A block that shows the same pages of
// the same files as it does in old, which was checked and is still mapped, has
// its leaf: those pages are the same memory. read is how many bytes were hashed.
func (v *version) hash(ctx context.Context, old *version) (l delta.Leaves, read int64, err error) {
	blocks := delta.LeafCount(v.info.Size)
	known := make([]bool, blocks)
	if old != nil {
		same(v.shows, old.shows, func(from, to int64) {
			first := (from + delta.BlockSize - 1) / delta.BlockSize
			for i := first; i < blocks && min((i+1)*delta.BlockSize, v.info.Size) <= to; i++ {
				// A last block may be short in one of them.
				known[i] = i < old.leaves.Len() && ((i+1)*delta.BlockSize <= old.info.Size || v.info.Size == old.info.Size)
			}
		})
	}
	l = make(delta.Leaves, blocks*delta.RootSize)
	for i := int64(0); i < blocks; {
		if known[i] {
			copy(l.At(i), old.leaves.At(i))
			i++
			continue
		}
		end := i
		for end < blocks && !known[end] {
			end++
		}
		from, to := i*delta.BlockSize, min(end*delta.BlockSize, v.info.Size)
		got, err := delta.LeavesOf(ctx, io.NewSectionReader(v, from, to-from), delta.Options{})
		if err != nil {
			return nil, read, err
		}
		copy(l[i*delta.RootSize:], got)
		read += to - from
		i = end
	}
	return l, read, nil
}
