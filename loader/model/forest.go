package model

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/quadnine/quadnine/loader/model/trees"
)

// errChanged means that a version's bytes are not those that were checked.
var errChanged = errors.New("its tensors are of another size than when it was checked")

// forest evaluates trees where they are mapped.
type forest struct {
	check     *trees.Forest
	inputs    []Input
	version   string
	names     [3]string // of the tensors nodes, roots, categories
	again     Again
	notFinite error
	calls     sync.Pool // *forestCall
}

// forestCall is one call's scratch. look is made once, so that a call of one row
// makes nothing.
type forestCall struct {
	row       trees.Row
	rows, out []float64
	one       [1]float64 // out of a call of one row
	look      func(Tensors) error
}

func buildTrees(b *builder) (Evaluator, error) {
	var p trees.Parts
	for _, x := range []struct {
		weight, dtype string
		to            *[]byte
	}{{"header", "U8", &p.Header}, {"nodes", "U8", &p.Nodes}, {"roots", "U32", &p.Roots}, {"categories", "U32", &p.Categories}} {
		var err error
		if *x.to, err = b.typed(x.weight, x.dtype); err != nil {
			return nil, err
		}
	}
	check, err := trees.Check(p)
	if err != nil {
		return nil, fmt.Errorf("model: eval.weights: %w", err)
	}
	names := check.FeatureNames()
	if err := exactly("eval.input", b.spec.Kind, names, b.spec.Input); err != nil {
		return nil, err
	}
	b.take(names)
	f := &forest{
		check: check, inputs: b.inputs, version: b.spec.Version, again: b.spec.Again,
		names:     [3]string{b.spec.Weights["nodes"], b.spec.Weights["roots"], b.spec.Weights["categories"]},
		notFinite: fmt.Errorf("model: %s: %w", b.spec.Version, ErrNotFinite),
	}
	if f.again == nil {
		f.again = copied(map[string][]byte{f.names[0]: p.Nodes, f.names[1]: p.Roots, f.names[2]: p.Categories})
	}
	f.calls.New = func() any { return f.call() }
	return f, nil
}

// copied is an Again over copies of tensors.
func copied(data map[string][]byte) Again {
	for name, b := range data {
		data[name] = bytes.Clone(b)
	}
	tensors := func(name string) (string, []byte, bool) {
		b, ok := data[name]
		return "", b, ok
	}
	return func(f func(Tensors) error) error { return f(tensors) }
}

func (f *forest) call() *forestCall {
	c := new(forestCall)
	c.look = func(tensors Tensors) error {
		var p trees.Parts
		for i, to := range [...]*[]byte{&p.Nodes, &p.Roots, &p.Categories} {
			_, *to, _ = tensors(f.names[i]) // what is missing is of another size
		}
		if !f.check.Same(p) {
			return fmt.Errorf("model: %s: %w", f.version, errChanged)
		}
		n := len(f.inputs)
		for i := range c.out {
			for j, v := range c.rows[i*n : (i+1)*n] {
				c.row.Set(uint8(j), v)
			}
			c.out[i] = f.check.Eval(p, &c.row)
		}
		return nil
	}
	return c
}

// Inputs returns the forest's features.
func (f *forest) Inputs() []Input { return f.inputs }

// Version returns the spec's.
func (f *forest) Version() string { return f.version }

// Eval walks the trees. NaN is a missing value.
func (f *forest) Eval(values []float64) (float64, error) {
	if len(values) != len(f.inputs) {
		return 0, fmt.Errorf("model: %s: %d values for %d inputs: %w", f.version, len(values), len(f.inputs), ErrInput)
	}
	c, _ := f.calls.Get().(*forestCall)
	defer f.done(c)
	c.rows, c.out = values, c.one[:]
	if err := f.again(c.look); err != nil {
		return 0, err
	}
	if !finite(c.one[0]) {
		return 0, f.notFinite
	}
	return c.one[0], nil
}

// EvalRows walks the trees for all rows under one lease.
func (f *forest) EvalRows(rows, out []float64) error {
	c, _ := f.calls.Get().(*forestCall)
	defer f.done(c)
	c.rows, c.out = rows, out
	if err := f.again(c.look); err != nil {
		return err
	}
	for i, v := range out {
		if !finite(v) {
			return fmt.Errorf("rows[%d]: %w", i, f.notFinite)
		}
	}
	return nil
}

func (f *forest) done(c *forestCall) {
	c.rows, c.out = nil, nil // they are the caller's
	f.calls.Put(c)
}
