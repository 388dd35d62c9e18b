package model

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
)

// What can be wrong with one evaluation.
var (
	// ErrNotFinite is the model's fault: finite numbers went in, and NaN or an
	// infinity came out. The judge counts it.
	ErrNotFinite = errors.New("result not finite")
	// ErrInput is not the model's fault: a number is missing or is not finite.
	ErrInput = errors.New("input unusable")
)

// Evaluator computes a version's metric. It is immutable.
type Evaluator interface {
	// Inputs returns what Eval wants, in its order. Do not change it.
	Inputs() []Input
	// Eval returns the number for values, one for each of Inputs. The error is
	// ErrNotFinite or ErrInput, with the version named; KindTrees and KindWasm have
	// others: their evaluation itself failed.
	Eval(values []float64) (float64, error)
	// Version says which version computes.
	Version() string
}

// Adapt makes an Evaluator of m. take makes a T of as many finite numbers as
// there are inputs, in their order; it must not keep the slice.
func Adapt[T any](m StatModel[T], inputs []Input, take func(values []float64) T) Evaluator {
	return &adapted[T]{
		model:     m,
		take:      take,
		inputs:    slices.Clone(inputs),
		notFinite: fmt.Errorf("model: %s: %w", m.Version(), ErrNotFinite),
	}
}

type adapted[T any] struct {
	model     StatModel[T]
	take      func([]float64) T
	inputs    []Input
	notFinite error // made once: a version that gives NaN gives it at every request
}

// Inputs returns what Adapt was given.
func (a *adapted[T]) Inputs() []Input { return a.inputs }

// Version returns the model's.
func (a *adapted[T]) Version() string { return a.model.Version() }

// Eval computes, and looks at what goes in and what comes out.
func (a *adapted[T]) Eval(values []float64) (float64, error) {
	if len(values) != len(a.inputs) {
		return 0, fmt.Errorf("model: %s: %d values for %d inputs: %w", a.Version(), len(values), len(a.inputs), ErrInput)
	}
	for i, v := range values {
		if !finite(v) {
			return 0, fmt.Errorf("model: %s: %s (metric %s) is %v: %w", a.Version(), a.inputs[i].Name, a.inputs[i].Metric, v, ErrInput)
		}
	}
	got := a.model.Compute(a.take(values))
	if !finite(got) {
		return 0, a.notFinite
	}
	return got, nil
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// EvalContext is ev.Eval that ends when ctx does, also in the middle where a kind can
// take long. The error is then ctx's cause.
func EvalContext(ctx context.Context, ev Evaluator, values []float64) (float64, error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if long, ok := ev.(interface {
		EvalContext(ctx context.Context, values []float64) (float64, error)
	}); ok {
		return long.EvalContext(ctx, values)
	}
	return ev.Eval(values)
}

// EvalRows computes out[i] from row i of rows, which has one value for each of
// ev's inputs: in one call where the kind has one for many rows. It is one
// evaluation: one row that cannot be computed is an error of all, out is then not to
// be used, and which row it was stands in the error where that is known. No rows are
// no call.
func EvalRows(ev Evaluator, rows, out []float64) error {
	n := len(ev.Inputs())
	if len(rows) != n*len(out) {
		return fmt.Errorf("model: %s: %d values for %d rows of %d inputs: %w", ev.Version(), len(rows), len(out), n, ErrInput)
	}
	if len(out) == 0 {
		return nil
	}
	if many, ok := ev.(interface {
		EvalRows(rows, out []float64) error
	}); ok {
		return many.EvalRows(rows, out)
	}
	for i := range out {
		var err error
		if out[i], err = ev.Eval(rows[i*n : (i+1)*n]); err != nil {
			return fmt.Errorf("rows[%d]: %w", i, err)
		}
	}
	return nil
}
