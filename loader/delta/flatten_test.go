package delta

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// chainOf makes the deltas between versions.
func chainOf(tb testing.TB, versions [][]byte) (chain []*Delta) {
	tb.Helper()
	for i := range versions[1:] {
		file, _ := encode(tb, versions[i], versions[i+1], 2)
		d, err := Parse(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			tb.Fatal(err)
		}
		chain = append(chain, d)
	}
	return chain
}

func flatten(tb testing.TB, chain []*Delta, workers int) (*Delta, *Plan, []byte) {
	tb.Helper()
	plan, err := Flatten(tb.Context(), chain, Options{Workers: workers})
	if err != nil {
		tb.Fatal(err)
	}
	var b bytes.Buffer
	h, err := plan.Write(tb.Context(), &b, Options{Workers: workers})
	if err != nil {
		tb.Fatal(err)
	}
	if h.Size() != int64(b.Len()) || plan.Report.DeltaSize != h.Size() {
		tb.Fatalf("wrote %d bytes, header says %d, report %d", b.Len(), h.Size(), plan.Report.DeltaSize)
	}
	d, err := Parse(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		tb.Fatal(err)
	}
	return d, plan, b.Bytes()
}

// step changes a version's tensors in one of the ways that versions differ.
func step(r *rand.Rand, arrays []array, widths map[string]int) []array {
	next := make([]array, 0, len(arrays))
	for _, a := range arrays {
		w := max(widths[a.name], 1)
		b := bytes.Clone(a.data)
		switch r.IntN(6) {
		case 0, 1:
			for range 1 + r.IntN(8) { // single rows
				row := r.IntN(len(b) / w)
				b[row*w]++
			}
		case 2:
			b = mutate(r, b)
		case 3:
			b = append(b, noise(r.Uint64(), w*r.IntN(30))...)
		case 4:
			if r.IntN(4) == 0 {
				b = noise(r.Uint64(), len(b))
			}
		}
		next = append(next, array{a.name, b})
	}
	if r.IntN(8) == 0 {
		r.Shuffle(len(next), func(i, j int) { next[i], next[j] = next[j], next[i] })
	}
	return next
}

// For any chain of versions: the flattened delta makes of the first what the
// deltas make in turn, and is no larger than they are together.
func TestFlattenIsTheChainInTurn(t *testing.T) {
	kinds := make(map[Kind]int)
	for seed := range uint64(120) {
		r := rand.New(rand.NewPCG(seed, 7))
		widths := map[string]int{"embed": []int{64, 256, 1000, 1024}[r.IntN(4)], "up": 2048}
		align := []int{1, page, page}[r.IntN(3)]
		arrays := []array{
			{"embed", noise(r.Uint64(), widths["embed"]*(200+r.IntN(300)))},
			{"up", noise(r.Uint64(), 2048*(40+r.IntN(100)))},
			{"flat", noise(r.Uint64(), 150*page)},
			{"norm", noise(r.Uint64(), 100+r.IntN(9000))},
		}
		versions := [][]byte{build(arrays, widths, 0, align)}
		for range 1 + r.IntN(6) {
			arrays = step(r, arrays, widths)
			versions = append(versions, build(arrays, widths, 0, align))
		}
		chain := chainOf(t, versions)
		d, _, file := flatten(t, chain, 1)
		base, target := bytes.NewReader(versions[0]), versions[len(versions)-1]
		var out bytes.Buffer
		if err := d.Unpack(t.Context(), &out, base, Options{}); err != nil || !bytes.Equal(out.Bytes(), target) {
			t.Fatalf("seed %d: %v, equal: %t", seed, err, bytes.Equal(out.Bytes(), target))
		}
		if err := d.Verify(t.Context(), base, Options{}); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if !bytes.Equal(byRuns(t, d, versions[0]), target) {
			t.Fatalf("seed %d: the runs differ", seed)
		}
		sum := int64(0)
		for _, x := range chain {
			sum += x.Header.PayloadSize
		}
		if d.Header.PayloadSize > sum+int64(d.Header.Entries+d.Header.Extents)*page { // alignment
			t.Errorf("seed %d: %d bytes of payload, the chain has %d", seed, d.Header.PayloadSize, sum)
		}
		if _, _, again := flatten(t, chain, 3); !bytes.Equal(again, file) {
			t.Errorf("seed %d: with 3 workers the delta is another", seed)
		}
		if len(chain) > 2 { // half of it first
			half, _, _ := flatten(t, chain[:2], 1)
			rest, _, _ := flatten(t, append([]*Delta{half}, chain[2:]...), 1)
			if !bytes.Equal(byRuns(t, rest, versions[0]), target) {
				t.Fatalf("seed %d: flattened in two steps, it differs", seed)
			}
		}
		for _, e := range d.Entries {
			kinds[e.Kind]++
		}
	}
	for _, k := range []Kind{Ref, Pages, Whole, Rows} {
		if kinds[k] < 20 {
			t.Errorf("only %d entries of kind %v: the test has lost its reach", kinds[k], k)
		}
	}
}

// What one long chain of scattered rows makes is one entry of rows, each once.
func TestFlattenedRowsStayRows(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	widths := map[string]int{"embed": 256}
	data := noise(1, 4000*256)
	versions := [][]byte{build([]array{{"embed", data}}, widths, 0, page)}
	touched := make(map[int]bool)
	for range 8 {
		data = bytes.Clone(data)
		for range 30 {
			row := r.IntN(200) * 20
			touched[row] = true
			data[row*256+3]++
		}
		versions = append(versions, build([]array{{"embed", data}}, widths, 0, page))
	}
	d, plan, _ := flatten(t, chainOf(t, versions), 2)
	if d.Header.Rows != len(touched) || d.Header.Extents != 0 || d.Header.PayloadSize != int64(len(touched))*256 {
		t.Errorf("%d rows, %d extents, %d bytes; want each of %d rows once", d.Header.Rows, d.Header.Extents, d.Header.PayloadSize, len(touched))
	}
	if c := plan.Report.Changes; len(c) != 1 || c[0].Kind != Rows || c[0].Name != "embed" || !plan.Report.ByTensor {
		t.Errorf("%+v", plan.Report)
	}
}

func TestFlattenRefuses(t *testing.T) {
	versions := [][]byte{noise(1, 9*page), noise(2, 9*page), noise(3, 9*page)}
	chain := chainOf(t, versions)
	for name, c := range map[string]struct {
		chain []*Delta
		want  string
	}{
		"nothing":   {nil, "no deltas"},
		"backwards": {[]*Delta{chain[1], chain[0]}, "delta 2 of 2: its base has root"},
		"twice":     {[]*Delta{chain[0], chain[0]}, "delta 2 of 2: its base has root"},
	} {
		if _, err := Flatten(t.Context(), c.chain, Options{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	for i := range chain {
		file, _ := encode(t, versions[i], versions[i+1], 1)
		file[len(file)-1]++
		d, err := Parse(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			t.Fatal(err)
		}
		bad := []*Delta{chain[0], chain[1]}
		bad[i] = d
		if _, err := Flatten(t.Context(), bad, Options{}); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("delta %d of 2: payload has root", i+1)) {
			t.Errorf("a changed payload: %v", err)
		}
	}
}
