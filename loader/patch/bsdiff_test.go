package patch

import (
	"bytes"
	"context"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quadnine/quadnine/loader/delta"
)

// read returns a file of testdata.
func read(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// apply applies a bsdiff4 patch in memory; at most most bytes are made.
func apply(ctx context.Context, old, p []byte, most int64) ([]byte, error) {
	h, err := ParseHeader(delta.RoleBSDiff4, bytes.NewReader(p), int64(len(p)))
	if err != nil {
		return nil, err
	}
	h.TargetSize = min(h.TargetSize, most)
	var out bytes.Buffer
	err = bsdiff(ctx, &out, bytes.NewReader(old), bytes.NewReader(p), h)
	return out.Bytes(), err
}

// TestPythonsBsdiff4: a patch that the Python package wrote makes what it was made
// for, also of a base that lies in pieces.
func TestPythonsBsdiff4(t *testing.T) {
	old, want, p := read(t, "v1.safetensors"), read(t, "v2.safetensors"), read(t, "v2.bsdiff4")
	got, err := apply(t.Context(), old, p, math.MaxInt64)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	size := int64(len(old))
	pieces, err := newBase([]Segment{{0, 5000, 1, 7}, {5000, 3, 0, 5000}, {5003, size - 5003, 1, 5010}},
		[]io.ReaderAt{bytes.NewReader(old), bytes.NewReader(append([]byte("seven b"), old...))})
	if err != nil {
		t.Fatal(err)
	}
	h, err := ParseHeader(delta.RoleBSDiff4, bytes.NewReader(p), int64(len(p)))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := bsdiff(t.Context(), &out, pieces, bytes.NewReader(p), h); err != nil || !bytes.Equal(out.Bytes(), want) {
		t.Fatalf("base in pieces: %d bytes, %v", out.Len(), err)
	}
}

// TestBsdiffPlaces: the place in the base may lie outside of it, where bytes
// count as 0, and may go back.
func TestBsdiffPlaces(t *testing.T) {
	old := []byte("abcdef")
	p := build(12, []int64{2, 1, -4, 4, 0, 2, 4, 1, 0}, []byte{1, 0, 9, 9, 0, 0, 0, 1, 5, 5}, []byte("XY"))
	got, err := apply(t.Context(), old, p, math.MaxInt64)
	// ab+1,0 · X · from -2: 9,9,a,b · from 4: e, f+1, then outside 5,5 · Y
	if want := "bbX\x09\x09abeg\x05\x05Y"; err != nil || string(got) != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}

// TestHostileBsdiff: what a patch says is never believed.
func TestHostileBsdiff(t *testing.T) {
	old := []byte("0123456789")
	short := build(10, []int64{10, 0, 0}, make([]byte, 10), nil)
	idle := make([]int64, 3*1000)
	for name, c := range map[string]struct {
		patch []byte
		want  string
	}{
		"empty":           {nil, "ends at byte 0, want at least 32"},
		"other magic":     {append([]byte("BSDIFF41"), short[8:]...), "begins with"},
		"negative size":   {build(-1, nil, nil, nil), "makes -1 bytes"},
		"no size":         {build(0, nil, nil, nil), "makes 0 bytes"},
		"huge size":       {build(math.MaxInt64, nil, nil, nil), "makes 9223372036854775807 bytes"},
		"control past it": {slicesWith(short, 8, encode(1<<40)), "bytes of control block"},
		"negative diff":   {slicesWith(short, 16, encode(-5)), "-5 of difference block"},
		"no control":      {build(10, nil, make([]byte, 10), nil), "control block: unexpected EOF"},
		"add too much":    {build(10, []int64{11, 0, 0}, make([]byte, 20), nil), "add 11 and copy 0 bytes, 10 are missing"},
		"copy too much":   {build(10, []int64{5, 6, 0}, make([]byte, 20), make([]byte, 20)), "add 5 and copy 6 bytes, 10 are missing"},
		"negative add":    {build(10, []int64{-1, 0, 0}, nil, nil), "add -1"},
		"negative copy":   {build(10, []int64{1, math.MinInt64 + 1, 0}, nil, nil), "copy -9223372036854775807"},
		"short diff":      {build(10, []int64{10, 0, 0}, make([]byte, 9), nil), "difference block: unexpected EOF"},
		"short extra":     {build(10, []int64{0, 10, 0}, nil, make([]byte, 9)), "extra block: unexpected EOF"},
		"seeks away":      {build(10, []int64{1, 0, math.MaxInt64, 1, 0, math.MaxInt64, 1, 0, 0}, make([]byte, 10), nil), "of the base"},
		"seeks far back":  {build(10, []int64{0, 0, -math.MaxInt64, 0, 0, -math.MaxInt64}, nil, nil), "of the base"},
		"makes nothing":   {build(10, idle, nil, nil), "65 triples in a row make nothing"},
		"damaged control": {slicesWith(short, 40, []byte{0xff, 0xff, 0xff}), "control block"},
	} {
		got, err := apply(t.Context(), old, c.patch, math.MaxInt64)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %d bytes, %v, want %q", name, len(got), err, c.want)
		}
	}
}

func slicesWith(b []byte, at int, with []byte) []byte {
	b = bytes.Clone(b)
	copy(b[at:], with)
	return b
}

// FuzzBsdiff: whatever header and blocks say, applying ends, with as many bytes as
// the header says or an error.
func FuzzBsdiff(f *testing.F) {
	f.Add(read(f, "v2.bsdiff4"), []byte("base"))
	f.Add(build(12, []int64{2, 1, -4, 4, 0, 2, 4, 1, 0}, []byte{1, 0, 9, 9, 0, 0, 0, 1, 5, 5}, []byte("XY")), []byte("abcdef"))
	f.Fuzz(func(t *testing.T, p, old []byte) {
		const most = 1 << 20
		got, err := apply(t.Context(), old, p, most)
		if int64(len(got)) > most {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	})
}

// FuzzControl: the same for any control block that decompresses, which bytes at
// random hardly do.
func FuzzControl(f *testing.F) {
	f.Add(int64(12), bytes.Join([][]byte{encode(2), encode(1), encode(-4), encode(4), encode(5), encode(0)}, nil), []byte("difference"), []byte("extra"), []byte("abcdef"))
	f.Add(int64(3), bytes.Join([][]byte{encode(0), encode(0), encode(math.MaxInt64), encode(3), encode(0), encode(1)}, nil), []byte("abc"), []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, size int64, control, diff, extra, old []byte) {
		const most = 1 << 16
		if len(control)+len(diff)+len(extra) > most {
			return // the compressor is slow
		}
		got, err := apply(t.Context(), old, assemble(size, control, diff, extra), most)
		if err == nil && int64(len(got)) != min(size, most) {
			t.Fatalf("%d bytes without an error, want %d", len(got), min(size, most))
		}
	})
}
