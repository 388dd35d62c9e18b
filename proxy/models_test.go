package proxy

import (
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/policy"
)

// shelf is a Models with one model, whose versions and weights a test sets. It
// counts leases.
type shelf struct {
	model  *Model
	metric string // of the requests that the model is for; "" is all

	mu                      sync.Mutex
	active, canary, standby *ModelVersion        // guarded by mu
	share                   uint64               // guarded by mu; of 1<<32
	trial                   *policy.Judge        // guarded by mu
	takenBack               []uint64             // guarded by mu
	evidence                policy.Evidence      // guarded by mu; of the last
	gone                    map[uint64]PinResult // guarded by mu
	stuck                   error                // guarded by mu; what TakeBack returns instead

	leases atomic.Int64
	given  atomic.Int64
}

func (s *shelf) with(o *Options) { o.Models = s }

func (s *shelf) For(k quadnine.Key) *Model {
	if s.metric != "" && k.Metric != s.metric {
		return nil
	}
	return s.model
}

type hold struct {
	s    *shelf
	back atomic.Bool
}

func (h *hold) Release() {
	if h.back.Swap(true) {
		panic("a lease is given back twice")
	}
	h.s.leases.Add(-1)
}

// lease is called with mu held.
func (s *shelf) lease(v *ModelVersion) (Lease, bool) {
	if v == nil {
		return Lease{}, false
	}
	s.leases.Add(1)
	s.given.Add(1)
	return Lease{Version: v, Canary: v == s.canary, Trial: s.trial, Hold: &hold{s: s}}, true
}

func (s *shelf) Acquire(_ *Model, draw uint64) (Lease, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.canary != nil && draw>>32 < s.share {
		return s.lease(s.canary)
	}
	return s.lease(s.active)
}

func (s *shelf) AcquireShare(_ *Model, draw uint64, percent float64) (Lease, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.canary != nil && float64(draw>>32) < percent/100*float64(everyone) {
		return s.lease(s.canary)
	}
	return s.lease(s.active)
}

func (s *shelf) Named(name string) *Model {
	if s.model != nil && s.model.Name == name {
		return s.model
	}
	return nil
}

func (s *shelf) Pin(_ *Model, number uint64) (Lease, PinResult) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range []*ModelVersion{s.active, s.canary, s.standby} {
		if v != nil && v.Number == number {
			l, _ := s.lease(v)
			return l, Pinned
		}
	}
	if why, ok := s.gone[number]; ok {
		return Lease{}, why
	}
	return Lease{}, PinUnknown
}

func (s *shelf) Other(_ *Model, number uint64) (Lease, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active != nil && s.active.Number != number {
		return s.lease(s.active)
	}
	return s.lease(s.standby)
}

func (s *shelf) TakeBack(_ *Model, number uint64, e policy.Evidence) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stuck != nil:
		return 0, s.stuck
	case s.canary != nil && s.canary.Number == number:
		s.canary, s.trial = nil, nil
	case s.active != nil && s.active.Number == number && s.standby != nil:
		s.active, s.standby = s.standby, nil
	default:
		return 0, errors.New("not serving")
	}
	s.takenBack = append(s.takenBack, number)
	s.evidence = e
	if s.gone == nil {
		s.gone = make(map[uint64]PinResult)
	}
	s.gone[number] = PinRefused
	return s.active.Number, nil
}

// set changes the shelf.
func (s *shelf) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// back returns what was taken back.
func (s *shelf) back() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]uint64(nil), s.takenBack...)
}

// balanced asserts that every lease was given back, and that some were given.
func (s *shelf) balanced(t *testing.T) {
	t.Helper()
	if n := s.leases.Load(); n != 0 {
		t.Fatalf("%d leases are still out", n)
	}
	if s.given.Load() == 0 {
		t.Fatal("no lease was ever taken: this tests nothing")
	}
}

var errNotFinite = errors.New("the answer is not finite")

// weighted is an embedded version that computes w·uv + pv.
func weighted(number uint64, w float64, inputs ...string) *ModelVersion {
	v := routedVersion(number)
	v.Inputs = inputs
	if len(inputs) == 0 {
		v.Inputs = []string{"uv", "pv"}
	}
	v.Eval = func(in []float64) (float64, error) {
		y := w*in[0] + in[1]
		if math.IsNaN(y) || math.IsInf(y, 0) {
			return y, errNotFinite
		}
		return y, nil
	}
	v.NotFinite = func(err error) bool { return errors.Is(err, errNotFinite) }
	return v
}

func routedVersion(number uint64) *ModelVersion {
	return &ModelVersion{Name: "score@" + string(rune('0'+number)), Number: number}
}

const everyone = uint64(1) << 32
