package delta

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

// forge builds a file from a table that need not be right, with all roots and
// checksums as they should be.
func forge(h Header, entries []Entry, payload []byte) []byte {
	table := encodeTable(entries)
	h.Entries, h.Extents, h.Rows = len(entries), 0, 0
	for _, e := range entries {
		h.Extents += len(e.Extents)
		h.Rows += len(e.Rows)
	}
	return forgeTable(h, table, payload)
}

func forgeTable(h Header, table, payload []byte) []byte {
	h.TableSize, h.TableRoot = int64(len(table)), RootOfBytes(table)
	h.PayloadOffset, h.PayloadSize, h.PayloadRoot = alignUp(headerSize+h.TableSize), int64(len(payload)), RootOfBytes(payload)
	b := append(h.append(nil), table...)
	b = append(b, make([]byte, h.PayloadOffset-int64(len(b)))...)
	return append(b, payload...)
}

const page = PageSize

// valid is a table that Parse takes: the tests below break it in one place each.
func valid() (Header, []Entry, []byte) {
	return Header{BaseSize: 20 * page, TargetSize: 20*page + 100}, []Entry{
		{Kind: Ref, TargetOff: 0, Len: 4 * page, BaseOff: 12},
		{Kind: Pages, Name: "a", TargetOff: 4 * page, Len: 8*page + 10, BaseOff: 4 * page, Extents: []Extent{{page, 2 * page, 0}, {4 * page, 4*page + 10, 2 * page}}},
		{Kind: Whole, Name: "b", TargetOff: 12*page + 10, Len: 8 * page, PayloadOff: 6*page + 10},
		{Kind: Whole, Name: "b", TargetOff: 20*page + 10, Len: 90, PayloadOff: 14*page + 10},
	}, noise(1, 14*page+100)
}

func TestTableChecks(t *testing.T) {
	h, entries, payload := valid()
	b := forge(h, entries, payload)
	if _, err := Parse(bytes.NewReader(b), int64(len(b))); err != nil {
		t.Fatalf("the valid one: %v", err)
	}
	for name, c := range map[string]struct {
		change func(h *Header, e []Entry)
		want   string
	}{
		"gap in the target":          {func(_ *Header, e []Entry) { e[0].Len-- }, `entry 1 ("a"): target offset 16384, want 16383: entries leave no gap`},
		"overlap in the target":      {func(_ *Header, e []Entry) { e[0].Len++ }, "target offset 16384, want 16385"},
		"past the target":            {func(h *Header, _ []Entry) { h.TargetSize-- }, "ends at byte 82020 of the target, which has 82019"},
		"target not covered":         {func(h *Header, _ []Entry) { h.TargetSize++ }, "the entries end at byte 82020 of the target, which has 82021"},
		"empty entry":                {func(_ *Header, e []Entry) { e[0].Len = 0 }, "length 0"},
		"past the base":              {func(h *Header, _ []Entry) { h.BaseSize = page }, "takes 16384 bytes from byte 12 of the base, which has 4096"},
		"PAGES past the base":        {func(_ *Header, e []Entry) { e[1].BaseOff = 16 * page }, "of the base, which has 81920"},
		"base not aligned":           {func(_ *Header, e []Entry) { e[1].BaseOff++ }, "PAGES has base offset 16385, want a multiple of 4096"},
		"PAGES without extents":      {func(_ *Header, e []Entry) { e[1].Extents = nil }, "PAGES has no extents"},
		"REF with extents":           {func(_ *Header, e []Entry) { e[1].Kind = Ref }, "REF has 2 extents"},
		"WHOLE with extents":         {func(_ *Header, e []Entry) { e[1].Kind, e[1].BaseOff = Whole, 0 }, "WHOLE has 2 extents"},
		"unsorted extents":           {func(_ *Header, e []Entry) { x := e[1].Extents; x[0], x[1] = x[1], x[0] }, "extent 0"},
		"overlapping extents":        {func(_ *Header, e []Entry) { e[1].Extents[1].Off = 2 * page }, "extent 1: begins at 8192, where the one before ends at 12288"},
		"touching extents":           {func(_ *Header, e []Entry) { e[1].Extents[1].Off = 3 * page }, "not touching"},
		"extent not aligned":         {func(_ *Header, e []Entry) { e[1].Extents[0].Off++ }, "offset 4097 and payload offset 0: want multiples"},
		"extent's payload unaligned": {func(_ *Header, e []Entry) { e[1].Extents[0].PayloadOff++ }, "payload offset 1: want multiples"},
		"extent of half a page":      {func(_ *Header, e []Entry) { e[1].Extents[0].Len -= 5 }, "length 8187: want a multiple of 4096"},
		"empty extent":               {func(_ *Header, e []Entry) { e[1].Extents[0].Len = 0 }, "covers 0 bytes"},
		"extent past its entry":      {func(_ *Header, e []Entry) { e[1].Extents[1].Len += page }, "covers 20490 bytes from 16384 of an entry of 32778"},
		"extent far past its entry":  {func(_ *Header, e []Entry) { e[1].Extents[1].Off = maxSize &^ (page - 1) }, "of an entry of 32778"},
		"payload used twice":         {func(_ *Header, e []Entry) { e[1].Extents[1].PayloadOff = page }, "takes 16394 bytes from byte 4096 of the payload, of which 8192 are taken"},
		"hole in the payload":        {func(_ *Header, e []Entry) { e[1].Extents[0].PayloadOff = page }, "takes 8192 bytes from byte 4096 of the payload, of which 0 are taken"},
		"past the payload":           {func(_ *Header, e []Entry) { e[3].PayloadOff += 10 }, "takes 90 bytes from byte 57364 of the payload"},
		"payload not used up":        {func(_ *Header, e []Entry) { e[3].Kind, e[3].PayloadOff = Ref, 0 }, "the entries end at byte 57354 of the payload, which has 57444"},
		"WHOLE not congruent":        {func(_ *Header, e []Entry) { e[2].PayloadOff++ }, "not congruent modulo 4096"},
		"unknown kind":               {func(_ *Header, e []Entry) { e[0].Kind = 5 }, "kind 5 is unknown"},
		"name not UTF-8":             {func(_ *Header, e []Entry) { e[1].Name = "\xff" }, "not UTF-8"},
		"name too long":              {func(_ *Header, e []Entry) { e[1].Name = strings.Repeat("x", maxName+1) }, "longer than 4096"},
		"huge offset":                {func(_ *Header, e []Entry) { e[0].BaseOff = maxSize + 1 }, "is more than the"},
		"negative length":            {func(_ *Header, e []Entry) { e[0].Len = -1 }, "is more than the"},
		"huge base":                  {func(h *Header, _ []Entry) { h.BaseSize = maxSize + 1 }, "byte 16: "},
	} {
		t.Run(name, func(t *testing.T) {
			h, entries, payload := valid()
			c.change(&h, entries)
			b := forge(h, entries, payload)
			if _, err := Parse(bytes.NewReader(b), int64(len(b))); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("parse: %v, want %q", err, c.want)
			}
			if h.BaseSize > maxSize {
				return // Encode's caller has read that base
			}
			if _, err := Encode(t.Context(), new(bytes.Buffer), h, entries, bytes.NewReader(payload), Options{}); err == nil {
				t.Error("Encode wrote what Parse refuses")
			}
		})
	}
}

func TestTableShape(t *testing.T) {
	h, entries, payload := valid()
	table := encodeTable(entries)
	h.Entries, h.Extents = 4, 2
	for name, c := range map[string]struct {
		change func(h *Header, table []byte) []byte
		want   string
	}{
		"cut":             {func(_ *Header, b []byte) []byte { return b[:len(b)-1] }, "entry 3 takes 33 bytes, the table has 32 left"},
		"too long":        {func(_ *Header, b []byte) []byte { return append(b, 0) }, "entries end here"},
		"too few entries": {func(h *Header, b []byte) []byte { h.Entries--; return b }, "3 entries end here"},
		"too many":        {func(h *Header, b []byte) []byte { h.Entries++; return b }, "5 entries, 2 extents and 0 rows do not fit"},
		"extents hidden":  {func(h *Header, b []byte) []byte { h.Extents--; return b }, "entry 1 has 2 extents, 1 are left"},
		"extents made up": {func(h *Header, b []byte) []byte { h.Extents++; return b }, "4 entries, 3 extents and 0 rows do not fit"},
		"many entries":    {func(h *Header, b []byte) []byte { h.Entries = 1 << 31; return b }, "do not fit into a table"},
		"many extents":    {func(h *Header, b []byte) []byte { h.Extents = 1 << 31; return b }, "do not fit into a table"},
		"count too large": {func(_ *Header, b []byte) []byte { binary.LittleEndian.PutUint32(b[4:], 1<<32-1); return b }, "entry 0 takes"},
		"reserved byte":   {func(_ *Header, b []byte) []byte { b[1] = 1; return b }, "byte 4097: entry 0: want a zero"},
	} {
		t.Run(name, func(t *testing.T) {
			h := h
			b := c.change(&h, bytes.Clone(table))
			file := forgeTable(h, b, payload)
			if _, err := Parse(bytes.NewReader(file), int64(len(file))); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestHeaderChecks(t *testing.T) {
	h, entries, payload := valid()
	file := forge(h, entries, payload)
	resum := func(b []byte, off int, v uint64) []byte {
		binary.LittleEndian.PutUint64(b[off:], v)
		clear(b[checksumOff:checksumEnd])
		sum := leaf(b[:headerSize])
		copy(b[checksumOff:], sum[:])
		return b
	}
	for name, c := range map[string]struct {
		change func(b []byte) []byte
		want   string
	}{
		"empty":             {func(b []byte) []byte { return nil }, "this is no .qd file"},
		"another file":      {func(b []byte) []byte { return []byte("{}") }, `begins with "{}"`},
		"cut header":        {func(b []byte) []byte { return b[:100] }, "header ends at byte 100, want 4096"},
		"cut table":         {func(b []byte) []byte { return b[:headerSize] }, "table ends at byte 4096, header says 4275: the file was cut off"},
		"cut payload":       {func(b []byte) []byte { return b[:len(b)-1] }, "payload ends at byte 65635, header says 65636"},
		"trailing":          {func(b []byte) []byte { return append(b, 0) }, "byte 65636: the payload ends here, the file 1 bytes later"},
		"newer format":      {func(b []byte) []byte { b[8] = 3; return b }, "format version 3, this program reads 1 and 2"},
		"checksum":          {func(b []byte) []byte { b[20] ^= 1; return b }, "byte 200: header has checksum"},
		"table":             {func(b []byte) []byte { b[headerSize+50] ^= 1; return b }, "table has root"},
		"padding":           {func(b []byte) []byte { b[2*headerSize-1] = 1; return b }, "want zeros between table and payload"},
		"block size":        {func(b []byte) []byte { return resum(b, 12, 4096|20*page<<32) }, "byte 12: block size 4096"},
		"huge target":       {func(b []byte) []byte { return resum(b, 56, 1<<63) }, "byte 56: 9223372036854775808 is more than"},
		"payload elsewhere": {func(b []byte) []byte { return resum(b, 96, 3*page) }, "payload offset 12288, want 8192"},
		"table elsewhere":   {func(b []byte) []byte { return resum(b, 144, 8192) }, "table offset 8192, want 4096"},
		"huge table":        {func(b []byte) []byte { return resum(b, 152, maxTable+1) }, "at most 67108864 is allowed"},
		"reserved":          {func(b []byte) []byte { return resum(b, 4000, 1) }, "byte 4000: want zeros"},
	} {
		t.Run(name, func(t *testing.T) {
			b := c.change(bytes.Clone(file))
			if _, err := Parse(bytes.NewReader(b), int64(len(b))); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func leaf(b []byte) (r Root) {
	putLeaf(r[:], b)
	return r
}

// A version is mapped without a copy when its tensors are page-aligned: entries
// then are too, whatever changed.
func TestAlignedTensorsStayAligned(t *testing.T) {
	a := noise(1, 40*page)
	b := bytes.Clone(a)
	for _, p := range []int{3, 4, 5, 9, 30} {
		b[p*page+7]++
	}
	one := buildSafetensors([]array{{"a", a}, {"b", noise(2, 4*page)}}, 0)
	pad := (page - (len(one)-44*page)%page) % page
	_, plan := encode(t, buildSafetensors([]array{{"a", a}, {"b", noise(2, 4*page)}}, pad), buildSafetensors([]array{{"a", b}, {"b", noise(3, 4*page)}}, pad), 1)
	want := []Entry{
		{Kind: Ref, Len: page},
		{Kind: Pages, Name: "a", TargetOff: page, Len: 40 * page, BaseOff: page, Extents: []Extent{{3 * page, 3 * page, 0}, {9 * page, page, 3 * page}, {30 * page, page, 4 * page}}},
		{Kind: Whole, Name: "b", TargetOff: 41 * page, Len: 4 * page, PayloadOff: 5 * page},
	}
	if got := string(encodeTable(plan.Entries)); got != string(encodeTable(want)) {
		t.Fatalf("entries %+v, want %+v", plan.Entries, want)
	}
	if r := plan.Report; r.PayloadSize != 9*page || r.Shipped != 9*page || r.Extents != 3 || r.Same != 1 || len(r.Changes) != 2 {
		t.Fatalf("report %+v", r)
	}
}

// A header that grew moves every tensor; they still are found, by name.
func TestShiftedTensorsAreFound(t *testing.T) {
	x := array{"x", noise(1, 50*page+3)}
	base := buildSafetensors([]array{x, {"y", noise(2, 10*page)}}, 0)
	target := buildSafetensors([]array{{"new", noise(3, 5)}, {"y", noise(2, 10*page)}, x}, 0)
	_, plan := encode(t, base, target, 2)
	if r := plan.Report; !r.ByTensor || r.Same != 2 || r.Shipped > 1000 {
		t.Fatalf("%+v: want x and y unchanged", r)
	}
}

type growing struct {
	*bytes.Reader
	reads int
	data  []byte
}

func (g *growing) ReadAt(p []byte, off int64) (int, error) {
	if g.reads++; g.reads == 5 {
		g.data[len(g.data)-1]++
	}
	return g.Reader.ReadAt(p, off)
}

// A target that is written to while it is packed makes no delta.
func TestChangingTarget(t *testing.T) {
	base, target := noise(1, 3*page), noise(2, 3*page)
	for reads := range 8 {
		b := bytes.Clone(target)
		g := &growing{bytes.NewReader(b), reads, b}
		plan, err := Diff(t.Context(), bytes.NewReader(base), g, Options{})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if _, err := plan.Write(t.Context(), &out, Options{}); err != nil {
			if !strings.Contains(err.Error(), "changed while") {
				t.Errorf("read %d: %v", reads, err)
			}
			continue
		}
		d, err := Parse(bytes.NewReader(out.Bytes()), int64(out.Len()))
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Verify(t.Context(), bytes.NewReader(base), Options{}); err != nil {
			t.Errorf("changed at read %d: written, but %v", reads, err)
		}
	}
}
