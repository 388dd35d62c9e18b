package main

import (
	"context"
	"fmt"

	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/proxy"
	"github.com/quadnine/quadnine/telemetry"
)

// warm has a version answer its manifest's warm-up requests, for loader.Options.
func (a *models) warm(ctx context.Context, w loader.View, prepared any) (requests int64, err error) {
	v, ok := prepared.(*proxy.ModelVersion)
	info := w.Info()
	if !ok || info.Eval == nil {
		return 0, nil // the manifest has no warmup then
	}
	values := make([]float64, len(v.Inputs))
	for i := range info.Warmup {
		if err := warmUp(ctx, v, info, i, values); err != nil {
			a.registry.Count(telemetry.WarmupFailed, 1)
			return requests, err
		}
		requests++
	}
	a.registry.Count(telemetry.WarmupAnswered, uint64(requests))
	return requests, nil
}

func warmUp(ctx context.Context, v *proxy.ModelVersion, info *loader.Info, i int, values []float64) error {
	u := &info.Warmup[i]
	for at, name := range v.Names {
		values[at] = u.Input[name]
	}
	got, err := evaluateContext(ctx, v, values)
	switch {
	case err != nil:
		return fmt.Errorf("warmup[%d]: %w", i, err)
	case u.Min != nil && got < *u.Min:
		return fmt.Errorf("warmup[%d]: %s answers %v, min is %v", i, v.Name, got, *u.Min)
	case u.Max != nil && got > *u.Max:
		return fmt.Errorf("warmup[%d]: %s answers %v, max is %v", i, v.Name, got, *u.Max)
	}
	return nil
}
