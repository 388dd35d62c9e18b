package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/loader/model"
	"github.com/quadnine/quadnine/proxy"
	"github.com/quadnine/quadnine/telemetry"
)

// evalSpec is a manifest's eval as package model knows it.
func evalSpec(e *delta.Eval, version string) model.EvalSpec {
	s := model.EvalSpec{
		Kind: e.Kind, Metric: e.Metric, Order: e.Order, Weights: e.Weights, Schema: rules(e.Schema), Version: version,
		Input: make(map[string]model.InputSpec, len(e.Input)),
	}
	for name, in := range e.Input {
		s.Input[name] = model.InputSpec{Metric: in.Metric, Field: in.Field}
	}
	if l := e.Limits; l != nil {
		s.Limits = model.Limits{MemoryPages: l.MemoryPages, Timeout: l.Timeout()}
	}
	if e.Rows != "" {
		s.Rows = proxy.MostRows(max(len(e.Input), 1))
	}
	return s
}

func rules(schema map[string]delta.Rule) map[string]model.Rule {
	out := make(map[string]model.Rule, len(schema))
	for name, r := range schema {
		out[name] = model.Rule(r)
	}
	return out
}

// embed has requests be answered by ev.
func embed(v *proxy.ModelVersion, ev model.Evaluator, rows string) error {
	asked := make(map[string]bool)
	for _, in := range ev.Inputs() {
		s := proxy.ModelSource{Metric: in.Metric, Field: in.Field}
		if in.Rule != nil {
			s.Read, s.Meaning = in.Rule.Read, in.Rule.Meaning()
		}
		v.Inputs, v.Names, v.Sources = append(v.Inputs, sourceName(in)), append(v.Names, in.Name), append(v.Sources, s)
		asked[in.Metric] = true
	}
	switch {
	case len(v.Inputs) == 0:
		return errors.New("eval.input: the model needs none, so no request can be answered with it")
	case len(v.Inputs) > proxy.MaxInputs:
		return fmt.Errorf("eval.input: has %d members, at most %d can be given", len(v.Inputs), proxy.MaxInputs)
	case len(asked) > proxy.MaxAsked:
		return fmt.Errorf("eval.input: names %d metrics, at most %d can be asked for in one request: let several inputs be fields of one reply", len(asked), proxy.MaxAsked)
	}
	v.Eval, v.Rows = ev.Eval, rows
	v.EvalRows = func(rows, out []float64) error { return model.EvalRows(ev, rows, out) }
	v.EvalContext = func(ctx context.Context, values []float64) (float64, error) {
		return model.EvalContext(ctx, ev, values)
	}
	v.NotFinite = func(err error) bool { return errors.Is(err, model.ErrNotFinite) }
	v.Refuses = func(err error) bool { return errors.Is(err, model.ErrInput) }
	return nil
}

// sourceName is where an input comes from, for people.
func sourceName(in model.Input) string {
	if in.Field == "value" {
		return in.Metric
	}
	return in.Metric + "." + in.Field
}

// tellNarrower tells of a version that refuses inputs that the active one takes:
// callers will see it as errors, so somebody should know before they do.
func (a *models) tellNarrower(info *loader.Info, names []string) {
	l := a.opened.Load()
	if l == nil {
		return // what a start brings back was told of when it came
	}
	active, ok := l.Current(info.Model)
	if !ok || active.Eval == nil || active.Number >= info.Number {
		return
	}
	if n := model.Narrower(rules(active.Eval.Schema), rules(info.Eval.Schema), names); len(n) > 0 {
		a.registry.Count(telemetry.ModelNarrowed, 1)
		a.log.Warn("version refuses inputs that the active one takes", "model", info.Model, "version", info.Number, "active", active.Number, "inputs", strings.Join(n, "; "))
	}
}

// narrower says which inputs a version refuses that the one before it takes: the
// active one, or for that the standby.
func narrower(all []loader.Status, s *loader.Status) []string {
	of := loader.Active
	if s.State == loader.Active {
		of = loader.Standby
	}
	for i := range all {
		before := &all[i]
		if before.State == of && before.Number < s.Number && before.Eval != nil && s.Eval != nil {
			return model.Narrower(rules(before.Eval.Schema), rules(s.Eval.Schema), slices.Sorted(maps.Keys(s.Eval.Input)))
		}
	}
	return nil
}

// describeEval is what inspect prints of an eval beyond its kind.
func describeEval(e *delta.Eval) (lines []string) {
	names := e.Order
	if len(names) == 0 {
		names = slices.Sorted(maps.Keys(e.Input))
	}
	for _, name := range names {
		in := e.Input[name]
		line := fmt.Sprintf("input %s: %s of %s", shown(name), shown(cmp.Or(in.Field, "value")), shown(in.Metric))
		if r, ok := e.Schema[name]; ok {
			line += ", " + describeRule(r)
		}
		lines = append(lines, line)
	}
	if e.Rows != "" {
		lines = append(lines, fmt.Sprintf("rows: member %s of the replies, up to %d", shown(e.Rows), proxy.MostRows(max(len(e.Input), 1))))
	}
	for _, weight := range slices.Sorted(maps.Keys(e.Weights)) {
		lines = append(lines, fmt.Sprintf("weight %s: tensor %s", shown(weight), shown(e.Weights[weight])))
	}
	if l := e.Limits; l != nil {
		lines = append(lines, fmt.Sprintf("limits: %d pages of 64 KiB, %v a call", l.MemoryPages, l.Timeout()))
	}
	return lines
}

func describeRule(r delta.Rule) string {
	parts := []string{r.Type}
	if r.Min != nil {
		parts = append(parts, fmt.Sprintf("from %v", *r.Min))
	}
	if r.Max != nil {
		parts = append(parts, fmt.Sprintf("to %v", *r.Max))
	}
	if n := len(r.Categories); n > 0 {
		parts = append(parts, fmt.Sprintf("of %d categories", n))
	}
	switch {
	case r.Required:
	case r.Default != nil:
		parts = append(parts, fmt.Sprintf("else %v", *r.Default))
	default:
		parts = append(parts, "may be missing")
	}
	return strings.Join(parts, " ")
}
