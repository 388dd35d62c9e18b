package delta

import (
	"maps"
	"math"
	"slices"
	"time"
)

var evalKinds = []string{EvalRatio, EvalWeightedDifference, EvalLinear, EvalTrees, EvalWasm}

// Rule is what an input of an evaluation must be. What is against it is refused
// with the input's name.
type Rule struct {
	Type       string   `json:"type"`
	Required   bool     `json:"required"`             // ParseManifest: true when left out
	Default    *float64 `json:"default,omitempty"`    // what a missing one is
	Min        *float64 `json:"min,omitempty"`        // of a number
	Max        *float64 `json:"max,omitempty"`        // of a number
	Categories []string `json:"categories,omitempty"` // of a category, in the order of their numbers
}

// The types of a Rule.
const (
	RuleNumber   = "number"
	RuleInteger  = "integer"
	RuleBoolean  = "boolean"
	RuleCategory = "category"
)

var ruleTypes = []string{RuleNumber, RuleInteger, RuleBoolean, RuleCategory}

// Limits are what a WebAssembly module may take.
type Limits struct {
	MemoryPages uint32 `json:"memory_pages"` // of 64 KiB, for each call under way
	TimeoutMS   uint32 `json:"timeout_ms"`   // of one call
}

// DefaultLimits is what a manifest's limits leave out.
var DefaultLimits = Limits{MemoryPages: 64, TimeoutMS: 100}

// Timeout is the limit of one call.
func (l Limits) Timeout() time.Duration { return time.Duration(l.TimeoutMS) * time.Millisecond }

// Bounds of rules and limits. The schema has them too.
const (
	maxCategories  = 4096
	maxCategory    = 256  // bytes
	maxMemoryPages = 1024 // 64 MiB a call under way
	maxTimeoutMS   = 1000 // a worker is held for as long
)

// usualField is the member of a reply that is read when none is named.
const usualField = "value"

func (w *walk) input(path string, v any) (in Input) {
	w.object(path, v, []field{
		{"metric", true, func(p string, v any) { in.Metric = w.text(p, v) }},
		{"field", false, func(p string, v any) { in.Field = w.text(p, v) }},
	})
	if in.Field == usualField {
		in.Field = "" // what means the same is signed the same
	}
	return in
}

func (w *walk) rule(path string, v any) Rule {
	r := Rule{Required: true}
	number := func(to **float64) func(string, any) {
		return func(p string, v any) { *to = new(w.number(p, v) + 0) } // -0 becomes 0: RFC 8785 knows one zero
	}
	w.object(path, v, []field{
		{"type", true, func(p string, v any) { r.Type = w.text(p, v) }},
		{"required", false, func(p string, v any) {
			b, ok := v.(bool)
			if !ok {
				w.errf(p, "got %s, want true or false", describe(v))
			}
			r.Required = b
		}},
		{"default", false, number(&r.Default)},
		{"min", false, number(&r.Min)},
		{"max", false, number(&r.Max)},
		{"categories", false, func(p string, v any) {
			w.list(p, v, func(p string, v any) { r.Categories = append(r.Categories, w.text(p, v)) })
		}},
	})
	return r
}

func (w *walk) limits(path string, v any) *Limits {
	l := DefaultLimits
	number := func(to *uint32) func(string, any) {
		return func(p string, v any) { *to = uint32(min(w.integer(p, v), math.MaxUint32)) }
	}
	w.object(path, v, []field{
		{"memory_pages", false, number(&l.MemoryPages)},
		{"timeout_ms", false, number(&l.TimeoutMS)},
	})
	return &l
}

// rules checks order, schema and limits as far as a manifest alone shows.
func (w *walk) rules(e *Eval) {
	if n := len(e.Order); n > maxInputs {
		w.errf("eval.order", "has %d members, at most %d are allowed", n, maxInputs)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Schema)) {
		at, r := join("eval.schema", name), e.Schema[name]
		if _, ok := e.Input[name]; !ok {
			w.errf(at, "there is no such input")
		}
		if !slices.Contains(ruleTypes, r.Type) {
			w.errf(at+".type", "%q: want one of %v", r.Type, ruleTypes)
		}
		if n := len(r.Categories); n > maxCategories {
			w.errf(at+".categories", "has %d members, at most %d are allowed", n, maxCategories)
		}
		for i, c := range r.Categories {
			if len(c) > maxCategory || slices.Contains(r.Categories[:i], c) {
				w.errf(at+".categories", "%.40q: want texts of at most %d bytes, each once", c, maxCategory)
			}
		}
	}
	if l := e.Limits; l != nil {
		if e.Kind != EvalWasm {
			w.errf("eval.limits", "is for kind %q only", EvalWasm)
		}
		w.within("eval.limits.memory_pages", uint64(l.MemoryPages), 1, maxMemoryPages)
		w.within("eval.limits.timeout_ms", uint64(l.TimeoutMS), 1, maxTimeoutMS)
	}
}
