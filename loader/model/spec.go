package model

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// EvalSpec says how a version computes a metric: "eval" of MANIFEST.json. Its
// JSON names are the manifest's.
type EvalSpec struct {
	Kind    string               `json:"kind"`    // "ratio" or "weighted_difference"
	Metric  string               `json:"metric"`  // the metric that is answered, for example "score"
	Input   map[string]InputSpec `json:"input"`   // the formula's name of a number → where it comes from
	Weights map[string]string    `json:"weights"` // the formula's name of a weight → tensor of one element
	Version string               `json:"-"`       // what Version returns, for example "score@2"
}

// InputSpec says where a number comes from.
type InputSpec struct {
	Metric string `json:"metric"` // the metric of the upstream's reply
}

// Input is one number that an Evaluator wants.
type Input struct {
	Name   string // the formula's name, for example "uv"
	Metric string // the metric of the upstream's reply
}

// The kinds.
const (
	KindRatio              = "ratio"               // Ratio: inputs uv, pv; weights scale, bias
	KindWeightedDifference = "weighted_difference" // WeightedDifference: inputs uvd, pvd; weights w_uvd, w_pvd, bias
)

// kind is what a formula needs: its inputs and weights, in the order in which
// build takes the weights and the Evaluator the inputs.
type kind struct {
	inputs, weights []string
	build           func(version string, inputs []Input, w []float64) Evaluator
}

var kinds = map[string]kind{
	KindRatio: {
		[]string{"uv", "pv"},
		[]string{"scale", "bias"},
		func(version string, inputs []Input, w []float64) Evaluator {
			return Adapt(NewRatio(version, w[0], w[1]), inputs,
				func(v []float64) V1 { return V1{UV: v[0], PV: v[1]} })
		},
	},
	KindWeightedDifference: {
		[]string{"uvd", "pvd"},
		[]string{"w_uvd", "w_pvd", "bias"},
		func(version string, inputs []Input, w []float64) Evaluator {
			return Adapt(NewWeightedDifference(version, w[0], w[1], w[2]), inputs,
				func(v []float64) V2 { return V2{UVD: v[0], PVD: v[1]} })
		},
	},
}

// Validate reports the first thing that is wrong with s, by its path in the
// manifest. It looks at no tensor, so a drop can be refused before it is mapped.
func (s *EvalSpec) Validate() error {
	_, err := s.plan()
	return err
}

func (s *EvalSpec) plan() (kind, error) {
	k, ok := kinds[s.Kind]
	if !ok {
		return k, fmt.Errorf("model: eval.kind is %q: want %s", s.Kind, strings.Join(slices.Sorted(maps.Keys(kinds)), " or "))
	}
	if s.Metric == "" {
		return k, fmt.Errorf("model: eval.metric is empty: name the metric that %q answers", s.Kind)
	}
	if err := exactly("eval.input", s.Kind, k.inputs, s.Input); err != nil {
		return k, err
	}
	if err := exactly("eval.weights", s.Kind, k.weights, s.Weights); err != nil {
		return k, err
	}
	for _, name := range k.inputs {
		switch in := s.Input[name]; in.Metric {
		case "":
			return k, fmt.Errorf("model: eval.input.%s.metric is empty: name the metric that gives it", name)
		case s.Metric:
			return k, fmt.Errorf("model: eval.input.%s.metric is %q, the metric that is computed: name one that the upstream answers", name, in.Metric)
		}
	}
	for _, name := range k.weights {
		if s.Weights[name] == "" {
			return k, fmt.Errorf("model: eval.weights.%s is empty: name a tensor", name)
		}
	}
	return k, nil
}

// exactly reports a name of want that got lacks, or one that it has too much.
func exactly[T any](path, kind string, want []string, got map[string]T) error {
	for _, name := range want {
		if _, ok := got[name]; !ok {
			return fmt.Errorf("model: %s.%s is missing: %q needs %s", path, name, kind, strings.Join(want, ", "))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if !slices.Contains(want, name) {
			return fmt.Errorf("model: %s.%s is not known: %q takes %s", path, name, kind, strings.Join(want, ", "))
		}
	}
	return nil
}
