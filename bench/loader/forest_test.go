package loader

import (
	"bufio"
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/dmitryikh/leaves"

	"github.com/quadnine/quadnine/loader/model/lightgbm"
	"github.com/quadnine/quadnine/loader/model/trees"
)

// forests returns the same model for both.
func forests(tb testing.TB, missing, categorical bool) (*leaves.Ensemble, *trees.Forest, trees.Parts) {
	tb.Helper()
	text := forestText(missing, categorical)
	theirs, err := leaves.LGEnsembleFromReader(bufio.NewReader(bytes.NewReader(text)), false)
	if err != nil {
		tb.Fatal(err)
	}
	m, err := lightgbm.Parse(bytes.NewReader(text))
	if err != nil {
		tb.Fatal(err)
	}
	p, err := m.Parts()
	if err != nil {
		tb.Fatal(err)
	}
	f, err := trees.Check(p)
	if err != nil {
		tb.Fatal(err)
	}
	return theirs, f, p
}

func rowOf(x []float64) (r trees.Row) {
	for i, v := range x {
		r.Set(uint8(i), v)
	}
	return r
}

// TestForestsAreEqual: both libraries say the same, to the last bit.
func TestForestsAreEqual(t *testing.T) {
	for _, c := range []struct{ missing, categorical bool }{{}, {missing: true}, {true, true}} {
		theirs, f, p := forests(t, c.missing, c.categorical)
		r := rand.New(rand.NewPCG(1, 2))
		for i := range 2000 {
			x := make([]float64, forestFeatures)
			forestRow(r, x)
			if c.missing && i%3 == 0 {
				x[2+r.IntN(forestFeatures-2)] = math.NaN()
			}
			row := rowOf(x)
			got, want := f.Eval(p, &row), theirs.PredictSingle(x, 0)
			if math.Float64bits(got) != math.Float64bits(want) {
				t.Fatalf("%+v, row %d: %v, leaves says %v", c, i, got, want)
			}
		}
	}
}
