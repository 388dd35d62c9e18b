package model

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// EvalSpec says how a version computes a metric: "eval" of MANIFEST.json. Its
// JSON names are the manifest's.
type EvalSpec struct {
	Kind    string               `json:"kind"`             // one of the kinds below
	Metric  string               `json:"metric"`           // the metric that is answered, for example "score"
	Input   map[string]InputSpec `json:"input"`            // the formula's name of a number → where it comes from
	Order   []string             `json:"order,omitempty"`  // the inputs in the order of a row, where the kind leaves it open
	Weights map[string]string    `json:"weights"`          // the formula's name of a weight → tensor
	Schema  map[string]Rule      `json:"schema,omitempty"` // what an input must be; without a rule any number
	Limits  Limits               `json:"limits"`           // of KindWasm
	Version string               `json:"-"`                // what Version returns, for example "score@2"
	Rows    int                  `json:"-"`                // the most rows of one call that there must be room for; 0: one
	// Again looks at the tensors later on, under a lease of its own; nil: what a
	// kind needs is copied at once.
	Again Again `json:"-"`
}

// InputSpec says where a number comes from.
type InputSpec struct {
	Metric string `json:"metric"`          // the metric of the upstream's reply
	Field  string `json:"field,omitempty"` // the member of the reply; "value" when empty
}

// Tensors returns a tensor's safetensors element type and its bytes,
// little-endian, at any alignment.
type Tensors = func(name string) (dtype string, data []byte, ok bool)

// Again runs f over the tensors of a version that was looked at before. What f
// gets is good until it returns.
type Again = func(f func(Tensors) error) error

// Limits are what a KindWasm may take.
type Limits struct {
	MemoryPages uint32        `json:"memory_pages"` // of 64 KiB, for each call under way
	Timeout     time.Duration `json:"timeout"`      // of one call
}

// Input is one number that an Evaluator wants.
type Input struct {
	Name   string // the formula's name, for example "uv"
	Metric string // the metric of the upstream's reply
	Field  string // its member
	Rule   *Rule  // nil: any number, and it must be there
}

// The kinds.
const (
	KindRatio              = "ratio"               // Ratio: inputs uv, pv; weights scale, bias
	KindWeightedDifference = "weighted_difference" // WeightedDifference: inputs uvd, pvd; weights w_uvd, w_pvd, bias
	KindLinear             = "linear"              // Linear: inputs as in order; weights weights, bias
	KindTrees              = "trees"               // a forest: inputs as its header says; weights header, nodes, roots, categories
	KindWasm               = "wasm"                // a WebAssembly module: inputs as in order; weights module and those it wants
)

// kind is what a formula needs.
type kind struct {
	inputs  []string // nil: free, see ordered
	ordered bool     // the inputs are those of eval.order; else, when free, the weights tell
	weights []string
	more    bool // weights beyond these are taken
	missing bool // a value that is missing is NaN to it
	build   func(b *builder) (Evaluator, error)
}

var kinds = map[string]kind{
	KindRatio: {
		inputs: []string{"uv", "pv"}, weights: []string{"scale", "bias"},
		build: func(b *builder) (Evaluator, error) {
			w, err := b.scalars()
			if err != nil {
				return nil, err
			}
			return Adapt(NewRatio(b.spec.Version, w[0], w[1]), b.inputs,
				func(v []float64) V1 { return V1{UV: v[0], PV: v[1]} }), nil
		},
	},
	KindWeightedDifference: {
		inputs: []string{"uvd", "pvd"}, weights: []string{"w_uvd", "w_pvd", "bias"},
		build: func(b *builder) (Evaluator, error) {
			w, err := b.scalars()
			if err != nil {
				return nil, err
			}
			return Adapt(NewWeightedDifference(b.spec.Version, w[0], w[1], w[2]), b.inputs,
				func(v []float64) V2 { return V2{UVD: v[0], PVD: v[1]} }), nil
		},
	},
	KindLinear: {ordered: true, weights: []string{"weights", "bias"}, build: buildLinear},
	KindTrees:  {weights: []string{"header", "nodes", "roots", "categories"}, missing: true, build: buildTrees},
	KindWasm:   {ordered: true, weights: []string{weightModule}, more: true, missing: true, build: buildWasm},
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
		return k, fmt.Errorf("model: eval.kind is %q: want %s", s.Kind, strings.Join(slices.Sorted(maps.Keys(kinds)), ", "))
	}
	if s.Metric == "" {
		return k, fmt.Errorf("model: eval.metric is empty: name the metric that %q answers", s.Kind)
	}
	if err := s.planInputs(&k); err != nil {
		return k, err
	}
	want := k.weights
	if k.more {
		want = slices.Sorted(maps.Keys(s.Weights))
		if _, ok := s.Weights[k.weights[0]]; !ok {
			return k, fmt.Errorf("model: eval.weights.%s is missing: %q needs it", k.weights[0], s.Kind)
		}
	}
	if err := exactly("eval.weights", s.Kind, want, s.Weights); err != nil {
		return k, err
	}
	for _, name := range want {
		if s.Weights[name] == "" {
			return k, fmt.Errorf("model: eval.weights.%s is empty: name a tensor", name)
		}
	}
	err := s.planRules(&k)
	return k, err
}

// planInputs checks the inputs, as far as they are known without the weights.
func (s *EvalSpec) planInputs(k *kind) error {
	if !k.ordered && len(s.Order) > 0 {
		return fmt.Errorf("model: eval.order is not for %q: it says itself what its inputs are", s.Kind)
	}
	names := k.inputs
	switch {
	case k.ordered:
		if names = s.Order; len(names) == 0 {
			return fmt.Errorf("model: eval.order is missing: %q takes its inputs in that order", s.Kind)
		}
		for i, name := range names {
			if slices.Contains(names[:i], name) {
				return fmt.Errorf("model: eval.order[%d] is %q, which is there before", i, name)
			}
		}
	case names == nil:
		names = slices.Sorted(maps.Keys(s.Input))
	}
	if err := exactly("eval.input", s.Kind, names, s.Input); err != nil {
		return err
	}
	for _, name := range names {
		switch in := s.Input[name]; in.Metric {
		case "":
			return fmt.Errorf("model: eval.input.%s.metric is empty: name the metric that gives it", name)
		case s.Metric:
			return fmt.Errorf("model: eval.input.%s.metric is %q, the metric that is computed: name one that the upstream answers", name, in.Metric)
		}
	}
	return nil
}

// planRules checks the schema and the limits.
func (s *EvalSpec) planRules(k *kind) error {
	for _, name := range slices.Sorted(maps.Keys(s.Schema)) {
		if _, ok := s.Input[name]; !ok {
			return fmt.Errorf("model: eval.schema.%s: there is no such input", name)
		}
		r := s.Schema[name]
		if err := r.check(); err != nil {
			return fmt.Errorf("model: eval.schema.%s%w", name, err)
		}
		if !r.Required && r.Default == nil && !k.missing {
			return fmt.Errorf("model: eval.schema.%s.default is missing: %q cannot do without a number", name, s.Kind)
		}
	}
	if s.Kind != KindWasm && s.Limits != (Limits{}) {
		return fmt.Errorf("model: eval.limits is not for %q: only %q has limits", s.Kind, KindWasm)
	}
	return nil
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
