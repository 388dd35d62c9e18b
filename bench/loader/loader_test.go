package loader

import (
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
	if sc.Shipped <= d.Shipped || sc.Extents <= d.Extents {
		t.Errorf("S ships %d bytes in %d extents, D %d in %d: want more", sc.Shipped, sc.Extents, d.Shipped, d.Extents)
	}
	for _, mode := range []loader.Mode{loader.InPlace, loader.Copy} {
		j, remove, err := s.activation("S", mode)
		if err != nil {
			t.Fatal(err)
		}
		x, err := j.do(t.Context())
		if err != nil {
			t.Fatal(mode, err)
		}
		for _, step := range []string{stepLoaded, stepProved, stepActive} {
			if c := x.Steps[step]; c.Wall <= 0 || c.Wall > time.Minute {
				t.Errorf("%s: %s took %v", mode, step, c.Wall)
			}
		}
		if a, l := x.Steps[stepActive].Wall, x.Steps[stepLoaded].Wall; a < l {
			t.Errorf("%s: active after %v, loaded only after %v", mode, a, l)
		}
		if err := remove(); err != nil {
			t.Fatal(err)
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
	off, n, err := slice(1, 32<<20)
	if err != nil || off <= 0 || n != 32<<20 {
		t.Errorf("slice: %d bytes at %d, %v", n, off, err)
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
	rep := &Report{Rounds: 3, Scale: 1, Pairs: []Pair{{Name: "D", Rows: r}}}
	if err := rep.Print(&b, "a machine"); err != nil || !strings.Contains(b.String(), "[50.0]") {
		t.Errorf("printed %q, %v", b.String(), err)
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
	p := Pair{Rows: []Row{{What: bare, CPU: 20}, {What: grouped, CPU: 10}, {What: buffered, CPU: 15}, {What: "x", CPU: 5}}}
	p.compare()
	if p.Rows[0].Ratio != 2 || p.Rows[1].Ratio != 1 || p.Rows[3].Ratio != 0.5 {
		t.Errorf("ratios: %+v", p.Rows)
	}
}
