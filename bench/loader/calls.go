package loader

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/quadnine/quadnine/loader"
	evals "github.com/quadnine/quadnine/loader/model"
)

// What calls measures, in ns of CPU each.
const (
	callSwitch = "publish: the pointer switch with its lock and its new value"
	callLease  = "take a lease and give it back"
	callV1     = "v1, ratio: one evaluation"
	callV2     = "v2, weighted_difference: one evaluation"
)

const callsEach = 200_000

// calls measures what the data plane and a publication pay, on a store with an
// active version.
func (j job) calls(ctx context.Context) (s sample, err error) {
	l, err := loader.Open(ctx, loader.Options{Store: j.Store, Mode: j.Mode})
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if _, ok := l.Current(modelName); !ok {
		return s, errors.New("the store has no active version")
	}
	if err := quiet(ctx); err != nil {
		return s, err
	}
	s.Nanos = make(map[string]float64)
	percent := []float64{0, 50}
	err = s.time(callSwitch, func(i int) error { return l.SetCanary(modelName, &percent[i&1]) })
	err = errors.Join(err, s.time(callLease, func(i int) error {
		lease, err := l.Acquire(modelName, uint64(i)<<40)
		lease.Release()
		return err
	}))
	for name, spec := range map[string]evals.EvalSpec{
		callV1: {Kind: evals.KindRatio, Metric: "score", Version: "bench@1", Input: map[string]evals.InputSpec{"uv": {Metric: "uv"}, "pv": {Metric: "pv"}}, Weights: map[string]string{"scale": "w", "bias": "w"}},
		callV2: {Kind: evals.KindWeightedDifference, Metric: "score", Version: "bench@2", Input: map[string]evals.InputSpec{"uvd": {Metric: "uvd"}, "pvd": {Metric: "pvd"}}, Weights: map[string]string{"w_uvd": "w", "w_pvd": "w", "bias": "w"}},
	} {
		weight := binary.LittleEndian.AppendUint64(nil, math.Float64bits(0.5))
		e, err := evals.Build(spec, func(string) (string, []byte, bool) { return "F64", weight, true })
		if err != nil {
			return s, err
		}
		values := []float64{3, 4}
		if err := s.time(name, func(i int) error {
			values[0] = float64(i)
			_, err := e.Eval(values)
			return err
		}); err != nil {
			return s, err
		}
	}
	return s, errors.Join(err, s.evaluators(ctx))
}

// time stores the CPU time that one call of f takes: on a busy machine the wall's
// says who else ran.
func (s *sample) time(name string, f func(i int) error) error {
	began, err := used()
	if err != nil {
		return err
	}
	for i := range callsEach {
		if err := f(i); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	ended, err := used()
	s.Nanos[name] = float64((ended - began).Nanoseconds()) / callsEach
	return err
}
