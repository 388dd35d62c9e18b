package h2

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
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

// coder is an encoder with x/net's decoder behind it.
type coder struct {
	encoder
	back *hpack.Decoder
}

func newCoder() *coder {
	c := &coder{back: hpack.NewDecoder(defaultTableSize, nil)}
	c.init()
	return c
}

// send encodes l as one block and returns its length and what the other side
// reads.
func (c *coder) send(t *testing.T, l *field.List) (int, []hpack.HeaderField) {
	t.Helper()
	b := c.begin(nil)
	spans := l.Spans()
	for i := range spans {
		b = c.field(b, l, &spans[i])
	}
	fields, err := c.back.DecodeFull(b)
	if err != nil {
		t.Fatalf("what was encoded: %v", err)
	}
	return len(b), fields
}

// bare is l without the decoder's marks.
func bare(l *field.List) *field.List {
	var out field.List
	for i := range l.Len() {
		out.AddBytes(l.Name(i), l.Value(i))
		if l.Sensitive(i) {
			out.SetSensitive(i)
		}
	}
	return &out
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

		marked, unmarked := newCoder(), newCoder()
		for _, block := range [][]byte{first, second} {
			want, werr := oracle.DecodeFull(block)
			var l, m field.List
			cut, err := full.decode(block, &l)
			if errors.Is(err, errSizeUpdate) {
				return // x/net lets one pass in the middle of a block while its table is empty
			}
			if err == nil && werr != nil && sizeUpdates(block) > 1 {
				return // x/net refuses the second of two at the start while its table holds something; RFC 7541 section 4.2 asks for both
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

			_, again := marked.send(t, &l)
			same(t, &l, again)
			_, again = unmarked.send(t, bare(&l))
			same(t, &l, again)
		}
	})
}

// sizeUpdates counts the table size updates that a block begins with.
func sizeUpdates(block []byte) (n int) {
	for len(block) > 0 && block[0]&0xe0 == 0x20 {
		var err error
		if _, block, err = readInt(block, 5); err != nil {
			return n
		}
		n++
	}
	return n
}

// A peer whose table shrank and grew again between two blocks says both sizes at
// the start of the next (RFC 7541 section 4.2), whatever the table holds.
func TestTwoSizeUpdatesAtTheStart(t *testing.T) {
	var d decoder
	d.init(DefaultConfig())
	var l field.List
	// A literal with indexing fills the table: "a: b".
	if _, err := d.decode([]byte{0x40, 1, 'a', 1, 'b'}, &l); err != nil {
		t.Fatal(err)
	}
	// To 64, which keeps it, to 4096, then the entry itself.
	if _, err := d.decode([]byte{0x3f, 0x21, 0x3f, 0xe1, 0x1f, 0x80 | 62}, &l); err != nil {
		t.Fatal(err)
	}
	if l.Len() != 1 || string(l.Name(0)) != "a" || string(l.Value(0)) != "b" {
		t.Errorf("%d fields after two updates, want a: b", l.Len())
	}
	if _, err := d.decode([]byte{0x80 | 62, 0x3f, 0x21}, &l); !errors.Is(err, errSizeUpdate) {
		t.Errorf("an update after a field: %v", err)
	}
}

// A field that would take most of the table does not drive the others out.
func TestLargeFieldIsNotIndexed(t *testing.T) {
	c := newCoder()
	small, large := one("user-agent", "small"), one("cookie", strings.Repeat("c", 3100))
	for range 2 {
		c.send(t, small)
	}
	for range 3 {
		if n, _ := c.send(t, large); n < 3100 {
			t.Fatalf("the large field takes %d bytes", n)
		}
	}
	if n, _ := c.send(t, small); n != 1 {
		t.Errorf("the small field takes %d bytes, want 1", n)
	}
}

// one is a list of one field.
func one(name, value string) *field.List {
	var l field.List
	l.Add(name, value)
	return &l
}

func TestTableSizes(t *testing.T) {
	c := newCoder()
	l := one("x-name", "value")
	l.Add("authorization", "secret")
	l.SetSensitive(1)
	write := func() int {
		n, got := c.send(t, l)
		same(t, l, got)
		return n
	}
	long := write()
	write()
	short := write()
	if short >= long {
		t.Errorf("a repeated field takes %d bytes after %d", short, long)
	}
	c.resize(1 << 20) // larger than we keep: no update is due
	if n := write(); n != short {
		t.Errorf("%d bytes, want %d", n, short)
	}
	c.resize(0)
	c.resize(100)
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
	c := newCoder()
	l := one("x-name", "value")
	sizes := make([]int, 0, 4)
	for range 4 {
		n, got := c.send(t, l)
		same(t, l, got)
		sizes = append(sizes, n)
	}
	if sizes[0] != sizes[1] || sizes[2] != 1 || sizes[3] != 1 {
		t.Errorf("bytes written: %v, want a literal twice, then an index", sizes)
	}
	for i := range 10_000 { // none of these may push it out
		c.send(t, one("traceparent", strconv.Itoa(i)))
	}
	if n, _ := c.send(t, l); n != 1 {
		t.Errorf("unique values evicted a repeated field: %d bytes", n)
	}
}

// What a peer refers to by index is indexed towards the next one at once, and from
// then on without a look at its bytes; what it spells out is spelled out.
func TestIndexedStaysIndexed(t *testing.T) {
	var dec decoder
	dec.init(DefaultConfig())
	var b bytes.Buffer
	peer := hpack.NewEncoder(&b)
	fields := []hpack.HeaderField{
		{Name: ":method", Value: "GET"},
		{Name: ":authority", Value: "stats"},
		{Name: "x-tenant-id", Value: "a"},
		{Name: "accept", Value: "*/*"},
		{Name: "cookie", Value: "secret", Sensitive: true},
	}
	c := newCoder()
	var sizes []int
	for range 3 {
		b.Reset()
		for _, f := range fields {
			if err := peer.WriteField(f); err != nil {
				t.Fatal(err)
			}
		}
		var l field.List
		if _, err := dec.decode(b.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		n, got := c.send(t, &l)
		same(t, &l, got)
		sizes = append(sizes, n)
	}
	if cookie := 3 + len("secret"); min(sizes[0], sizes[1]) < 30 || sizes[2] != 4+cookie {
		t.Errorf("bytes written: %v, want spelled out twice (entering the table), then 4 indices and %d", sizes, cookie)
	}
}

// A value that changed on the way is not taken for the one that came.
func TestChangedFieldsForgetTheirToken(t *testing.T) {
	var dec decoder
	dec.init(DefaultConfig())
	var b bytes.Buffer
	peer := hpack.NewEncoder(&b)
	c := newCoder()
	for i := range 4 {
		b.Reset()
		if err := peer.WriteField(hpack.HeaderField{Name: "x-a", Value: "1"}); err != nil {
			t.Fatal(err)
		}
		var l field.List
		if _, err := dec.decode(b.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		if i%2 == 1 {
			l.Set("x-a", "2")
		}
		_, got := c.send(t, &l)
		same(t, &l, got)
	}
}

// No two names of the static table share a slot.
func TestStaticIndex(t *testing.T) {
	first := make(map[string]int)
	for i, f := range staticTable {
		if _, ok := first[f.name]; !ok {
			first[f.name] = i + 1
		}
		if got := staticIndex([]byte(f.name)); int(got) != first[f.name] {
			t.Errorf("%s: index %d, want %d", f.name, got, first[f.name])
		}
	}
	for _, name := range []string{"", "x", "x-tenant-id", ":protocol", "pate"} {
		if got := staticIndex([]byte(name)); got != noStatic {
			t.Errorf("%q: index %d, want none", name, got)
		}
	}
}

// TestKinds holds kinds to what the checks without them say: a field has one only
// where nothing is wrong with it and no rule singles it out.
func TestKinds(t *testing.T) {
	names := []string{":method", ":path", ":authority", ":scheme", ":status", ":protocol", ":other", "", "x-a", "X-A", "x a", "host"}
	for n := range hopByName {
		names = append(names, n)
	}
	for _, name := range names {
		for _, value := range []string{"", "GET", "/a", "/a b", "http", "200", "a.test", "user@a", " a", "a\x00", "trailers", "1"} {
			kind := judge(classOf([]byte(name)), []byte(value))
			if kind == kindNone {
				continue
			}
			var l field.List
			l.Add(name, value)
			length := int64(noLength)
			switch kind {
			case kindPlain:
				if bad := checkField(&l, 0, &length); bad != "" || length != noLength || name == "host" || hopField([]byte(name), []byte(value)) {
					t.Errorf("%q: %q is taken for plain: %s", name, value, bad)
				}
			case kindStatus:
				if _, ok := parseStatus([]byte(value)); !ok {
					t.Errorf("%q: %q passes", name, value)
				}
			default:
				bit, bad := new(Conn).checkPseudo(name, []byte(value))
				if bad != "" || bit != pseudoBits[kind] {
					t.Errorf("%q: %q is of kind %d: %d, %s", name, value, kind, bit, bad)
				}
			}
		}
	}
}

// hopByName are the names with rules of their own.
var hopByName = map[string]bool{
	"connection": true, "proxy-connection": true, "keep-alive": true, "transfer-encoding": true, "upgrade": true, "te": true, "content-length": true,
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

func BenchmarkHuffman(b *testing.B) {
	coded := hpack.AppendHuffmanString(nil, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	dst := make([]byte, 0, 128)
	for b.Loop() {
		_, _ = appendHuffman(dst, coded)
	}
}
