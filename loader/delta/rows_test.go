package delta

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"
)

// validRows is a table with a ROWS entry between two others, that Parse takes.
func validRows() (Header, []Entry, []byte) {
	return Header{BaseSize: 12 * page, TargetSize: 8*page + 700}, []Entry{
		{Kind: Pages, Name: "a", Len: 4 * page, BaseOff: page, Extents: []Extent{{page, page, 0}}},
		{Kind: Rows, Name: "e", TargetOff: 4 * page, Len: 4*page + 600, BaseOff: 4*page + 12, PayloadOff: page, RowSize: 8, Rows: []uint32{0, 1, 700, 2122}},
		{Kind: Whole, Name: "e", TargetOff: 8*page + 600, Len: 100, PayloadOff: page + 32},
	}, noise(1, page+132)
}

// byRuns puts a target together from the runs of its entries.
func byRuns(tb testing.TB, d *Delta, base []byte) (out []byte) {
	tb.Helper()
	payload := make([]byte, d.Header.PayloadSize)
	if err := readFull(d.Payload(), payload, 0); err != nil {
		tb.Fatal(err)
	}
	for i := range d.Entries {
		e := &d.Entries[i]
		at := int64(0)
		for r := range e.Runs {
			if r.Off != at || r.Len <= 0 || r.Len > e.Len-at {
				tb.Fatalf("entry %d: run %+v, want one from %d", i, r, at)
			}
			from := base
			if r.Shipped {
				from = payload
			}
			out = append(out, from[r.Src:r.Src+r.Len]...)
			at += r.Len
		}
		if at != e.Len {
			tb.Fatalf("entry %d: runs end at %d of %d", i, at, e.Len)
		}
	}
	return out
}

func TestRowsAreReadWhereTheyLie(t *testing.T) {
	h, entries, payload := validRows()
	file := forge(h, entries, payload)
	d, err := Parse(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	base := noise(2, 12*page)
	want := bytes.Clone(base[page : 5*page])
	copy(want[page:], payload[:page])
	e := bytes.Clone(base[4*page+12 : 8*page+612])
	for i, r := range []int{0, 1, 700, 2122} {
		copy(e[r*8:r*8+8], payload[page+i*8:])
	}
	want = append(append(want, e...), payload[page+32:]...)
	target, err := d.Apply(bytes.NewReader(base))
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if n, err := target.ReadAt(got, 0); n != len(got) || err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v, equal: %v", n, err, bytes.Equal(got, want))
	}
	if !bytes.Equal(byRuns(t, d, base), want) {
		t.Error("the runs differ")
	}
	if n := d.Entries[1].Shipped(); n != 32 {
		t.Errorf("%d bytes of rows shipped, want 32", n)
	}
	if v := binary.LittleEndian.Uint32(file[8:]); v != 2 {
		t.Errorf("format version %d, want 2: it has rows", v)
	}
	l, read, err := d.TargetLeaves(t.Context(), mustLeaves(t, base), target, Options{})
	if err != nil || !bytes.Equal(l, mustLeaves(t, want)) {
		t.Errorf("leaves differ, %v", err)
	}
	if read != int64(len(want)) { // the shift is no whole block
		t.Errorf("%d bytes read for the leaves", read)
	}
}

// Blocks without a changed row are not read for the proof.
func TestOnlyDirtyBlocksAreRead(t *testing.T) {
	base := noise(1, 10*BlockSize)
	d := &Delta{Header: Header{BaseSize: 10 * BlockSize, TargetSize: 10 * BlockSize}, Entries: []Entry{
		{Kind: Rows, Len: 10 * BlockSize, RowSize: 64, Rows: []uint32{255, 256, 1000, 1001}},
	}, payload: bytes.NewReader(noise(2, 4*64))}
	target, err := d.Apply(bytes.NewReader(base))
	if err != nil {
		t.Fatal(err)
	}
	_, read, err := d.TargetLeaves(t.Context(), mustLeaves(t, base), target, Options{})
	if err != nil || read != 3*BlockSize {
		t.Errorf("%d bytes read, %v; want the 3 blocks with rows", read, err)
	}
}

func TestRowsChecks(t *testing.T) {
	if b := forge(validRows()); true {
		if _, err := Parse(bytes.NewReader(b), int64(len(b))); err != nil {
			t.Fatalf("the valid one: %v", err)
		}
	}
	for name, c := range map[string]struct {
		change func(h *Header, e []Entry)
		want   string
	}{
		"no rows":            {func(_ *Header, e []Entry) { e[1].Rows = nil }, "ROWS has no rows"},
		"backwards":          {func(_ *Header, e []Entry) { e[1].Rows[1], e[1].Rows[2] = 700, 1 }, `entry 1 ("e"): row number 2 is 1, after 700: want them ascending`},
		"twice":              {func(_ *Header, e []Entry) { e[1].Rows[1] = 0 }, "row number 1 is 0, after 0: want them ascending"},
		"past the entry":     {func(_ *Header, e []Entry) { e[1].Rows[3] = 2123 }, "row number 3 is 2123, of 2123 rows"},
		"far past the entry": {func(_ *Header, e []Entry) { e[1].Rows[3] = 1<<32 - 1 }, "row number 3 is 4294967295, of 2123 rows"},
		"size 0":             {func(_ *Header, e []Entry) { e[1].RowSize = 0 }, "no whole number of rows of 0 bytes"},
		"not a whole number": {func(_ *Header, e []Entry) { e[1].RowSize = 9 }, "length 16984 is no whole number of rows of 9 bytes"},
		"row past the entry": {func(_ *Header, e []Entry) { e[1].RowSize = 5 * page }, "no whole number of rows of 20480 bytes"},
		"huge row":           {func(_ *Header, e []Entry) { e[1].RowSize = maxSize + 1 }, "is more than the"},
		"huge payload":       {func(_ *Header, e []Entry) { e[1].PayloadOff = maxSize }, "takes 32 bytes from byte 1125899906842624 of the payload"},
		"payload used twice": {func(_ *Header, e []Entry) { e[1].PayloadOff = page - 8 }, "takes 32 bytes from byte 4088 of the payload, of which 4096 are taken"},
		"payload left over":  {func(_ *Header, e []Entry) { e[1].Rows = e[1].Rows[:2]; e[2].PayloadOff -= 16 }, "the entries end at byte 4212 of the payload, which has 4228"},
		"past the base":      {func(_ *Header, e []Entry) { e[1].BaseOff = 11 * page }, "takes 16984 bytes from byte 45056 of the base"},
	} {
		t.Run(name, func(t *testing.T) {
			h, entries, payload := validRows()
			c.change(&h, entries)
			b := forge(h, entries, payload)
			if _, err := Parse(bytes.NewReader(b), int64(len(b))); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("parse: %v, want %q", err, c.want)
			}
			if _, err := Encode(t.Context(), new(bytes.Buffer), h, entries, bytes.NewReader(payload), Options{}); err == nil {
				t.Error("Encode wrote what Parse refuses")
			}
		})
	}
	// What a table cannot say, and a caller of Encode can.
	for name, change := range map[string]func(e []Entry){
		"PAGES with rows":   func(e []Entry) { e[0].Rows, e[0].RowSize = []uint32{1}, 8 },
		"WHOLE with rows":   func(e []Entry) { e[2].Rows, e[2].RowSize = []uint32{1}, 8 },
		"ROWS with extents": func(e []Entry) { e[1].Extents = []Extent{{0, page, 0}} },
	} {
		h, entries, payload := validRows()
		change(entries)
		if _, err := Encode(t.Context(), new(bytes.Buffer), h, entries, bytes.NewReader(payload), Options{}); err == nil {
			t.Errorf("%s: was written", name)
		}
	}
}

func TestRowsTableShape(t *testing.T) {
	h, entries, payload := validRows()
	table := encodeTable(entries)
	h.Entries, h.Extents, h.Rows = 3, 1, 4
	for name, c := range map[string]struct {
		change func(h *Header, table []byte) []byte
		want   string
	}{
		"rows hidden":      {func(h *Header, b []byte) []byte { h.Rows--; return b }, "entry 1 has 4 rows, 3 are left"},
		"rows made up":     {func(h *Header, b []byte) []byte { h.Rows++; return b }, "with 1 extents and 4 rows, the header says 1 and 5"},
		"many rows":        {func(h *Header, b []byte) []byte { h.Rows = 1 << 31; return b }, "rows do not fit into a table"},
		"count too large":  {func(_ *Header, b []byte) []byte { binary.LittleEndian.PutUint32(b[57+4:], 1<<32-1); return b }, "entry 1 takes"},
		"cut in the rows":  {func(_ *Header, b []byte) []byte { return b[:57+33+16] }, "do not fit into a table of 106 bytes"},
		"count that fits":  {func(_ *Header, b []byte) []byte { binary.LittleEndian.PutUint32(b[57+4:], 3); return b }, "entry 2"},
		"rows called none": {func(h *Header, b []byte) []byte { h.Rows = 0; return b }, "entry 1 has 4 rows, 0 are left"},
	} {
		t.Run(name, func(t *testing.T) {
			h := h
			file := forgeTable(h, c.change(&h, bytes.Clone(table)), payload)
			if _, err := Parse(bytes.NewReader(file), int64(len(file))); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// The format version says whether there are rows, and nothing else does.
func TestRowsAndFormatVersion(t *testing.T) {
	resum := func(b []byte) []byte {
		clear(b[checksumOff:checksumEnd])
		sum := leaf(b[:headerSize])
		copy(b[checksumOff:], sum[:])
		return b
	}
	withRows := forge(validRows())
	withRows[8] = 1
	none := forge(valid())
	none[8] = 2
	for name, b := range map[string][]byte{"byte 232: 4 rows in format version 1": resum(withRows), "byte 232: 0 rows in format version 2": resum(none)} {
		if _, err := Parse(bytes.NewReader(b), int64(len(b))); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want %q", err, name)
		}
	}
}

// embedding is a tensor of n rows of width bytes, of which r changes some.
func embedding(r *rand.Rand, n, width, changed int) (base, target []byte) {
	base = noise(r.Uint64(), n*width)
	target = bytes.Clone(base)
	for range changed {
		row := r.IntN(n)
		target[row*width+r.IntN(width)] ^= byte(1 + r.IntN(255))
	}
	return base, target
}

func TestScatteredRowsBecomeRows(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	b, a := embedding(r, 4000, 256, 60)
	dense := noise(3, 100*page)
	changed := bytes.Clone(dense)
	for i := 20 * page; i < 60*page; i += 100 {
		changed[i]++
	}
	wide := noise(4, 8*BlockSize)
	wideChanged := bytes.Clone(wide)
	wideChanged[5]++
	base := buildShaped([]array{{"dense", dense}, {"embed", b}, {"flat", b}, {"wide", wide}}, map[string]int{"embed": 256, "dense": 1024, "wide": 4 * BlockSize}, page)
	target := buildShaped([]array{{"dense", changed}, {"embed", a}, {"flat", a}, {"wide", wideChanged}}, map[string]int{"embed": 256, "dense": 1024, "wide": 4 * BlockSize}, page)
	file, plan := encode(t, base, target, 2)
	want := map[string]Kind{"dense": Pages, "embed": Rows, "flat": Pages, "wide": Pages}
	for _, c := range plan.Report.Changes {
		if c.Kind != want[c.Name] {
			t.Errorf("%s goes as %v, want %v", c.Name, c.Kind, want[c.Name])
		}
		if c.Kind == Rows && (c.Rows < 50 || c.Rows > 60 || c.Shipped != int64(c.Rows)*256) {
			t.Errorf("%+v: want about 60 rows", c)
		}
	}
	if len(plan.Report.Changes) != 4 || plan.Report.Rows == 0 {
		t.Errorf("%+v", plan.Report)
	}
	for workers := range 5 {
		if again, _ := encode(t, base, target, workers); !bytes.Equal(again, file) {
			t.Errorf("with %d workers the delta is another", workers)
		}
	}
}
