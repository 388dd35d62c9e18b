package delta

import (
	"encoding/binary"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Kind is where the bytes of an entry come from.
type Kind uint8

// The kinds.
const (
	Ref   Kind = 1 // all from the base
	Pages Kind = 2 // from the base, except for its extents, which come from the payload
	Whole Kind = 3 // all from the payload
	Rows  Kind = 4 // from the base, except for its rows, which come from the payload
)

// String returns the kind as the format's description has it.
func (k Kind) String() string {
	switch k {
	case Ref:
		return "REF"
	case Pages:
		return "PAGES"
	case Whole:
		return "WHOLE"
	case Rows:
		return "ROWS"
	default:
		return "kind " + strconv.Itoa(int(k))
	}
}

// MarshalText returns the kind's name.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Entry says where Len bytes of the target come from.
type Entry struct {
	Kind       Kind
	Name       string // the tensor; "" for the safetensors header and for files that are none
	TargetOff  int64
	Len        int64    // at least 1
	BaseOff    int64    // of all but Whole; a multiple of PageSize for Pages
	PayloadOff int64    // of Whole and Rows, from the payload's first byte
	Extents    []Extent // of Pages: sorted, not touching
	RowSize    int64    // of Rows: bytes; Len is a multiple of it
	Rows       []uint32 // of Rows: which rows changed, ascending; their bytes lie in the payload one after the other
}

// Extent is a run of changed pages within an entry.
type Extent struct {
	Off        int64 // from the entry's first byte; a multiple of PageSize
	Len        int64 // a multiple of PageSize, except at the entry's end
	PayloadOff int64 // from the payload's first byte; a multiple of PageSize
}

// Shipped returns how many bytes of the entry come from the payload.
func (e *Entry) Shipped() int64 {
	switch e.Kind {
	case Whole:
		return e.Len
	case Rows:
		return int64(len(e.Rows)) * e.RowSize
	case Pages:
		var n int64
		for _, x := range e.Extents {
			n += x.Len
		}
		return n
	default:
		return 0
	}
}

func encodeTable(entries []Entry) []byte {
	var b []byte
	le := binary.LittleEndian
	for i := range entries {
		e := &entries[i]
		source := e.BaseOff
		if e.Kind == Whole {
			source = e.PayloadOff
		}
		b = append(b, byte(e.Kind), 0)
		b = le.AppendUint16(b, uint16(len(e.Name)))
		b = le.AppendUint32(b, uint32(len(e.Extents)+len(e.Rows))) // it has one or the other
		b = le.AppendUint64(b, uint64(e.TargetOff))
		b = le.AppendUint64(b, uint64(e.Len))
		b = le.AppendUint64(b, uint64(source))
		b = append(b, e.Name...)
		for _, x := range e.Extents {
			b = le.AppendUint64(b, uint64(x.Off))
			b = le.AppendUint64(b, uint64(x.Len))
			b = le.AppendUint64(b, uint64(x.PayloadOff))
		}
		if e.Kind == Rows {
			b = le.AppendUint64(b, uint64(e.PayloadOff))
			b = le.AppendUint64(b, uint64(e.RowSize))
			for _, r := range e.Rows {
				b = le.AppendUint32(b, r)
			}
		}
	}
	return b
}

// parseTable decodes a table. The counts are known to fit into it, so they bound
// what is allocated.
func parseTable(b []byte, h *Header) ([]Entry, error) {
	entries, extents, rows := h.Entries, h.Extents, h.Rows
	list := make([]Entry, 0, entries)
	all := make([]Extent, 0, extents)
	index := make([]uint32, 0, rows)
	end := headerSize + int64(len(b))
	off := func() int64 { return end - int64(len(b)) } // in the file
	var bad error
	number := func(i int) int64 {
		v := binary.LittleEndian.Uint64(b[i:])
		if v > maxSize {
			if bad == nil {
				bad = malformed("byte %d: %d is more than the %d bytes that any size or offset may be", off()+int64(i), v, int64(maxSize))
			}
			return 0
		}
		return int64(v)
	}
	for i := range entries {
		if len(b) < entrySize {
			return nil, malformed("byte %d: the table ends within entry %d of %d", off(), i, entries)
		}
		e := Entry{Kind: Kind(b[0]), TargetOff: number(8), Len: number(16)}
		name, count := int(binary.LittleEndian.Uint16(b[2:])), binary.LittleEndian.Uint32(b[4:])
		switch {
		case b[1] != 0:
			return nil, malformed("byte %d: entry %d: want a zero", off()+1, i)
		case e.Kind == Ref, e.Kind == Pages, e.Kind == Rows:
			e.BaseOff = number(24)
		case e.Kind == Whole:
			e.PayloadOff = number(24)
		default:
			return nil, malformed("byte %d: entry %d: %v is unknown", off(), i, e.Kind)
		}
		need := entrySize + uint64(name)
		what, left := "extents", extents-len(all)
		if e.Kind == Rows {
			need += rowsSize + uint64(count)*rowSize
			what, left = "rows", rows-len(index)
		} else {
			need += uint64(count) * extentSize
		}
		if need > uint64(len(b)) {
			return nil, malformed("byte %d: entry %d takes %d bytes, the table has %d left", off(), i, need, len(b))
		}
		if int(count) > left {
			return nil, malformed("byte %d: entry %d has %d %s, %d are left of those the header counts", off()+4, i, count, what, left)
		}
		e.Name = string(b[entrySize : entrySize+name])
		b = b[entrySize+name:]
		if e.Kind == Rows {
			e.PayloadOff, e.RowSize = number(0), number(8)
			b = b[rowsSize:]
			from := len(index)
			for range count {
				index = append(index, binary.LittleEndian.Uint32(b))
				b = b[rowSize:]
			}
			e.Rows, count = slices.Clip(index[from:]), 0
		}
		first := len(all)
		for range count {
			all = append(all, Extent{number(0), number(8), number(16)})
			b = b[extentSize:]
		}
		if bad != nil {
			return nil, bad
		}
		if count > 0 {
			e.Extents = slices.Clip(all[first:])
		}
		list = append(list, e)
	}
	if len(b) != 0 || len(all) != extents || len(index) != rows {
		return nil, malformed("byte %d: %d entries end here with %d extents and %d rows, the header says %d and %d to byte %d", off(), entries, len(all), len(index), extents, rows, end)
	}
	return list, nil
}

// checkEntries checks everything that the package comment promises of a table.
func checkEntries(entries []Entry, h *Header) error {
	c := checker{h: h}
	for i := range entries {
		if err := c.entry(&entries[i]); err != nil {
			return malformed("entry %d (%q): %w", i, entries[i].Name, err)
		}
	}
	if c.target != h.TargetSize {
		return malformed("the entries end at byte %d of the target, which has %d", c.target, h.TargetSize)
	}
	if c.payload != h.PayloadSize {
		return malformed("the entries end at byte %d of the payload, which has %d", c.payload, h.PayloadSize)
	}
	return nil
}

// checker walks a table; target and payload are what has been accounted for.
type checker struct {
	h               *Header
	target, payload int64
}

func (c *checker) entry(e *Entry) error {
	switch {
	case len(e.Name) > maxName || !utf8.ValidString(e.Name):
		return malformed("its name is longer than %d bytes or not UTF-8", maxName)
	case e.Len <= 0 || e.Len > maxSize:
		return malformed("length %d, want 1 to %d", e.Len, int64(maxSize))
	case e.TargetOff != c.target:
		return malformed("target offset %d, want %d: entries leave no gap and do not overlap", e.TargetOff, c.target)
	case e.Len > c.h.TargetSize-e.TargetOff:
		return malformed("ends at byte %d of the target, which has %d", e.TargetOff+e.Len, c.h.TargetSize)
	}
	c.target += e.Len
	if e.Kind != Rows && (e.RowSize != 0 || len(e.Rows) != 0) {
		return malformed("%v has %d rows of %d bytes, want none", e.Kind, len(e.Rows), e.RowSize)
	}
	if e.Kind == Whole {
		return c.whole(e)
	}
	switch {
	case e.Kind != Ref && e.Kind != Pages && e.Kind != Rows:
		return malformed("%v is unknown", e.Kind)
	case e.PayloadOff != 0 && e.Kind != Rows:
		return malformed("%v has a payload offset", e.Kind)
	case e.BaseOff < 0 || e.BaseOff > maxSize || e.Len > c.h.BaseSize-e.BaseOff:
		return malformed("takes %d bytes from byte %d of the base, which has %d", e.Len, e.BaseOff, c.h.BaseSize)
	case e.Kind != Pages && len(e.Extents) != 0:
		return malformed("%v has %d extents, want none", e.Kind, len(e.Extents))
	case e.Kind == Rows:
		return c.rows(e)
	case e.Kind == Pages && len(e.Extents) == 0:
		return malformed("PAGES has no extents, want at least one")
	case e.Kind == Pages && e.BaseOff%PageSize != 0:
		return malformed("PAGES has base offset %d, want a multiple of %d", e.BaseOff, PageSize)
	}
	return c.extents(e)
}

func (c *checker) whole(e *Entry) error {
	switch {
	case len(e.Extents) != 0:
		return malformed("WHOLE has %d extents, want none", len(e.Extents))
	case e.BaseOff != 0:
		return malformed("WHOLE has a base offset")
	case e.Len >= PageSize && (e.PayloadOff-e.TargetOff)%PageSize != 0:
		return malformed("payload offset %d and target offset %d are not congruent modulo %d", e.PayloadOff, e.TargetOff, PageSize)
	}
	return c.take(e.PayloadOff, e.Len)
}

func (c *checker) extents(e *Entry) error {
	end := int64(-1)
	for i, x := range e.Extents {
		var err error
		switch {
		case x.Len <= 0 || x.Off < 0 || x.Off > e.Len || x.Len > e.Len-x.Off:
			err = malformed("covers %d bytes from %d of an entry of %d", x.Len, x.Off, e.Len)
		case x.Off <= end:
			err = malformed("begins at %d, where the one before ends at %d: want them sorted and not touching", x.Off, end)
		case x.Off%PageSize != 0 || x.PayloadOff%PageSize != 0:
			err = malformed("offset %d and payload offset %d: want multiples of %d", x.Off, x.PayloadOff, PageSize)
		case x.Len%PageSize != 0 && x.Off+x.Len != e.Len:
			err = malformed("length %d: want a multiple of %d before the entry's end", x.Len, PageSize)
		default:
			err = c.take(x.PayloadOff, x.Len)
		}
		if err != nil {
			return malformed("extent %d: %w", i, err)
		}
		end = x.Off + x.Len
	}
	return nil
}

// take accounts for n bytes of the payload.
func (c *checker) take(off, n int64) error {
	if off < c.payload || off-c.payload >= PageSize || n > c.h.PayloadSize-off {
		return malformed("takes %d bytes from byte %d of the payload, of which %d are taken, of %d", n, off, c.payload, c.h.PayloadSize)
	}
	c.payload = off + n
	return nil
}
