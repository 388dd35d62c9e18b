package model

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"os"
	"testing"
)

type golden struct {
	Kind    string
	Weights map[string]struct{ Dtype, Hex string }
	Inputs  [][]float64 // by input, by case
	Want    []*float64  // by case; nil is not finite
}

// tensors serves the weights of g, shift bytes past the natural alignment.
func (g *golden) tensors(t *testing.T, shift int) func(string) (string, []byte, bool) {
	t.Helper()
	return func(name string) (string, []byte, bool) {
		w, ok := g.Weights[name]
		data, err := hex.DecodeString(w.Hex)
		if err != nil {
			t.Fatal(err)
		}
		return w.Dtype, append(make([]byte, shift, shift+len(data)), data...)[shift:], ok
	}
}

// spec asks for kind, each weight from the tensor of its name and each input
// from the metric of its name.
func spec(kind string) EvalSpec {
	s := EvalSpec{Kind: kind, Metric: "score", Input: map[string]InputSpec{}, Weights: map[string]string{}, Version: "score@2"}
	for _, name := range kinds[kind].inputs {
		s.Input[name] = InputSpec{Metric: name}
	}
	for _, name := range kinds[kind].weights {
		s.Weights[name] = name
	}
	return s
}

// TestNumpy holds every kind to what numpy computed, bit for bit; the promise is
// 1e-12 relative. testdata/gen.py wrote the file.
func TestNumpy(t *testing.T) {
	text, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []golden
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	cases, infinite := map[string]int{}, 0
	for i, g := range all {
		ev, err := Build(spec(g.Kind), g.tensors(t, 1+i%7))
		if err != nil {
			t.Fatalf("group %d: %v", i, err)
		}
		for c, want := range g.Want {
			cases[g.Kind]++
			values := []float64{g.Inputs[0][c], g.Inputs[1][c]}
			got, err := ev.Eval(values)
			if want == nil {
				infinite++
				if !errors.Is(err, ErrNotFinite) || got != 0 {
					t.Errorf("group %d %s%v = %v, %v; want ErrNotFinite", i, g.Kind, values, got, err)
				}
				continue
			}
			if err != nil || math.Float64bits(got) != math.Float64bits(*want) {
				t.Errorf("group %d %s%v = %v, %v; numpy says %v", i, g.Kind, values, got, err, *want)
			}
		}
	}
	for kind := range cases {
		if cases[kind] < 300 {
			t.Errorf("%d cases of %s", cases[kind], kind)
		}
	}
	if len(cases) != 2 {
		t.Errorf("%d kinds", len(cases))
	}
	if infinite < 100 {
		t.Errorf("%d results that are not finite", infinite)
	}
}
