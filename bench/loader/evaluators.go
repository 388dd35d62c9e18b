package loader

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/dmitryikh/leaves"

	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/loader/delta"
	evals "github.com/quadnine/quadnine/loader/model"
	"github.com/quadnine/quadnine/loader/model/lightgbm"
	"github.com/quadnine/quadnine/loader/model/trees"
)

// What evaluators measures, in ns each.
const (
	callLinear   = "linear, 8 inputs: one evaluation"
	callTrees    = "trees, 100 × 32 leaves, 20 features: one evaluation from mapped bytes, with its lease"
	callLeaves   = "the same trees by github.com/dmitryikh/leaves, from its heap"
	callMissing  = "trees, a value missing in each row: one evaluation from mapped bytes, with its lease"
	leavesGone   = "the same rows by leaves"
	callGuest    = "wasm, ratio: one evaluation, stopped when it takes too long"
	callGuestRow = "wasm, ratio: a row of a call with 1,000"
)

var evaluatorCalls = []string{callLinear, callTrees, callLeaves, callMissing, leavesGone, callGuest, callGuestRow}

// guestFile is the example that computes what v1 does.
const guestFile = "../examples/wasm/ratio.wasm"

// evaluators measures one evaluation of each other kind.
func (s *sample) evaluators(ctx context.Context) error {
	weight := binary.LittleEndian.AppendUint64(nil, math.Float64bits(0.5))
	linear := evals.EvalSpec{Kind: evals.KindLinear, Metric: "score", Version: "bench@3", Input: map[string]evals.InputSpec{}, Weights: map[string]string{"weights": "w", "bias": "b"}}
	for i := range 8 {
		name := fmt.Sprint("x", i)
		linear.Input[name], linear.Order = evals.InputSpec{Metric: name}, append(linear.Order, name)
	}
	e, err := evals.Build(linear, func(name string) (string, []byte, bool) {
		if name == "w" {
			return "F64", bytes.Repeat(weight, 8), true
		}
		return "F64", weight, true
	})
	if err != nil {
		return err
	}
	values := make([]float64, 8)
	if err := s.time(callLinear, func(i int) error {
		values[0] = float64(i)
		_, err := e.Eval(values)
		return err
	}); err != nil {
		return err
	}
	return errors.Join(s.forests(ctx), s.guest(weight))
}

// guest measures a WebAssembly module.
func (s *sample) guest(weight []byte) error {
	code, err := os.ReadFile(guestFile)
	if errors.Is(err, os.ErrNotExist) {
		code, err = os.ReadFile(filepath.Join("..", guestFile)) // from a test of this package
	}
	if err != nil {
		return err
	}
	e, err := evals.Build(evals.EvalSpec{
		Kind: evals.KindWasm, Metric: "score", Version: "bench@5", Order: []string{"uv", "pv"},
		Input:   map[string]evals.InputSpec{"uv": {Metric: "uv"}, "pv": {Metric: "pv"}},
		Weights: map[string]string{"module": "m", "scale": "w", "bias": "w"}, Limits: evals.Limits{MemoryPages: 64, Timeout: time.Second},
	}, func(name string) (string, []byte, bool) {
		if name == "m" {
			return "U8", code, true
		}
		return "F64", weight, true
	})
	if err != nil {
		return err
	}
	row := []float64{3, 4}
	err = s.time(callGuest, func(i int) error {
		row[0] = float64(i)
		_, err := e.Eval(row)
		return err
	})
	if err != nil {
		return err
	}
	rows, out := make([]float64, 2000), make([]float64, 1000)
	return s.time(callGuestRow, func(i int) error {
		if i%len(out) != 0 {
			return nil
		}
		return evals.EvalRows(e, rows, out)
	})
}

// forests measures the same trees where a version of them is mapped, and in leaves.
func (s *sample) forests(ctx context.Context) (err error) {
	text := forestText(true, false)
	theirs, err := leaves.LGEnsembleFromReader(bufio.NewReader(bytes.NewReader(text)), false)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "forest")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	e, end, err := mapForest(ctx, dir, text)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	for _, missing := range []bool{false, true} {
		rows := make([][]float64, 512)
		r := rand.New(rand.NewPCG(1, 2))
		for i := range rows {
			rows[i] = make([]float64, forestFeatures)
			forestRow(r, rows[i])
			if missing {
				rows[i][r.IntN(forestFeatures)] = math.NaN()
			}
			got, err := e.Eval(rows[i])
			if want := theirs.PredictSingle(rows[i], 0); err != nil || math.Float64bits(got) != math.Float64bits(want) {
				return fmt.Errorf("row %d: %v, %w; leaves says %v", i, got, err, want)
			}
		}
		ours, other := callTrees, callLeaves
		if missing {
			ours, other = callMissing, leavesGone
		}
		err := errors.Join(
			s.time(ours, func(i int) error {
				_, err := e.Eval(rows[i%len(rows)])
				return err
			}),
			s.time(other, func(i int) error {
				theirs.PredictSingle(rows[i%len(rows)], 0)
				return nil
			}))
		if err != nil {
			return err
		}
	}
	return nil
}

// mapForest ships a LightGBM model into a loader in dir and returns its evaluator,
// which reads the mapping.
func mapForest(ctx context.Context, dir string, text []byte) (e evals.Evaluator, end func() error, err error) {
	m, err := lightgbm.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, nil, err
	}
	p, err := m.Parts()
	if err != nil {
		return nil, nil, err
	}
	var file bytes.Buffer
	err = delta.WriteSafetensors(&file, []delta.TensorBytes{
		{Name: trees.TensorNodes, DType: "U8", Shape: []int64{int64(len(p.Nodes))}, Data: p.Nodes},
		{Name: trees.TensorRoots, DType: "U32", Shape: []int64{int64(len(p.Roots) / 4)}, Data: p.Roots},
		{Name: trees.TensorCategories, DType: "U32", Shape: []int64{int64(len(p.Categories) / 4)}, Data: p.Categories},
		{Name: trees.TensorHeader, DType: "U8", Shape: []int64{int64(len(p.Header))}, Data: p.Header},
	})
	if err != nil {
		return nil, nil, err
	}
	drop := filepath.Join(dir, "drops", "v1")
	if err := os.MkdirAll(drop, 0o755); err != nil {
		return nil, nil, err
	}
	root, err := os.OpenRoot(drop)
	if err != nil {
		return nil, nil, err
	}
	pack := delta.Pack{Manifest: delta.Manifest{Model: modelName, Version: 1, SchemaVersion: 1}}
	_, err = pack.Full(ctx, root, bytes.NewReader(file.Bytes()))
	if err := errors.Join(err, root.Close()); err != nil {
		return nil, nil, err
	}
	src, err := loader.Watch(filepath.Dir(drop), 0)
	if err != nil {
		return nil, nil, err
	}
	spec := evals.EvalSpec{Kind: evals.KindTrees, Metric: "score", Version: "bench@4", Input: map[string]evals.InputSpec{}, Weights: map[string]string{
		"header": trees.TensorHeader, "nodes": trees.TensorNodes, "roots": trees.TensorRoots, "categories": trees.TensorCategories,
	}}
	for _, name := range m.Header.Features {
		spec.Input[name] = evals.InputSpec{Metric: name}
	}
	l, err := loader.Open(ctx, loader.Options{Store: filepath.Join(dir, "store"), Source: src, Prepare: func(w loader.View) (any, error) {
		spec.Again = w.Again()
		return evals.Build(spec, w.Tensor)
	}})
	if err != nil {
		return nil, nil, errors.Join(err, src.Close())
	}
	end = func() error { return errors.Join(l.Close(), src.Close()) }
	for {
		select {
		case <-ctx.Done():
			return nil, nil, errors.Join(context.Cause(ctx), end())
		case ev := <-l.Events():
			switch ev.Kind {
			case loader.EventQuarantined, loader.EventStore:
				return nil, nil, errors.Join(fmt.Errorf("%s: %s", ev.Kind, ev.Reason), end())
			case loader.EventActive:
				lease, err := l.Acquire(modelName, 0)
				if err != nil {
					return nil, nil, errors.Join(err, end())
				}
				e, _ := lease.Prepared().(evals.Evaluator)
				lease.Release() // the evaluator takes its own
				return e, end, nil
			default:
			}
		}
	}
}
