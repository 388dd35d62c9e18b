package loader

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/quadnine/quadnine/loader/delta"
)

// A version is warmed up after it was proved and prepared, and before anybody can
// see it; one that fails is quarantined with the reason, and nothing else changes.
func TestWarmUpComesBeforeAnybodyElse(t *testing.T) {
	var r *rig
	bad := errors.New("warmup[1]: score@3 answers 7, max is 5")
	r = newRig(t, func(o *Options) {
		o.Prepare = func(w View) (any, error) { return w.Info().Number, nil }
		o.Warm = func(_ context.Context, w View, prepared any) (int64, error) {
			n := w.Info().Number
			if prepared != n {
				t.Errorf("warmed up with %v of v%d", prepared, n)
			}
			if _, err := r.l.AcquireVersion("score", n); err == nil {
				t.Errorf("v%d is leased before it is warm", n)
			}
			if err := r.shape.check(w, n); err != nil {
				t.Error(err)
			}
			if n == 3 {
				return 1, bad
			}
			return 12, nil
		}
	})
	defer func() { r.close() }()
	r.drop(1, 0, atOnce)
	if ev := r.await(EventWarmed, 1); ev.Requests != 12 || ev.Took < 0 || ev.Began.IsZero() {
		t.Errorf("%+v", ev)
	}
	r.await(EventActive, 1)
	r.drop(3, 0, atOnce)
	if ev := r.await(EventQuarantined, 3); !strings.Contains(ev.Reason, bad.Error()) {
		t.Errorf("%+v", ev)
	}
	r.serves(1)
	r.drop(4, 1, func(p *delta.Pack) { p.Manifest.Canary.PromoteAfter = time.Hour })
	r.await(EventCanary, 4)
}

// Whoever shares the versions' lease sees a shadow through AcquireShadow alone.
func TestShadowIsNeverServed(t *testing.T) {
	studies := make(chan Study, 16)
	r := newRig(t, func(o *Options) {
		o.Changed = func(s Study) {
			select {
			case studies <- s:
			default:
			}
		}
		o.Comparable = func(shadow, active any) error {
			if shadow == active {
				return errors.New("the same")
			}
			return nil
		}
		o.Prepare = func(w View) (any, error) { return w.Info().Number, nil }
	})
	defer r.close()
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	r.drop(2, 1, nil)
	r.await(EventCanary, 2)
	must(t, r.l.Shadow(t.Context(), "score", 2, 30))
	for s := range studies {
		if s.Shadow != nil {
			if s.Shadow.Number != 2 || s.Percent != 30 || s.Prepared != uint64(2) || s.Active != 1 {
				t.Errorf("%+v", s)
			}
			break
		}
	}
	for draw := range uint64(1000) {
		lease, err := r.l.Acquire("score", draw<<54)
		must(t, err)
		if n := lease.Info().Number; n != 1 {
			t.Fatalf("v%d is served", n)
		}
		lease.Release()
	}
	if _, err := r.l.AcquireVersion("score", 2); !errors.Is(err, ErrNotServing) {
		t.Errorf("by its number: %v", err)
	}
	lease, err := r.l.AcquireShadow("score", 2)
	must(t, err)
	if lease.Role() != Shadow {
		t.Errorf("role %v", lease.Role())
	}
	must(t, lease.With(func(w View) error { return r.shape.check(w, 2) }))
	lease.Release()
	if n := testing.AllocsPerRun(100, func() {
		lease, _ := r.l.AcquireShadow("score", 2)
		lease.Release()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if _, err := r.l.AcquireShadow("score", 1); !errors.Is(err, ErrNotShadow) {
		t.Errorf("the active one: %v", err)
	}
	for _, percent := range []float64{-1, 100.5} {
		if r.l.Shadow(t.Context(), "score", 2, percent) == nil {
			t.Errorf("%v %% was taken", percent)
		}
	}
}

// An arm that a start may not bring back ends, and with it an experiment over two:
// the drops that waited for that go on.
func TestArmThatMayNotComeBackEnds(t *testing.T) {
	allowed := true
	r := newRig(t, func(o *Options) {
		o.LookupEnv = func(string) (string, bool) { return "", allowed }
	})
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	r.drop(2, 1, func(p *delta.Pack) { p.Manifest.RequiredEnv = []string{"QUADNINE_REGION"} })
	r.await(EventCanary, 2)
	must(t, r.l.StartExperiment(t.Context(), "score", Experiment{Name: "slope", Arms: []Arm{{Version: 1, Weight: 1}, {Version: 2, Weight: 1}}}))
	r.close()
	allowed = false
	r.open()
	defer func() { r.close() }()
	if ev := r.await(EventExperiment, 0); !strings.Contains(ev.Reason, "slope over: version 2 is gone") || !strings.Contains(ev.Reason, "QUADNINE_REGION") {
		t.Errorf("%+v", ev)
	}
	r.await(EventQuarantined, 2)
	r.drop(3, 1, nil)
	r.await(EventCanary, 3)
	r.serves(1)
}

// A warm-up holds its model's drops up, so all of it has one bound; and closing the
// loader ends it at once.
func TestWarmUpEnds(t *testing.T) {
	asked := make(chan struct{}, 1)
	open := func(most time.Duration) *rig {
		r := newRig(t, func(o *Options) {
			o.WarmFor = most
			o.Warm = func(ctx context.Context, _ View, _ any) (int64, error) {
				asked <- struct{}{}
				<-ctx.Done()
				return 7, errors.New("whatever")
			}
		})
		r.drop(1, 0, atOnce)
		<-asked
		return r
	}
	open(time.Hour).close()
	r := open(time.Nanosecond)
	defer r.close()
	ev := r.await(EventQuarantined, 1)
	if want := "warm-up takes too long: 7 of 0 requests were answered in 1ns, which is all the time there is"; !strings.Contains(ev.Reason, want) {
		t.Errorf("%q, want %q", ev.Reason, want)
	}
}
