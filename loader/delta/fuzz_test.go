package delta

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

func FuzzSafetensors(f *testing.F) {
	if b, err := os.ReadFile("testdata/python.safetensors"); err == nil {
		f.Add(b)
	}
	f.Add(raw(`{"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"__metadata__":{"k":"v"}}`, 8))
	f.Add(raw(`{"a":{"dtype":"F4","shape":[4],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}}`, 2))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSafetensors(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			if s != nil || !strings.ContainsAny(err.Error(), "0123456789\"") {
				t.Fatalf("%v, %v: want no file, and an error that says where", s, err)
			}
			return
		}
		at := s.DataOff
		for _, x := range s.Tensors {
			if x.Off != at || x.Len < 0 {
				t.Fatalf("%+v does not begin at %d", x, at)
			}
			at += x.Len
			if got, ok := s.Tensor(x.Name); !ok || got.Off != x.Off || got.Len != x.Len {
				t.Fatalf("%q is found as %+v", x.Name, got)
			}
		}
		if at != int64(len(b)) {
			t.Fatalf("tensors end at %d of %d", at, len(b))
		}
	})
}

// FuzzDelta mends the roots and checksums of what it is given, so that the
// checks behind them are reached. What parses must be read within bounds: the
// readers below fail the test when they are asked for more.
func FuzzDelta(f *testing.F) {
	h, entries, payload := valid()
	f.Add(encodeTable(entries), payload, h.BaseSize, h.TargetSize, uint32(4), uint32(2), uint32(0))
	table := encodeTable([]Entry{{Kind: Ref, Len: 100, BaseOff: 5}, {Kind: Whole, Name: "w", TargetOff: 100, Len: 7}})
	f.Add(table, []byte("payload"), int64(1000), int64(107), uint32(2), uint32(0), uint32(0))
	table = encodeTable([]Entry{{Kind: Pages, Len: 9000, BaseOff: page, Extents: []Extent{{page, 4904, 0}}}})
	f.Add(table, make([]byte, 4904), int64(4*page), int64(9000), uint32(1), uint32(1), uint32(0))
	f.Add([]byte{}, []byte{}, int64(0), int64(0), uint32(0), uint32(0), uint32(0))
	table = encodeTable([]Entry{
		{Kind: Pages, Name: "a", Len: 3 * page, BaseOff: page, Extents: []Extent{{0, page, 0}, {2 * page, page, page}}},
		{Kind: Ref, Name: "a", TargetOff: 3 * page, Len: 8, BaseOff: 4 * page},
	})
	f.Add(table, make([]byte, 2*page), int64(5*page), int64(3*page+8), uint32(2), uint32(2), uint32(0))
	hr, withRows, payload := validRows()
	f.Add(encodeTable(withRows), payload, hr.BaseSize, hr.TargetSize, uint32(3), uint32(1), uint32(4))
	table = encodeTable([]Entry{{Kind: Rows, Len: 12, BaseOff: 3, RowSize: 3, Rows: []uint32{0, 1, 3}}})
	f.Add(table, []byte("abcdefghi"), int64(20), int64(12), uint32(1), uint32(0), uint32(3))
	f.Fuzz(func(t *testing.T, table, payload []byte, baseSize, targetSize int64, entries, extents, rows uint32) {
		file := forgeTable(Header{BaseSize: baseSize, TargetSize: targetSize, Entries: int(entries), Extents: int(extents), Rows: int(rows)}, table, payload)
		d, err := Parse(strict{t, file}, int64(len(file)))
		if err != nil {
			return
		}
		if again := encodeTable(d.Entries); !bytes.Equal(again, table) {
			t.Fatalf("written again, the table differs: %x, was %x", again, table)
		}
		if baseSize > 1<<22 || targetSize > 1<<22 {
			return // too much to put together here
		}
		base := make([]byte, baseSize)
		target, err := d.Apply(strict{t, base})
		if err != nil {
			t.Fatal(err)
		}
		whole := make([]byte, targetSize)
		if n, err := target.ReadAt(whole, 0); n != len(whole) || err != nil {
			t.Fatalf("%d of %d bytes, %v", n, len(whole), err)
		}
		if n, err := target.ReadAt(make([]byte, 9), targetSize-min(4, targetSize)); err == nil {
			t.Fatalf("read %d bytes past the end", n)
		}
		l, _, err := d.TargetLeaves(t.Context(), mustLeaves(t, base), target, Options{})
		if err != nil || !bytes.Equal(l, mustLeaves(t, whole)) {
			t.Fatalf("leaves: %v, or they are not the target's", err)
		}
		if got := byRuns(t, d, base); !bytes.Equal(got, whole) {
			t.Fatal("the runs do not make the target")
		}
	})
}

// strict is bytes that may only be asked for what there is.
type strict struct {
	t *testing.T
	b []byte
}

func (s strict) Size() int64 { return int64(len(s.b)) }

func (s strict) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(len(s.b)) || int64(len(p)) > int64(len(s.b))-off {
		s.t.Fatalf("asked for %d bytes from %d of %d", len(p), off, len(s.b))
	}
	return copy(p, s.b[off:]), nil
}

// FuzzParse gives Parse files as they come.
func FuzzParse(f *testing.F) {
	h, entries, payload := valid()
	f.Add(forge(h, entries, payload))
	f.Add(forge(validRows()))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := Parse(strict{t, b}, int64(len(b)))
		if err == nil && d.Header.Size() != int64(len(b)) {
			t.Fatalf("header says %d bytes, there are %d", d.Header.Size(), len(b))
		}
	})
}

func FuzzManifest(f *testing.F) {
	published := schema(f)
	f.Add([]byte(fullManifest))
	f.Add([]byte(strings.Replace(fullManifest, `"canary"`, studied, 1)))
	f.Add([]byte(`{"model":"m","version":1,"schema_version":1,"target_root":"` + rootText + `","files":[{"path":"m","role":"full","size":0,"blake3":"` + rootText + `"}]}`))
	f.Add([]byte(`{"files":[{"path":"../../etc/passwd"}],"canary":{"weight":1e309},"base":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest("m", b)
		if err != nil {
			return
		}
		if v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b)); err != nil {
			t.Fatalf("parsed, but is no JSON: %v", err)
		} else if err := published.Validate(v); err != nil {
			t.Fatalf("parsed, but the schema refuses it: %v", err)
		}
		text, err := m.Marshal()
		if err != nil {
			t.Fatalf("parsed, but: %v", err)
		}
		again, err := ParseManifest("m", text)
		if err != nil {
			t.Fatalf("written again: %v\n%s", err, text)
		}
		if twice, err := again.Marshal(); err != nil || !bytes.Equal(twice, text) {
			t.Fatalf("%v: not stable:\n%s\n%s", err, text, twice)
		}
	})
}
