package loader

import (
	"errors"
	"flag"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/loader/delta"
)

// small keeps every tensor a few pages long.
const small = 0.004

const blockSize = delta.BlockSize

func TestPairsAreWhatTheyClaim(t *testing.T) {
	s := &scratch{dir: t.TempDir(), scale: small}
	packed, err := s.prepare(t.Context(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	d, sc := packed["D"], packed["S"]
	if len(d.Changes) != 8 || len(sc.Changes) != 9 || d.Same+len(d.Changes) != 195 { // the header counts as one
		t.Errorf("D changes %d of %d tensors, S %d, want 8 of 195 and 9", len(d.Changes), d.Same+len(d.Changes), len(sc.Changes))
	}
	kinds := make(map[delta.Kind]int)
	for _, c := range d.Changes {
		kinds[c.Kind]++
	}
	if kinds[delta.Whole] != 4 || kinds[delta.Pages] != 4 {
		t.Errorf("D ships %d tensors whole and %d as pages, want 4 and 4", kinds[delta.Whole], kinds[delta.Pages])
	}
	if sc.Shipped <= d.Shipped {
		t.Errorf("S ships %d bytes, D %d: want more", sc.Shipped, d.Shipped)
	}
	if d.Rows != 0 || sc.Rows == 0 || sc.Extents != d.Extents {
		t.Errorf("D ships %d rows and %d extents, S %d and %d: want rows in S beside the same extents", d.Rows, d.Extents, sc.Rows, sc.Extents)
	}
	for _, mode := range []loader.Mode{loader.InPlace, loader.Copy} {
		j, remove, err := s.activation(arrangement{"store", "S", 2, mode, mode == loader.InPlace})
		if err != nil {
			t.Fatal(err)
		}
		x, err := j.do(t.Context())
		if err != nil {
			t.Fatal(mode, err)
		}
		for _, step := range []string{stepLoaded, stepProved, stepWarmed, stepActive} {
			if c := x.Steps[step]; c.Wall <= 0 || c.Wall > time.Minute {
				t.Errorf("%s: %s took %v", mode, step, c.Wall)
			}
		}
		if a, l := x.Steps[stepActive].Wall, x.Steps[stepLoaded].Wall; a < l {
			t.Errorf("%s: active after %v, loaded only after %v", mode, a, l)
		}
		if x.Read != sc.DeltaSize || x.Dirty <= 0 || x.Dirty%blockSize != 0 || x.Copied <= 0 || x.Copies <= 0 {
			t.Errorf("%s: read %d bytes of a delta of %d, %d of dirty blocks; %d bytes copied in %d pieces", mode, x.Read, sc.DeltaSize, x.Dirty, x.Copied, x.Copies)
		}
		if err := remove(); err != nil {
			t.Fatal(err)
		}
	}
	j, remove, err := s.activation(arrangement{"", "base", 1, loader.InPlace, false})
	if err != nil {
		t.Fatal(err)
	}
	if x, err := j.do(t.Context()); err != nil || x.Steps[stepActive].Wall <= 0 {
		t.Errorf("first load: %+v, %v", x, err)
	}
	if err := remove(); err != nil {
		t.Fatal(err)
	}
}

func TestCallsAreMeasured(t *testing.T) {
	s := &scratch{dir: t.TempDir(), scale: small}
	if _, err := s.prepare(t.Context(), io.Discard); err != nil {
		t.Fatal(err)
	}
	x, err := job{Kind: "calls", Store: s.path("store"), Mode: loader.InPlace}.do(t.Context())
	if err != nil || len(x.Nanos) != 4+len(evaluatorCalls) {
		t.Fatalf("%v, %v", x.Nanos, err)
	}
	for name, ns := range x.Nanos {
		if ns <= 0 {
			t.Errorf("%s: %v ns", name, ns)
		}
	}
}

func TestGoalsAreJudged(t *testing.T) {
	ms := func(d int) []sample {
		c := cost{Wall: time.Duration(d) * time.Millisecond, CPU: time.Duration(d) * time.Millisecond}
		return []sample{{Steps: map[string]cost{stepAll: c, stepLoaded: c}, Private: 5e6, Nanos: map[string]float64{callV1: 40, callV2: 60, callSwitch: 10}}}
	}
	got := make(map[string]bool)
	for _, g := range judge(entries{
		{pair: "D", label: bare, samples: ms(10)},
		{pair: "D", label: grouped, samples: ms(20)},
		{pair: "S", label: bare, samples: ms(10)},
		{pair: "D", label: inPlace, samples: ms(12)},
		{pair: "D", label: copied, samples: ms(21)},
		{pair: "S", label: inPlace, samples: ms(22)},
		{pair: "D", label: wholeSHA, samples: ms(479)},
		{pair: "D", label: bsdiffApply, times: 10, samples: ms(601)},
		{pair: "D", label: calls, samples: ms(1)},
	}) {
		got[g.Pair+" "+g.What] = g.Met
	}
	for what, want := range map[string]bool{
		"D in place, rename → verified and mapped: CPU / bare BLAKE3": true, "D copied, rename → verified and mapped: CPU / bare BLAKE3": false,
		"S in place, rename → verified and mapped: CPU / bare BLAKE3": true, "D in place, rename → verified and mapped: wall / wall of bare BLAKE3": true,
		"D CPU of a full SHA-256 / in place": false, "D CPU of bsdiff4 apply (extrapolated) / in place": true,
		"D private memory added, in place": false, " " + callV1: true, " " + callV2: false, " " + callSwitch: true,
	} {
		if met, ok := got[what]; !ok || met != want {
			t.Errorf("%q: met %v (there: %v), want %v", what, met, ok, want)
		}
	}
	for _, g := range judge(nil) {
		if g.Met {
			t.Errorf("%s %s is met without a run", g.Pair, g.What)
		}
	}
}

func TestFullSizeIsTheMeasuredModel(t *testing.T) {
	ts := model(1)
	var size, dense int64
	for i, x := range ts {
		size += x.size()
		n := x.changed(uint64(i))
		dense += n
		if share := float64(n) / float64(x.size()); x.how == runs && (share < 0.5 || share > 0.7) {
			t.Errorf("%s changes %.0f %% of its pages, want about 60", x.name, 100*share)
		}
	}
	if len(ts) != 194 || size < 1_290_000_000 || size > 1_310_000_000 || dense < 41_000_000 || dense > 43_000_000 {
		t.Errorf("%d tensors, %d bytes, %d of them changed: want 194, 1.3 GB, 42 MB", len(ts), size, dense)
	}
}

func TestReportNamesTheWorst(t *testing.T) {
	samples := []sample{}
	for _, took := range []time.Duration{5 * time.Millisecond, time.Millisecond, 3 * time.Millisecond} {
		samples = append(samples, sample{Steps: map[string]cost{stepAll: {Wall: took, CPU: 2 * took}}})
	}
	c := &contest{label: "x", samples: samples, times: 10}
	r := c.rows()
	if len(r) != 1 || r[0].Wall != 30 || r[0].WallWorst != 50 || r[0].CPU != 60 || r[0].CPUWorst != 100 {
		t.Errorf("rows: %+v", r)
	}
	var b strings.Builder
	rep := &Report{Rounds: 4, Scale: 1, Pairs: []Pair{{Name: "D", Lines: r}}, Calls: []Call{{What: "x", Nanos: 7, Worst: 9}}}
	for _, table := range rep.Tables() {
		if err := table.Text(&b); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"[50]", "3 rounds", "[9]"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, b.String())
		}
	}
}

func TestDifferentFilesAreNoticed(t *testing.T) {
	a, b := t.TempDir()+"/a", t.TempDir()+"/b"
	for name, text := range map[string]string{a: "one", b: "two"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if sameFile(a, a) != nil || sameFile(a, b) == nil {
		t.Error("sameFile does not compare")
	}
}

func TestRatiosAreToTheCheapestHash(t *testing.T) {
	p := Pair{Lines: []Row{{What: bare, CPU: 20}, {What: grouped, CPU: 10}, {What: buffered, CPU: 15}, {What: "x", CPU: 5}}}
	p.compare()
	if p.Lines[0].Ratio != 2 || p.Lines[1].Ratio != 1 || p.Lines[3].Ratio != 0.5 {
		t.Errorf("ratios: %+v", p.Lines)
	}
}

var scale = flag.Float64("scale", 0.2, "of the model that BenchmarkActivate brings in")

// BenchmarkActivate brings pair D and S in again and again; its profile says what
// an activation is made of.
func BenchmarkActivate(b *testing.B) {
	s := &scratch{dir: b.TempDir(), scale: *scale}
	if _, err := s.prepare(b.Context(), io.Discard); err != nil {
		b.Fatal(err)
	}
	for _, pair := range []string{"D", "S"} {
		b.Run(pair, func(b *testing.B) {
			var cpu, wall, hashed, hashedWall time.Duration
			for b.Loop() {
				h, err := job{Kind: "blake3-groups", File: s.delta(pair)}.do(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				hashed, hashedWall = hashed+h.Steps[stepAll].CPU, hashedWall+h.Steps[stepAll].Wall
				j, remove, err := s.activation(arrangement{"store", pair, 2, loader.InPlace, false})
				if err != nil {
					b.Fatal(err)
				}
				x, err := j.do(b.Context())
				if err := errors.Join(err, remove()); err != nil {
					b.Fatal(err)
				}
				cpu, wall = cpu+x.Steps[stepLoaded].CPU, wall+x.Steps[stepLoaded].Wall
			}
			b.ReportMetric(millis(cpu)/float64(b.N), "CPU-ms/activation")
			b.ReportMetric(millis(wall)/float64(b.N), "wall-ms/activation")
			b.ReportMetric(float64(cpu)/float64(hashed), "×-CPU-of-BLAKE3")
			b.ReportMetric(float64(wall)/float64(hashedWall), "×-wall-of-BLAKE3")
		})
	}
}
