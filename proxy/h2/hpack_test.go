package h2

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strconv"
	"testing"

	"golang.org/x/net/http2/hpack"

	"github.com/quadnine/quadnine/proxy/field"
)

// same compares a list with the oracle's fields.
func same(t *testing.T, l *field.List, want []hpack.HeaderField) {
	t.Helper()
	if l.Len() != len(want) {
		t.Fatalf("%d fields, want %d", l.Len(), len(want))
	}
	for i, f := range want {
		if string(l.Name(i)) != f.Name || string(l.Value(i)) != f.Value || l.Sensitive(i) != f.Sensitive {
			t.Fatalf("field %d: %q=%q, want %v", i, l.Name(i), l.Value(i), f)
		}
	}
}

// FuzzHeaderBlock compares the decoder with x/net's on two blocks in a row, with
// and without limits, and what the encoder makes of the result.
func FuzzHeaderBlock(f *testing.F) {
	f.Fuzz(func(t *testing.T, first, second []byte) {
		cfg := DefaultConfig()
		cfg.MaxHeaderBytes, cfg.MaxHeaderFields = 1<<30, 1<<20
		var full, limited decoder
		full.init(cfg)
		cfg.MaxHeaderBytes, cfg.MaxHeaderFields = 200, 3
		limited.init(cfg)
		oracle := hpack.NewDecoder(defaultTableSize, nil)

		var out output
		var enc encoder
		enc.init(&out)
		back := hpack.NewDecoder(defaultTableSize, nil)
		for _, block := range [][]byte{first, second} {
			want, werr := oracle.DecodeFull(block)
			var l, m field.List
			cut, err := full.decode(block, &l)
			if errors.Is(err, errSizeUpdate) {
				return // x/net lets one pass in the middle of a block while its table is empty
			}
			if (err == nil) != (werr == nil) {
				t.Fatalf("%v, want %v", err, werr)
			}
			if err != nil {
				return // the connection would be over
			}
			if cut {
				t.Fatal("cut without a limit")
			}
			same(t, &l, want)
			if cut, err = limited.decode(block, &m); err != nil {
				return // bad coding in what the limit lets it skip may stay unseen, not the reverse
			}
			if cut != (m.Len() < len(want)) || m.Len() > 3 || m.Size() > 200 {
				t.Fatalf("cut %v with %d of %d fields, %d bytes", cut, m.Len(), len(want), m.Size())
			}
			same(t, &m, want[:m.Len()])

			out.b = out.b[:0]
			for i := range l.Len() {
				enc.field(l.Name(i), l.Value(i), l.Sensitive(i))
			}
			again, err := back.DecodeFull(out.b)
			if err != nil {
				t.Fatalf("what was encoded: %v", err)
			}
			same(t, &l, again)
		}
	})
}

func TestTableSizes(t *testing.T) {
	var out output
	var enc encoder
	enc.init(&out)
	back := hpack.NewDecoder(defaultTableSize, nil)
	write := func() int {
		out.b = out.b[:0]
		enc.field([]byte("x-name"), []byte("value"), false)
		enc.field([]byte("authorization"), []byte("secret"), true)
		got, err := back.DecodeFull(out.b)
		if err != nil || len(got) != 2 || got[0].Value != "value" || !got[1].Sensitive {
			t.Fatalf("%v, %v", got, err)
		}
		return len(out.b)
	}
	long := write()
	write()
	short := write()
	if short >= long {
		t.Errorf("a repeated field takes %d bytes after %d", short, long)
	}
	enc.resize(1 << 20) // larger than we keep: no update is due
	if n := write(); n != short {
		t.Errorf("%d bytes, want %d", n, short)
	}
	enc.resize(0)
	enc.resize(100)
	if n := write(); n <= short {
		t.Errorf("after the table was emptied: %d bytes", n)
	}
	write()
	if n := write(); n != short {
		t.Errorf("%d bytes, want %d", n, short)
	}
}

// A field enters the table when it comes again, not before.
func TestOnlyRepeatedFieldsAreIndexed(t *testing.T) {
	var out output
	var enc encoder
	enc.init(&out)
	back := hpack.NewDecoder(defaultTableSize, nil)
	sizes := make([]int, 0, 4)
	for range 4 {
		out.b = out.b[:0]
		enc.field([]byte("x-name"), []byte("value"), false)
		if got, err := back.DecodeFull(out.b); err != nil || len(got) != 1 || got[0].Value != "value" {
			t.Fatalf("%v, %v", got, err)
		}
		sizes = append(sizes, len(out.b))
	}
	if sizes[0] != sizes[1] || sizes[2] != 1 || sizes[3] != 1 {
		t.Errorf("bytes written: %v, want a literal twice, then an index", sizes)
	}
	for i := range 10_000 { // none of these may push it out
		out.b = out.b[:0]
		enc.field([]byte("traceparent"), strconv.AppendInt(nil, int64(i), 10), false)
		if _, err := back.DecodeFull(out.b); err != nil {
			t.Fatal(err)
		}
	}
	out.b = out.b[:0]
	if enc.field([]byte("x-name"), []byte("value"), false); len(out.b) != 1 {
		t.Errorf("unique values evicted a repeated field: %d bytes", len(out.b))
	}
}

// Every string x/net's encoder codes comes back, and every cut or flipped coding
// is judged as x/net judges it.
func TestHuffman(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 20_000 {
		s := make([]byte, r.IntN(40))
		for i := range s {
			if s[i] = byte(r.Uint32()); n%2 == 0 {
				s[i] = ' ' + s[i]%95
			}
		}
		coded := hpack.AppendHuffmanString(nil, string(s))
		if got, err := appendHuffman(nil, coded); err != nil || !bytes.Equal(got, s) {
			t.Fatalf("%q became %q, %v", s, got, err)
		}
		if len(coded) == 0 {
			continue
		}
		coded[r.IntN(len(coded))] ^= 1 << r.IntN(8)
		coded = coded[:1+r.IntN(len(coded))]
		want, werr := hpack.HuffmanDecodeToString(coded)
		got, err := appendHuffman(nil, coded)
		if (err == nil) != (werr == nil) || err == nil && string(got) != want {
			t.Fatalf("%x: %q, %v; x/net says %q, %v", coded, got, err, want, werr)
		}
	}
}

func TestDecodeAfterTableShrinks(t *testing.T) {
	cfg := DefaultConfig()
	cfg.HeaderTableSize = 0
	var d decoder
	d.init(cfg)
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	var l field.List
	write := func() error {
		b.Reset()
		if err := e.WriteField(hpack.HeaderField{Name: "x", Value: "y"}); err != nil {
			t.Fatal(err)
		}
		_, err := d.decode(b.Bytes(), &l)
		return err
	}
	if err := write(); err != nil {
		t.Errorf("before the peer knows our table: %v", err)
	}
	d.settled(0)
	e.SetMaxDynamicTableSize(0)
	if err := write(); err != nil {
		t.Errorf("after it obeyed: %v", err)
	}
	e.SetMaxDynamicTableSize(100)
	if err := write(); err == nil {
		t.Error("a table larger than ours passed")
	}
}
