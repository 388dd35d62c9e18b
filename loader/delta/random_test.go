package delta

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
)

// array is a tensor to be, of dtype U8.
type array struct {
	name string
	data []byte
}

// buildSafetensors writes a file; pad extra spaces end its header.
func buildSafetensors(arrays []array, pad int) []byte { return build(arrays, nil, pad, 1) }

// buildShaped writes a file whose data begins at a multiple of align; tensors have
// two dimensions when they are as wide as widths says.
func buildShaped(arrays []array, widths map[string]int, align int) []byte {
	return build(arrays, widths, 0, align)
}

func build(arrays []array, widths map[string]int, pad, align int) []byte {
	header := map[string]any{}
	off := 0
	for _, a := range arrays {
		shape := []int{len(a.data)}
		if w := widths[a.name]; w > 0 {
			shape = []int{len(a.data) / w, w}
		}
		header[a.name] = map[string]any{"dtype": "U8", "shape": shape, "data_offsets": []int{off, off + len(a.data)}}
		off += len(a.data)
	}
	h, _ := json.Marshal(header)
	h = append(h, bytes.Repeat([]byte(" "), pad)...)
	h = append(h, bytes.Repeat([]byte(" "), (align-(8+len(h))%align)%align)...)
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(h)))
	b = append(b, h...)
	for _, a := range arrays {
		b = append(b, a.data...)
	}
	return b
}

func encode(tb testing.TB, base, target []byte, workers int) ([]byte, *Plan) {
	tb.Helper()
	plan, err := Diff(tb.Context(), bytes.NewReader(base), bytes.NewReader(target), Options{Workers: workers})
	if err != nil {
		tb.Fatalf("diff: %v", err)
	}
	var buf bytes.Buffer
	h, err := plan.Write(tb.Context(), &buf, Options{Workers: workers})
	if err != nil {
		tb.Fatalf("write: %v", err)
	}
	if h.Size() != int64(buf.Len()) || plan.Report.DeltaSize != h.Size() {
		tb.Fatalf("wrote %d bytes, header says %d, report %d", buf.Len(), h.Size(), plan.Report.DeltaSize)
	}
	return buf.Bytes(), plan
}

// mutate changes some bytes, pages and stretches of b.
func mutate(r *rand.Rand, b []byte) []byte {
	b = bytes.Clone(b)
	for range r.IntN(6) {
		if len(b) == 0 {
			break
		}
		at := r.IntN(len(b))
		n := []int{1, 2, PageSize, 3*PageSize + 5, BlockSize, 20 * PageSize}[r.IntN(6)]
		for i := at; i < min(at+n, len(b)); i++ {
			b[i] ^= byte(1 + r.IntN(255))
		}
	}
	return b
}

// versions draws a base and a target: sometimes safetensors files, of which
// tensors change, grow, shrink, move, vanish and appear.
func versions(r *rand.Rand) (base, target []byte) {
	size := func() int {
		n := []int{0, 1, 100, PageSize - 1, PageSize, PageSize + 1, BlockSize, 70 * PageSize, 130*PageSize + 9}[r.IntN(9)]
		return n + r.IntN(2)*r.IntN(9000)
	}
	if r.IntN(4) == 0 {
		base = noise(r.Uint64(), size()+size())
		switch target = mutate(r, base); r.IntN(3) {
		case 0:
			target = target[:r.IntN(len(target)+1)]
		case 1:
			target = append(target, noise(r.Uint64(), size())...)
		}
		return base, target
	}
	var a, b []array
	widths := make(map[string]int)
	for i := range 1 + r.IntN(6) {
		if r.IntN(3) == 0 {
			b, a = grown(r, widths, i, b, a)
			continue
		}
		x := array{fmt.Sprintf("l%d.w", i), noise(r.Uint64(), size())}
		y := array{x.name, x.data}
		switch r.IntN(8) {
		case 0, 1:
			y.data = mutate(r, x.data)
		case 2:
			y.data = noise(r.Uint64(), len(x.data))
		case 3:
			y.data = append(mutate(r, x.data), noise(r.Uint64(), size())...)
		case 4:
			y.data = x.data[:r.IntN(len(x.data)+1)]
		case 5:
			y.name += ".new"
		}
		a, b = append(a, x), append(b, y)
	}
	if r.IntN(3) == 0 {
		r.Shuffle(len(b), func(i, j int) { b[i], b[j] = b[j], b[i] })
	}
	align := []int{1, 1, page}[r.IntN(3)]
	return build(a, widths, r.IntN(2)*r.IntN(5000), align), build(b, widths, r.IntN(2)*r.IntN(5000), align)
}

// grown adds an array of rows, of which some change, and sometimes some are new.
func grown(r *rand.Rand, widths map[string]int, i int, target, base []array) (_, _ []array) {
	name := fmt.Sprintf("e%d.rows", i)
	width := []int{64, 100, 256, 1024, 3000, 4096, 5000}[r.IntN(7)]
	widths[name] = width
	n := 2 + r.IntN(300)
	x, y := embedding(r, n, width, []int{0, 1, 5, n / 8, n}[r.IntN(5)])
	if r.IntN(4) == 0 {
		y = append(y, noise(r.Uint64(), width*(1+r.IntN(20)))...)
	}
	return append(target, array{name, y}), append(base, array{name, x})
}

// For any base and target: diff, write, parse and apply give the target back,
// whatever way it is read, and every proof holds.
func TestDiffThenApplyIsTheTarget(t *testing.T) {
	kinds := make(map[Kind]int)
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 1))
		base, target := versions(r)
		file, plan := encode(t, base, target, 1+int(seed%3))
		d, err := Parse(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			t.Fatalf("seed %d: parse: %v", seed, err)
		}
		for _, e := range d.Entries {
			kinds[e.Kind]++
		}
		applied, err := d.Apply(bytes.NewReader(base))
		if err != nil {
			t.Fatalf("seed %d: apply: %v", seed, err)
		}
		if len(target) < 64<<10 { // it reads byte by byte; Unpack below takes the large ones
			if err := iotest.TestReader(io.NewSectionReader(applied, 0, applied.Size()), target); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		var out bytes.Buffer
		if err := d.Unpack(t.Context(), &out, bytes.NewReader(base), Options{}); err != nil || !bytes.Equal(out.Bytes(), target) {
			t.Fatalf("seed %d: unpack: %v, equal: %t", seed, err, bytes.Equal(out.Bytes(), target))
		}
		if err := d.Verify(t.Context(), bytes.NewReader(base), Options{Workers: 2}); err != nil {
			t.Fatalf("seed %d: verify: %v", seed, err)
		}
		if plan.Report.TargetRoot != plainRoot(target) || plan.Report.BaseRoot != plainRoot(base) {
			t.Fatalf("seed %d: roots in the report are wrong", seed)
		}
		whole, err := LeavesOf(t.Context(), bytes.NewReader(target), Options{})
		if err != nil {
			t.Fatal(err)
		}
		leaves, _, err := d.TargetLeaves(t.Context(), mustLeaves(t, base), bytes.NewReader(target), Options{})
		if err != nil || !bytes.Equal(leaves, whole) {
			t.Fatalf("seed %d: leaves from the base differ from the target's own (%v)", seed, err)
		}
	}
	for _, k := range []Kind{Ref, Pages, Whole, Rows} {
		if kinds[k] < 50 {
			t.Errorf("only %d entries of kind %v: the test has lost its reach", kinds[k], k)
		}
	}
}

func mustLeaves(tb testing.TB, b []byte) Leaves {
	tb.Helper()
	l, err := LeavesOf(tb.Context(), bytes.NewReader(b), Options{})
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// Whatever byte of the delta changes, verification fails, or the file does not
// even parse.
func TestAnyChangedByteIsNoticed(t *testing.T) {
	widths := map[string]int{"d": 64}
	base := build([]array{{"a", noise(1, 9*PageSize)}, {"b", noise(2, 100)}, {"c", noise(3, 3*PageSize)}, {"d", noise(5, 6*PageSize)}}, widths, 7, 1)
	changed, rows := noise(1, 9*PageSize), noise(5, 6*PageSize)
	changed[4*PageSize]++
	rows[100]++
	rows[5*PageSize]++
	target := build([]array{{"a", changed}, {"b", noise(4, 100)}, {"c", noise(3, 3*PageSize)}, {"d", rows}}, widths, 7, 1)
	file, plan := encode(t, base, target, 1)
	if plan.Report.Rows != 2 {
		t.Fatalf("%d rows, want 2", plan.Report.Rows)
	}
	check := func(b []byte) error {
		d, err := Parse(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return err
		}
		return d.Verify(t.Context(), bytes.NewReader(base), Options{})
	}
	if err := check(file); err != nil {
		t.Fatalf("as written: %v", err)
	}
	for i := range file {
		file[i] ^= 0x40
		if check(file) == nil {
			t.Errorf("byte %d of %d changed and nobody noticed", i, len(file))
		}
		file[i] ^= 0x40
	}
	for i := range file {
		if i%97 == 0 && check(file[:i]) == nil {
			t.Errorf("cut to %d bytes and nobody noticed", i)
		}
	}
	if check(append(bytes.Clone(file), 0)) == nil {
		t.Error("a byte more and nobody noticed")
	}
	base[len(base)-1]++
	if check(file) == nil {
		t.Error("another base and nobody noticed")
	}
}
