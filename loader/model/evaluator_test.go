package model

import (
	"context"
	"errors"
	"testing"
)

// Whoever does not want an answer any more gets its context's cause, of each kind.
func TestEvalContextEnds(t *testing.T) {
	gone := errors.New("nobody waits")
	ctx, cancel := context.WithCancelCause(t.Context())
	ev := Adapt(NewRatio("score@1", 1, 0), []Input{{Name: "uv"}, {Name: "pv"}}, func(v []float64) V1 { return V1{UV: v[0], PV: v[1]} })
	if got, err := EvalContext(ctx, ev, []float64{1, 2}); err != nil || got != 0.5 {
		t.Errorf("%v, %v", got, err)
	}
	cancel(gone)
	if _, err := EvalContext(ctx, ev, []float64{1, 2}); !errors.Is(err, gone) {
		t.Errorf("%v, want %v", err, gone)
	}
}
