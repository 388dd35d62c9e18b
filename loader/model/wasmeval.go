package model

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/quadnine/quadnine/loader/model/wasm"
)

// weightModule is the weight that holds the module of a KindWasm.
const weightModule = "module"

// guest evaluates with a WebAssembly module.
type guest struct {
	module    *wasm.Module
	inputs    []Input
	version   string
	notFinite error
}

func buildWasm(b *builder) (Evaluator, error) {
	code, err := b.typed(weightModule, "U8")
	if err != nil {
		return nil, err
	}
	p := wasm.Program{
		Code: code, Inputs: len(b.inputs), Rows: b.spec.Rows,
		Limits: wasm.Limits{Pages: b.spec.Limits.MemoryPages, Timeout: b.spec.Limits.Timeout},
	}
	for _, weight := range slices.Sorted(maps.Keys(b.spec.Weights)) {
		if weight == weightModule {
			continue
		}
		_, data, err := b.tensor(weight)
		if err != nil {
			return nil, err
		}
		p.Tensors = append(p.Tensors, data)
	}
	if err := p.Fits(); err != nil {
		return nil, b.at(weightModule, err)
	}
	p.Code = bytes.Clone(p.Code) // mapped pages are never handed to a guest
	for i, data := range p.Tensors {
		p.Tensors[i] = bytes.Clone(data)
	}
	m, err := wasm.Compile(context.Background(), p)
	if err != nil {
		return nil, b.at(weightModule, err)
	}
	return &guest{m, b.inputs, b.spec.Version, fmt.Errorf("model: %s: %w", b.spec.Version, ErrNotFinite)}, nil
}

// Inputs returns those of eval.order.
func (g *guest) Inputs() []Input { return g.inputs }

// Version returns the spec's.
func (g *guest) Version() string { return g.version }

// Eval asks the module for one row. It may take as long as the limit allows.
func (g *guest) Eval(values []float64) (float64, error) {
	return g.EvalContext(context.Background(), values)
}

// EvalContext is Eval that ctx ends.
func (g *guest) EvalContext(ctx context.Context, values []float64) (float64, error) {
	var out [1]float64
	if err := g.evalRows(ctx, values, out[:]); err != nil {
		return 0, err
	}
	return out[0], nil
}

// EvalRows asks the module for all rows in one call.
func (g *guest) EvalRows(rows, out []float64) error {
	return g.evalRows(context.Background(), rows, out)
}

func (g *guest) evalRows(ctx context.Context, rows, out []float64) error {
	if len(rows) != len(out)*len(g.inputs) {
		return fmt.Errorf("model: %s: %d values for %d rows of %d inputs: %w", g.version, len(rows), len(out), len(g.inputs), ErrInput)
	}
	err := g.module.EvalContext(ctx, rows, out)
	switch {
	case errors.Is(err, wasm.ErrInput):
		return fmt.Errorf("model: %s: %w: %w", g.version, ErrInput, err)
	case err != nil:
		return fmt.Errorf("model: %s: %w", g.version, err)
	}
	for i, v := range out {
		switch {
		case finite(v):
		case len(out) == 1:
			return g.notFinite
		default:
			return fmt.Errorf("rows[%d]: %w", i, g.notFinite)
		}
	}
	return nil
}
