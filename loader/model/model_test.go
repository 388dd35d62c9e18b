package model

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
)

var (
	_ StatModel[V1] = (*Ratio)(nil)
	_ StatModel[V2] = (*WeightedDifference)(nil)
)

func f64(v float64) []byte { return binary.LittleEndian.AppendUint64(nil, math.Float64bits(v)) }

// weights serves one F64 tensor a name.
func weights(values map[string]float64) func(string) (string, []byte, bool) {
	return func(name string) (string, []byte, bool) {
		v, ok := values[name]
		return "F64", f64(v), ok
	}
}

var ratioWeights = map[string]float64{"scale": 100, "bias": 1}

func build(tb testing.TB, kind string, values map[string]float64) Evaluator {
	tb.Helper()
	ev, err := Build(spec(kind), weights(values))
	if err != nil {
		tb.Fatal(err)
	}
	return ev
}

// The manifest's text makes the evaluator, and one changed weight changes the
// number.
func TestBuildFromManifest(t *testing.T) {
	var s EvalSpec
	if err := json.Unmarshal([]byte(`{"kind": "ratio", "metric": "score",
		"input": {"uv": {"metric": "visitors"}, "pv": {"metric": "views"}},
		"weights": {"scale": "head.scale", "bias": "head.bias"}}`), &s); err != nil {
		t.Fatal(err)
	}
	s.Version = "score@2"
	for scale, want := range map[float64]float64{100: 26, 200: 51} {
		ev, err := Build(s, weights(map[string]float64{"head.scale": scale, "head.bias": 1}))
		if err != nil {
			t.Fatal(err)
		}
		if in := ev.Inputs(); !reflect.DeepEqual(in, []Input{{Name: "uv", Metric: "visitors", Field: "value"}, {Name: "pv", Metric: "views", Field: "value"}}) || ev.Version() != "score@2" {
			t.Errorf("%v of %s", in, ev.Version())
		}
		if got, err := ev.Eval([]float64{2, 8}); got != want || err != nil {
			t.Errorf("scale %v: %v, %v; want %v", scale, got, err, want)
		}
	}
}

// An evaluator goes on telling what was verified when the mapping changes.
func TestBuildKeepsNoSlice(t *testing.T) {
	tensor := f64(2)
	ev, err := Build(spec(KindRatio), func(string) (string, []byte, bool) { return "F64", tensor, true })
	if err != nil {
		t.Fatal(err)
	}
	clear(tensor)
	if got, err := ev.Eval([]float64{1, 2}); got != 3 || err != nil {
		t.Errorf("%v, %v; want 3", got, err)
	}
}

func TestBuildNamesTheField(t *testing.T) {
	good := weights(ratioWeights)
	typed := func(dtype string, data []byte) func(string) (string, []byte, bool) {
		return func(name string) (string, []byte, bool) {
			if name == "bias" {
				return dtype, data, true
			}
			return good(name)
		}
	}
	for want, x := range map[string]struct {
		change  func(*EvalSpec)
		tensors func(string) (string, []byte, bool)
	}{
		`eval.kind is "cubic": want linear, ratio, trees, wasm, weighted_difference`:                {change: func(s *EvalSpec) { s.Kind = "cubic" }},
		`eval.order is not for "ratio"`:                                                             {change: func(s *EvalSpec) { s.Order = []string{"uv", "pv"} }},
		`eval.limits is not for "ratio"`:                                                            {change: func(s *EvalSpec) { s.Limits.MemoryPages = 1 }},
		`eval.schema.x: there is no such input`:                                                     {change: func(s *EvalSpec) { s.Schema = map[string]Rule{"x": {Type: TypeNumber}} }},
		`eval.schema.uv.default is missing: "ratio" cannot do without a number`:                     {change: func(s *EvalSpec) { s.Schema = map[string]Rule{"uv": {Type: TypeNumber}} }},
		`eval.metric is empty`:                                                                      {change: func(s *EvalSpec) { s.Metric = "" }},
		`eval.input.pv is missing: "ratio" needs uv, pv`:                                            {change: func(s *EvalSpec) { delete(s.Input, "pv") }},
		`eval.input.uvd is not known: "ratio" takes uv, pv`:                                         {change: func(s *EvalSpec) { s.Input["uvd"] = InputSpec{Metric: "x"} }},
		`eval.input.uv.metric is empty`:                                                             {change: func(s *EvalSpec) { s.Input["uv"] = InputSpec{} }},
		`eval.input.uv.metric is "score", the metric that is computed`:                              {change: func(s *EvalSpec) { s.Input["uv"] = InputSpec{Metric: "score"} }},
		`eval.weights.bias is missing: "ratio" needs scale, bias`:                                   {change: func(s *EvalSpec) { delete(s.Weights, "bias") }},
		`eval.weights.w_uvd is not known: "ratio" takes scale, bias`:                                {change: func(s *EvalSpec) { s.Weights["w_uvd"] = "x" }},
		`eval.weights.bias is empty: name a tensor`:                                                 {change: func(s *EvalSpec) { s.Weights["bias"] = "" }},
		`eval.weights.bias is "b": the version has no tensor`:                                       {change: func(s *EvalSpec) { s.Weights["bias"] = "b" }},
		`eval.weights.bias: tensor "bias": its type is BF16`:                                        {tensors: typed("BF16", []byte{1, 2})},
		`eval.weights.bias: tensor "bias": it has 16 bytes`:                                         {tensors: typed("F64", make([]byte, 16))},
		`eval.weights.bias: tensor "bias": it has 0 bytes: a weight is one element, 4 bytes of F32`: {tensors: typed("F32", nil)},
	} {
		s := spec(KindRatio)
		if x.change != nil {
			x.change(&s)
		}
		if x.tensors == nil {
			x.tensors = good
		}
		ev, err := Build(s, x.tensors)
		if err == nil || ev != nil || !strings.HasPrefix(err.Error(), "model: "+want) {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
	for kind, k := range kinds {
		s := spec(kind)
		if k.inputs == nil {
			s.Input["a"] = InputSpec{Metric: "a"}
		}
		if k.ordered {
			s.Order = []string{"a"}
		}
		if err := s.Validate(); err != nil {
			t.Error(err)
		}
	}
}

func TestEvalErrors(t *testing.T) {
	good := build(t, KindRatio, ratioWeights)
	for name, x := range map[string]struct {
		ev     Evaluator
		values []float64
		want   error
		says   string
	}{
		"NaN goes in":      {good, []float64{math.NaN(), 1}, ErrInput, "uv (metric uv) is NaN"},
		"infinity goes in": {good, []float64{1, math.Inf(-1)}, ErrInput, "pv (metric pv) is -Inf"},
		"one is missing":   {good, []float64{1}, ErrInput, "1 values for 2 inputs"},
		"NaN weight":       {build(t, KindRatio, map[string]float64{"scale": math.NaN(), "bias": 1}), []float64{0, 0}, ErrNotFinite, "score@2"},
		"infinite weight":  {build(t, KindRatio, map[string]float64{"scale": math.Inf(1), "bias": 1}), []float64{0, 0}, ErrNotFinite, "score@2"},
		"large weights":    {build(t, KindRatio, map[string]float64{"scale": 1e300, "bias": 1}), []float64{1e9, 1}, ErrNotFinite, "score@2"},
	} {
		if got, err := x.ev.Eval(x.values); got != 0 || !errors.Is(err, x.want) || !strings.Contains(err.Error(), x.says) {
			t.Errorf("%s: %v, %v; want %v", name, got, err, x.want)
		}
	}
}

// mean is a model of another program's.
type mean struct{}

func (mean) Compute(v [3]float64) float64 { return (v[0] + v[1] + v[2]) / 3 }
func (mean) Version() string              { return "mean@1" }

func TestAdapt(t *testing.T) {
	ev := Adapt(mean{}, []Input{{Name: "a", Metric: "pv"}, {Name: "b", Metric: "uv"}, {Name: "c", Metric: "ratio"}}, func(v []float64) [3]float64 { return [3]float64(v) })
	if got, err := ev.Eval([]float64{1, 2, 6}); got != 3 || err != nil || ev.Version() != "mean@1" {
		t.Errorf("%v, %v of %s", got, err, ev.Version())
	}
}

func TestEvalAllocs(t *testing.T) {
	bad := build(t, KindRatio, map[string]float64{"scale": math.NaN(), "bias": 1})
	for name, ev := range map[string]Evaluator{
		"ratio":               build(t, KindRatio, ratioWeights),
		"weighted_difference": build(t, KindWeightedDifference, map[string]float64{"w_uvd": 2, "w_pvd": 3, "bias": 1}),
		"NaN":                 bad,
		"linear":              linear(t, 2),
		"trees":               forestOf(t, nil),
	} {
		values := []float64{3, 4}
		if n := testing.AllocsPerRun(200, func() { sink, _ = ev.Eval(values) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

var sink float64

func BenchmarkEvalLinear(b *testing.B) { benchmark(b, linear(b, 2)) }

func BenchmarkEvalRatio(b *testing.B) {
	benchmark(b, build(b, KindRatio, ratioWeights))
}

func BenchmarkEvalWeightedDifference(b *testing.B) {
	benchmark(b, build(b, KindWeightedDifference, map[string]float64{"w_uvd": 2, "w_pvd": 3, "bias": 1}))
}

func benchmark(b *testing.B, ev Evaluator) {
	b.Helper()
	values := []float64{3, 4}
	b.ReportAllocs()
	for b.Loop() {
		sink, _ = ev.Eval(values)
	}
}

// What a caller that knows the type pays.
func BenchmarkComputeRatio(b *testing.B) {
	var m StatModel[V1] = NewRatio("score@1", 100, 1)
	b.ReportAllocs()
	for b.Loop() {
		sink = m.Compute(V1{UV: 3, PV: 4})
	}
}

func BenchmarkBuild(b *testing.B) {
	s, tensors := spec(KindRatio), weights(ratioWeights)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Build(s, tensors); err != nil {
			b.Fatal(err)
		}
	}
}
