package delta

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
)

// Shadow says that the version is first computed beside the active one, and never
// served.
type Shadow struct {
	Percent float64 `json:"percent"` // of the queries, above 0, at most 100
	Queries int64   `json:"queries"` // compared without a fault before it goes on; 0: until somebody says so
}

// DefaultShadow is what a manifest's shadow leaves out.
var DefaultShadow = Shadow{Percent: 100}

// Warmup is a request that the version must answer before anybody else's.
type Warmup struct {
	Input map[string]float64 `json:"input"`         // one number for each of eval.input
	Min   *float64           `json:"min,omitempty"` // what the answer must be at least; nil: any finite number
	Max   *float64           `json:"max,omitempty"` // likewise
}

// maxWarmup bounds the warm-up requests of a version.
const maxWarmup = 1024

func (w *walk) shadow(path string, v any) *Shadow {
	s := DefaultShadow
	w.object(path, v, []field{
		{"percent", false, func(p string, v any) { s.Percent = w.number(p, v) }},
		{"queries", false, func(p string, v any) { s.Queries = w.integer(p, v) }},
	})
	return &s
}

func (w *walk) warmup(path string, v any) Warmup {
	u := Warmup{Input: map[string]float64{}}
	w.object(path, v, []field{
		{"input", true, func(p string, v any) {
			w.members(p, v, func(name, p string, v any) { u.Input[name] = w.number(p, v) })
		}},
		{"min", false, func(p string, v any) { u.Min = new(w.number(p, v)) }},
		{"max", false, func(p string, v any) { u.Max = new(w.number(p, v)) }},
	})
	return u
}

// ParseWarmup reads a warmup list that stands in a file of its own, before it goes
// into a manifest. Whether it fits the manifest's eval is for Validate.
func ParseWarmup(name string, data []byte) ([]Warmup, error) {
	tree, err := parseJSON(data)
	if err != nil {
		return nil, malformed("%s: %w", name, err)
	}
	var out []Warmup
	w := walk{}
	w.list("warmup", tree, func(p string, v any) { out = append(out, w.warmup(p, v)) })
	for i, err := range w.errs {
		w.errs[i] = fmt.Errorf("%s: %w", name, err)
	}
	if len(w.errs) > 0 {
		return nil, &FormatError{errors.Join(w.errs...)}
	}
	return out, nil
}

// studies checks shadow and warmup: only a version that answers within the process
// can be computed before it serves.
func (w *walk) studies(m *Manifest) {
	if s := m.Shadow; s != nil {
		if m.Eval == nil {
			w.errf("shadow", "needs eval: the upstream computes this version, and asking it twice is no comparison of two versions")
		}
		if !(s.Percent > 0 && s.Percent <= 100) { // NaN is not
			w.errf("shadow.percent", "is %v: want more than 0, at most 100", s.Percent)
		}
		w.within("shadow.queries", uint64(s.Queries), 0, maxNumber)
	}
	if len(m.Warmup) > 0 && m.Eval == nil {
		w.errf("warmup", "needs eval: the upstream computes this version, and nothing here could be warmed up")
		return
	}
	if n := len(m.Warmup); n > maxWarmup {
		w.errf("warmup", "has %d requests, at most %d are allowed", n, maxWarmup)
		return
	}
	for i := range m.Warmup {
		w.request("warmup["+strconv.Itoa(i)+"]", m.Eval, &m.Warmup[i])
	}
}

func (w *walk) request(at string, e *Eval, u *Warmup) {
	for _, name := range slices.Sorted(maps.Keys(u.Input)) {
		if _, ok := e.Input[name]; !ok {
			w.errf(join(at+".input", name), "is not known: eval.input has %v", slices.Sorted(maps.Keys(e.Input)))
		}
		if v := u.Input[name]; math.IsNaN(v) || math.IsInf(v, 0) {
			w.errf(join(at+".input", name), "is %v: want a finite number", v)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.Input)) {
		if _, ok := u.Input[name]; !ok {
			w.errf(join(at+".input", name), "is missing")
		}
	}
	bounded := func(name string, v *float64) bool {
		if v == nil {
			return false
		}
		if math.IsNaN(*v) || math.IsInf(*v, 0) {
			w.errf(at+"."+name, "is %v: want a finite number", *v)
			return false
		}
		return true
	}
	if low, high := bounded("min", u.Min), bounded("max", u.Max); low && high && *u.Min > *u.Max {
		w.errf(at, "min is %v, max %v: no number is between them", *u.Min, *u.Max)
	}
}

// plainZeros makes -0 in what studies wants 0, in copies: RFC 8785 knows one zero.
func (m *Manifest) plainZeros() {
	if m.Shadow != nil {
		s := *m.Shadow
		s.Percent += 0
		m.Shadow = &s
	}
	m.Warmup = slices.Clone(m.Warmup)
	for i := range m.Warmup {
		u := &m.Warmup[i]
		u.Input = maps.Clone(u.Input)
		for name := range u.Input {
			u.Input[name] += 0
		}
		for _, v := range []**float64{&u.Min, &u.Max} {
			if *v != nil {
				*v = new(**v + 0)
			}
		}
	}
}
