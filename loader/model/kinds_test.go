package model

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quadnine/quadnine/loader/model/trees"
)

// tensor is one tensor of a test's version.
type tensor struct {
	dtype string
	data  []byte
}

func f64s(v ...float64) tensor {
	var data []byte
	for _, x := range v {
		data = append(data, f64(x)...)
	}
	return tensor{"F64", data}
}

func serve(m map[string]tensor) Tensors {
	return func(name string) (string, []byte, bool) {
		x, ok := m[name]
		return x.dtype, x.data, ok
	}
}

// ordered is a spec with inputs a, b, … in that order.
func ordered(kind string, n int) EvalSpec {
	s := spec(kind)
	for i := range n {
		name := string(rune('a' + i))
		s.Input[name], s.Order = InputSpec{Metric: "m." + name}, append(s.Order, name)
	}
	return s
}

// linear is a version with weights 1, 2, … and bias 100.
func linear(tb testing.TB, n int) Evaluator {
	tb.Helper()
	w := make([]float64, n)
	for i := range w {
		w[i] = float64(i + 1)
	}
	ev, err := Build(ordered(KindLinear, n), serve(map[string]tensor{"weights": f64s(w...), "bias": f64s(100)}))
	if err != nil {
		tb.Fatal(err)
	}
	return ev
}

func TestLinear(t *testing.T) {
	ev := linear(t, 3)
	if got, err := ev.Eval([]float64{1, 10, 100}); got != 421 || err != nil {
		t.Errorf("%v, %v; want 1·1 + 2·10 + 3·100 + 100", got, err)
	}
	out := []float64{0, 0}
	if err := EvalRows(ev, []float64{1, 0, 0, 0, 0, 1}, out); err != nil || !slices.Equal(out, []float64{101, 103}) {
		t.Errorf("rows: %v, %v", out, err)
	}
	if _, err := ev.Eval([]float64{1, 2}); !errors.Is(err, ErrInput) {
		t.Errorf("two numbers of three: %v", err)
	}
	if err := EvalRows(ev, []float64{1, 2, 3, 4}, out); !errors.Is(err, ErrInput) {
		t.Errorf("four numbers for two rows: %v", err)
	}
	if err := EvalRows(ev, []float64{1, 0, 0, 0, math.NaN(), 1}, out); !errors.Is(err, ErrInput) || !strings.HasPrefix(err.Error(), "rows[1]: ") {
		t.Errorf("a row with NaN: %v", err)
	}
	// The order of the additions is stated, and none is fused.
	s := ordered(KindLinear, 3)
	big, err := Build(s, serve(map[string]tensor{"weights": f64s(1, 1, 1), "bias": f64s(1)}))
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := big.Eval([]float64{1e16, 1, -1e16}); got != 1 {
		t.Errorf("%v: want ((1e16 + 1) − 1e16) + 1, each step rounded", got)
	}
	for want, c := range map[string]struct {
		order   []string
		weights tensor
	}{
		`eval.weights.weights: tensor "weights": it has 2 elements, eval.order has 3 inputs`: {s.Order, f64s(1, 2)},
		`eval.weights.weights: tensor "weights": its type is I8`:                             {s.Order, tensor{"I8", nil}},
		`eval.order is missing: "linear" takes its inputs in that order`:                     {nil, f64s(1, 2, 3)},
		`eval.order[1] is "a", which is there before`:                                        {[]string{"a", "a", "b"}, f64s(1, 2, 3)},
		`eval.input.c is not known: "linear" takes a, b`:                                     {[]string{"a", "b"}, f64s(1, 2)},
	} {
		s := s
		s.Order = c.order
		if _, err := Build(s, serve(map[string]tensor{"weights": c.weights, "bias": f64s(1)})); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
}

// forestParts is a tree of two splits over a and b.
func forestParts(tb testing.TB) map[string]tensor {
	tb.Helper()
	m := trees.Model{
		Header: trees.Header{Features: []string{"a", "b"}, Transform: trees.Identity},
		Trees: []trees.Tree{{
			Splits: []trees.Split{{Feature: 0, Threshold: 3, Missing: trees.MissingNaN, DefaultLeft: true, Left: ^0, Right: 1}, {Feature: 1, Threshold: 5, Left: ^1, Right: ^2}},
			Leaves: []float64{10, 20, 30},
		}, {Leaves: []float64{1}}},
	}
	p, err := m.Parts()
	if err != nil {
		tb.Fatal(err)
	}
	return map[string]tensor{"header": {"U8", p.Header}, "nodes": {"U8", p.Nodes}, "roots": {"U32", p.Roots}, "categories": {"U32", p.Categories}}
}

// forestOf builds an evaluator of it.
func forestOf(tb testing.TB, again Again) Evaluator {
	tb.Helper()
	s := spec(KindTrees)
	s.Input = map[string]InputSpec{"a": {Metric: "m.a"}, "b": {Metric: "m.b", Field: "p95"}}
	s.Again = again
	ev, err := Build(s, serve(forestParts(tb)))
	if err != nil {
		tb.Fatal(err)
	}
	return ev
}

func TestTrees(t *testing.T) {
	ev := forestOf(t, nil)
	if in := ev.Inputs(); len(in) != 2 || in[0] != (Input{Name: "a", Metric: "m.a", Field: "value"}) || in[1] != (Input{Name: "b", Metric: "m.b", Field: "p95"}) {
		t.Errorf("%+v", in)
	}
	for _, c := range []struct{ a, b, want float64 }{{3, 9, 11}, {3.1, 5, 21}, {4, 5.1, 31}, {math.NaN(), 9, 11}, {4, math.NaN(), 21}} {
		if got, err := ev.Eval([]float64{c.a, c.b}); got != c.want || err != nil {
			t.Errorf("%v, %v: %v, %v; want %v", c.a, c.b, got, err, c.want)
		}
	}
	if _, err := ev.Eval([]float64{1}); !errors.Is(err, ErrInput) {
		t.Errorf("one number of two: %v", err)
	}
	// What is mapped is looked at again for each call: bytes that are gone, or of
	// another size, are an error and no answer.
	parts := forestParts(t)
	var gone error
	ev = forestOf(t, func(f func(Tensors) error) error {
		if gone != nil {
			return gone
		}
		return f(serve(parts))
	})
	if got, err := ev.Eval([]float64{3, 9}); got != 11 || err != nil {
		t.Errorf("mapped: %v, %v", got, err)
	}
	if parts["nodes"] = (tensor{"U8", parts["nodes"].data[16:]}); true {
		if _, err := ev.Eval([]float64{3, 9}); !errors.Is(err, errChanged) {
			t.Errorf("cut bytes: %v", err)
		}
	}
	looks := 0
	several := forestOf(t, func(f func(Tensors) error) error { looks++; return f(serve(forestParts(t))) })
	out := make([]float64, 5)
	if err := EvalRows(several, []float64{3, 9, 3.1, 5, 4, 5.1, math.NaN(), 9, 4, math.NaN()}, out); err != nil || !slices.Equal(out, []float64{11, 21, 31, 11, 21}) || looks != 1 {
		t.Errorf("rows: %v, %v, under %d leases, want one", out, err, looks)
	}
	if err := EvalRows(ev, []float64{3, 9}, out[:1]); !errors.Is(err, errChanged) {
		t.Errorf("cut bytes: %v", err)
	}
	gone = errors.New("revoked")
	if _, err := ev.Eval([]float64{3, 9}); !errors.Is(err, gone) {
		t.Errorf("revoked: %v", err)
	}
	for want, change := range map[string]func(*EvalSpec, map[string]tensor){
		`eval.input.b is missing: "trees" needs a, b`:              func(s *EvalSpec, _ map[string]tensor) { delete(s.Input, "b") },
		`eval.input.c is not known: "trees" takes a, b`:            func(s *EvalSpec, _ map[string]tensor) { s.Input["c"] = InputSpec{Metric: "c"} },
		`eval.order is not for "trees"`:                            func(s *EvalSpec, _ map[string]tensor) { s.Order = []string{"a", "b"} },
		`tensor "nodes": its type is F64, want U8`:                 func(_ *EvalSpec, m map[string]tensor) { m["nodes"] = f64s(1) },
		`eval.weights.roots is "roots": the version has no tensor`: func(_ *EvalSpec, m map[string]tensor) { delete(m, "roots") },
		`not a forest: roots: 0 bytes`:                             func(_ *EvalSpec, m map[string]tensor) { m["roots"] = tensor{"U32", nil} },
	} {
		s, m := spec(KindTrees), forestParts(t)
		s.Input = map[string]InputSpec{"a": {Metric: "m.a"}, "b": {Metric: "m.b"}}
		change(&s, m)
		if _, err := Build(s, serve(m)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
}

func TestWasm(t *testing.T) {
	read := func(name string) tensor {
		b, err := os.ReadFile(filepath.FromSlash(name))
		if err != nil {
			t.Fatal(err)
		}
		return tensor{"U8", b}
	}
	s := ordered(KindWasm, 2)
	s.Weights = map[string]string{"module": "m", "scale": "s", "bias": "b"}
	s.Limits = Limits{MemoryPages: 16, Timeout: time.Minute}
	m := map[string]tensor{"m": read("../../examples/wasm/ratio.wasm"), "s": f64s(100), "b": f64s(1)}
	ev, err := Build(s, serve(m))
	if err != nil {
		t.Fatal(err)
	}
	clear(m["m"].data) // nothing of the mapping is the guest's
	clear(m["s"].data)
	out := []float64{0, 0}
	if err := EvalRows(ev, []float64{2, 8, 1, 0}, out); err != nil || !slices.Equal(out, []float64{26, 1}) {
		t.Errorf("rows: %v, %v", out, err)
	}
	if got, err := ev.Eval([]float64{2, 8}); got != 26 || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	if err := EvalRows(ev, nil, nil); err != nil {
		t.Errorf("no rows: %v", err)
	}
	if err := EvalRows(ev, []float64{2, 8, math.NaN(), 1}, out); !errors.Is(err, ErrNotFinite) || !strings.HasPrefix(err.Error(), "rows[1]: ") {
		t.Errorf("a row that is NaN: %v", err)
	}
	s = ordered(KindWasm, 1)
	s.Weights, s.Limits = map[string]string{"module": "m"}, Limits{MemoryPages: 16, Timeout: time.Minute}
	if ev, err = Build(s, serve(map[string]tensor{"m": read("wasm/testdata/fickle.wasm")})); err != nil {
		t.Fatal(err)
	}
	for v, want := range map[float64]error{4: ErrInput, 5: ErrNotFinite} {
		if _, err := ev.Eval([]float64{v}); !errors.Is(err, want) {
			t.Errorf("%v: %v, want %v", v, err, want)
		}
	}
	s.Rows = 40_000 // of 16 bytes: more than 10 pages have room for
	s.Limits.MemoryPages = 10
	if _, err := Build(s, serve(map[string]tensor{"m": read("wasm/testdata/fickle.wasm")})); err == nil || !strings.Contains(err.Error(), `eval.weights.module: tensor "m": wasm: room for 40000 rows: `) {
		t.Errorf("a module without room for the most rows: %v", err)
	}
	s.Rows, s.Limits.MemoryPages = 0, 16
	if _, err := ev.Eval([]float64{2}); err == nil || errors.Is(err, ErrInput) || errors.Is(err, ErrNotFinite) || !strings.Contains(err.Error(), "trapped") {
		t.Errorf("trap: %v", err)
	}
	if _, err := Build(s, serve(map[string]tensor{"m": f64s(1)})); err == nil || !strings.Contains(err.Error(), "its type is F64, want U8") {
		t.Errorf("%v", err)
	}
	if _, err := Build(s, serve(map[string]tensor{"m": {"U8", []byte("x")}})); err == nil || !strings.Contains(err.Error(), `eval.weights.module: tensor "m": wasm: it is no WebAssembly module`) {
		t.Errorf("%v", err)
	}
	s.Weights = map[string]string{"scale": "s"}
	if _, err := Build(s, serve(m)); err == nil || !strings.Contains(err.Error(), "eval.weights.module is missing") {
		t.Errorf("%v", err)
	}
}

// A tensor that is too large for what it is named as is refused before anybody
// copies it: the manifest chooses which one that is.
func TestBuildCopiesNothingThatDoesNotFit(t *testing.T) {
	large := make([]byte, 64<<20)
	module, err := os.ReadFile("../../examples/wasm/ratio.wasm")
	if err != nil {
		t.Fatal(err)
	}
	guest := ordered(KindWasm, 2)
	guest.Weights, guest.Limits = map[string]string{"module": "m", "scale": "large"}, Limits{MemoryPages: 16, Timeout: time.Minute}
	code := guest
	code.Weights = map[string]string{"module": "large"}
	scale := spec(KindRatio)
	scale.Weights["scale"] = "large"
	row := ordered(KindLinear, 2)
	row.Weights["weights"] = "large"
	for want, x := range map[string]struct {
		spec  EvalSpec
		dtype string
	}{
		"its tensors have 67108864 bytes, its memory at most 1048576": {guest, "U8"},
		"it has 67108864 bytes, at most 16777216 are allowed":         {code, "U8"},
		"it has 67108864 bytes: a weight is one element":              {scale, "F64"},
		"it has 16777216 elements, eval.order has 2 inputs":           {row, "F32"},
	} {
		m := map[string]tensor{"large": {x.dtype, large}, "m": {"U8", module}, "bias": f64s(1)}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Build(x.spec, serve(m))
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v\nwant %s", err, want)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > uint64(len(large))/4 {
			t.Errorf("%s: %d bytes were allocated", want, n)
		}
	}
}

func TestRuleReads(t *testing.T) {
	low, high, five := 0.0, 10.0, 5.0
	number := Rule{Type: TypeNumber, Required: true, Min: &low, Max: &high}
	category := Rule{Type: TypeCategory, Required: true, Categories: []string{"mobile", "desktop"}}
	for _, c := range []struct {
		rule Rule
		text string
		want float64 // when says is empty
		says string
	}{
		{number, "3.5", 3.5, ""},
		{number, "0", 0, ""},
		{number, "10.5", 0, "it is 10.5: want at most 10"},
		{number, "-1", 0, "it is -1: want at least 0"},
		{number, `"3"`, 0, `it is "3": want a number`},
		{number, "true", 0, "it is true: want a number"},
		{number, "null", 0, "it is missing"},
		{number, "", 0, "it is missing"},
		{number, "1e999", 0, "want a number"},
		{Rule{Type: TypeInteger, Required: true}, "3", 3, ""},
		{Rule{Type: TypeInteger, Required: true}, "3.5", 0, "want a whole number"},
		{Rule{Type: TypeBoolean, Required: true}, "true", 1, ""},
		{Rule{Type: TypeBoolean, Required: true}, "false", 0, ""},
		{Rule{Type: TypeBoolean, Required: true}, "1", 0, "want a boolean"},
		{category, `"desktop"`, 1, ""},
		{category, `"tv"`, 0, `it is "tv": want one of 2 categories`},
		{category, "1", 0, "want a category"},
		{Rule{Type: TypeNumber, Default: &five}, "", 5, ""},
		{Rule{Type: TypeNumber, Default: &five}, "null", 5, ""},
		{Rule{Type: TypeNumber, Default: &five}, "6", 6, ""},
		{Rule{Type: TypeNumber}, "", math.NaN(), ""},
	} {
		if err := c.rule.check(); err != nil {
			t.Errorf("%+v: %v", c.rule, err)
		}
		got, err := c.rule.Read(json.RawMessage(c.text))
		if c.says == "" && (err != nil || math.Float64bits(got) != math.Float64bits(c.want) && !(math.IsNaN(got) && math.IsNaN(c.want))) {
			t.Errorf("%s: %v, %v; want %v", c.text, got, err, c.want)
		}
		if c.says != "" && (!errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v; want %s", c.text, err, c.says)
		}
	}
	for want, r := range map[string]Rule{
		`.type is "text"`:                                      {Type: "text"},
		`: min and max are not for a b`:                        {Type: TypeBoolean, Min: &low},
		`.min is 10, max 0`:                                    {Type: TypeNumber, Min: &high, Max: &low},
		`.categories: a category needs`:                        {Type: TypeCategory},
		`.categories: a category needs them, and nothing else`: {Type: TypeNumber, Categories: []string{"x"}},
		`.categories[1] is "x", which is there before`:         {Type: TypeCategory, Categories: []string{"x", "x"}},
		`.default is never used`:                               {Type: TypeNumber, Required: true, Default: &five},
		`.default is 5: want at least 10`:                      {Type: TypeNumber, Default: &five, Min: &high},
		`.default is 5: want 0 or 1`:                           {Type: TypeBoolean, Default: &five},
		`.default is 5: want the place of a category`:          {Type: TypeCategory, Default: &five, Categories: []string{"x"}},
	} {
		if err := r.check(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", r, err, want)
		}
	}
}

// Only what changes the number has another meaning: a version in shadow is given
// the active one's numbers.
func TestRuleMeaning(t *testing.T) {
	five, low := 5.0, 0.0
	plain := Rule{Type: TypeNumber, Required: true}
	same := []Rule{{Type: TypeInteger, Required: true}, {Type: TypeNumber, Required: true, Min: &low}}
	for _, r := range same {
		if r.Meaning() != plain.Meaning() {
			t.Errorf("%+v means %q", r, r.Meaning())
		}
	}
	seen := map[string]bool{plain.Meaning(): true}
	for _, r := range []Rule{
		{Type: TypeNumber},
		{Type: TypeNumber, Default: &five},
		{Type: TypeNumber, Default: &low},
		{Type: TypeBoolean, Required: true},
		{Type: TypeBoolean},
		{Type: TypeCategory, Categories: []string{"a", "b"}},
		{Type: TypeCategory, Categories: []string{"b", "a"}},
		{Type: TypeCategory, Required: true, Categories: []string{"a", "b"}},
	} {
		if seen[r.Meaning()] {
			t.Errorf("%+v means %q, as another does", r, r.Meaning())
		}
		seen[r.Meaning()] = true
	}
}

func TestNarrower(t *testing.T) {
	v := func(x float64) *float64 { return &x }
	number := Rule{Type: TypeNumber, Required: true}
	for i, c := range []struct {
		old, fresh Rule
		want       string
	}{
		{number, number, ""},
		{number, Rule{Type: TypeNumber, Min: v(1)}, "a: wants at least 1"},
		{Rule{Type: TypeNumber, Min: v(1), Max: v(2), Required: true}, number, ""},
		{Rule{Type: TypeNumber, Min: v(1), Required: true}, Rule{Type: TypeNumber, Min: v(2)}, "a: wants at least 2"},
		{Rule{Type: TypeNumber, Max: v(2), Required: true}, Rule{Type: TypeNumber, Max: v(1)}, "a: wants at most 1"},
		{Rule{Type: TypeNumber}, number, "a: must be there"},
		{Rule{Type: TypeInteger, Required: true}, number, ""},
		{number, Rule{Type: TypeInteger}, "a: wants a integer, not a number"},
		{Rule{Type: TypeCategory, Categories: []string{"x", "y"}}, Rule{Type: TypeCategory, Categories: []string{"y"}}, `a: does not know the category "x"`},
		{Rule{Type: TypeCategory, Categories: []string{"y"}}, Rule{Type: TypeCategory, Categories: []string{"x", "y"}}, ""},
	} {
		got := Narrower(map[string]Rule{"a": c.old}, map[string]Rule{"a": c.fresh}, []string{"a", "b"})
		if strings.Join(got, "; ") != c.want {
			t.Errorf("case %s: %q, want %q", strconv.Itoa(i), got, c.want)
		}
	}
}
