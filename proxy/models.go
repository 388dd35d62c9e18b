package proxy

import (
	"context"
	"slices"
	"sync/atomic"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/proxy/field"
	"github.com/quadnine/quadnine/snapshot"
)

// Models is where versions come from. Its methods are called on shards: they
// never wait, and all but TakeBack take no lock. They are safe for concurrent
// use.
type Models interface {
	// For returns the model that answers requests of k or accompanies them, nil
	// when there is none. The same model is the same pointer.
	For(k quadnine.Key) *Model
	// Acquire takes a lease on the version that draw, uniform over callers, falls
	// to. It reports false while there is none.
	Acquire(m *Model, draw uint64) (Lease, bool)
	// AcquireShare is Acquire with percent of the callers for a canary, over what
	// its manifest says. The same draw and share fall to the same version.
	AcquireShare(m *Model, draw uint64, percent float64) (Lease, bool)
	// Named returns the model called name, nil when there is none. The same model
	// is the same pointer as For's.
	Named(name string) *Model
	// Pin takes a lease on one version. Its Trial is not used.
	Pin(m *Model, number uint64) (Lease, PinResult)
	// Other takes a lease on the version that answers where number cannot: the
	// active one, or when that is it the standby. It reports false when there is
	// no other, and never gives a version that was taken back.
	Other(m *Model, number uint64) (Lease, bool)
	// TakeBack takes a version away for good: from its return on no lease on it is
	// given. It returns the number of the version that answers in its place. It may
	// hold a lock for a few stores, but never over I/O: what is to be stored is
	// handed over. It fails when number is neither the canary nor the active
	// version, or has no other to stand in for it.
	TakeBack(m *Model, number uint64, e policy.Evidence) (to uint64, err error)
}

// Model is one model, as requests see it.
type Model struct {
	Name     string
	Salt     uint64 // of the draw: two models with the same draw different callers
	Embedded bool   // requests are answered here; otherwise the upstream is told which version it is to be

	experiment atomic.Pointer[Experiment] // nil: none runs
}

// PinResult says what became of a request for one version.
type PinResult uint8

// The results.
const (
	Pinned     PinResult = iota // the lease is given
	PinRefused                  // the version was taken back
	PinUnknown                  // there is no such version, or it is no longer mapped
)

// ModelVersion is one version of a model. It is made once, when the version is
// mapped, and used by its address. All but the mark of SetRefused is read-only.
type ModelVersion struct {
	Name   string // "score@2": x-model-version, x-quadnine-model, and part of cache keys
	Number uint64
	// Inputs are the metrics whose values Eval wants, in its order, at most
	// MaxInputs, or with Sources what people call these. Empty: the upstream answers.
	Inputs []string
	Names  []string // what the version's formula calls them, in the same order
	// Sources say where the values of Inputs come from, one for each; nil: each is
	// the number "value" of the reply to the metric of its name. They name at most
	// MaxAsked metrics.
	Sources []ModelSource
	// Eval computes the answer. It runs on workers and is safe for concurrent use. A
	// mapped page that cannot be read is an error of it.
	Eval func(values []float64) (float64, error)
	// Rows is the member of a reply that holds the rows of a query of several; empty:
	// every query is of one row.
	Rows string
	// EvalRows is Eval for all rows of a query, in one call; it is needed with Rows.
	// rows has the values of Inputs for each of out, which has 1 to MostRows. One row that
	// cannot be computed is an error of all.
	EvalRows func(rows, out []float64) error
	// EvalContext is Eval that ctx ends, for who evaluates outside of a request. No
	// stage calls it.
	EvalContext func(ctx context.Context, values []float64) (float64, error)
	// NotFinite reports whether an error of an evaluation says that the answer is NaN or an
	// infinity.
	NotFinite func(error) bool
	// Refuses reports whether an error of an evaluation says that the version does not take
	// these inputs.
	Refuses func(error) bool

	refused atomic.Bool
	fields  atomic.Pointer[versionFields]
}

// ModelSource is where a value comes from.
type ModelSource struct {
	Metric string // that the upstream is asked for
	Field  string // member of its reply
	// Meaning tells sources of the same member apart that make other numbers of it.
	Meaning string
	// Read makes the value of the member's JSON, which is nil when there is none;
	// its errors say that the version does not take it. nil: a number, and it must
	// be there. It runs on workers.
	Read func(json []byte) (float64, error)
}

// Source returns where the value of input i comes from.
func (v *ModelVersion) Source(i int) ModelSource {
	if v.Sources == nil {
		return ModelSource{Metric: v.Inputs[i], Field: valueField}
	}
	return v.Sources[i]
}

// asks returns the metrics that the upstream is asked for, each once.
func (v *ModelVersion) asks() (metrics []string) {
	if v.Sources == nil {
		return v.Inputs
	}
	for i := range v.Sources {
		if m := v.Sources[i].Metric; !slices.Contains(metrics, m) {
			metrics = append(metrics, m)
		}
	}
	return metrics
}

// versionFields are the fields that tell of a version.
type versionFields struct{ ask, tell *field.Fixed }

// named returns the fields that tell of v. They are made when they are first
// wanted; of two loops that want them at once one's are forgotten.
func (v *ModelVersion) named() *versionFields {
	f := v.fields.Load()
	if f == nil {
		f = &versionFields{field.NewFixed(versionHeader, v.Name), field.NewFixed(modelHeader, v.Name)}
		v.fields.Store(f)
	}
	return f
}

// SetRefused marks a version that was taken back, so that answers under way do
// not leave with its number. The server marks those that it takes back itself;
// whoever takes one back otherwise marks it before the swap, and unmarks it
// should it ever be made active again.
func (v *ModelVersion) SetRefused(refused bool) { v.refused.Store(refused) }

// Refused reports whether the version was taken back.
func (v *ModelVersion) Refused() bool { return v.refused.Load() }

// Lease is a counted hold on a version.
type Lease struct {
	Version *ModelVersion // nil: no lease
	Canary  bool          // the version is on trial
	// Trial is the trial that the version is part of, as canary or as the active
	// version, nil when none is under way.
	Trial *policy.Judge
	// Shadow computes the same queries beside the version, nil when none does.
	Shadow Shadow
	// Hold is released exactly once. A pointer costs no allocation here.
	Hold interface{ Release() }
}

// drop releases the lease, if there is one.
func (l *Lease) drop() {
	if l.Hold != nil {
		l.Hold.Release()
	}
	*l = Lease{}
}

// embedded reports whether the exchange is answered here, from its inputs.
func (x *Exchange) embedded() bool {
	switch x.mode {
	case snapshot.ModelRouted:
		return false
	case snapshot.ModelEmbedded:
		return x.model != nil
	}
	if x.lease.Version == nil {
		return x.model != nil && x.model.Embedded
	}
	return len(x.lease.Version.Inputs) > 0
}

// routedName returns the routed version's name, or "".
func (x *Exchange) routedName() string {
	if v := x.routed(); v != nil {
		return v.Name
	}
	return ""
}

// routed returns the version that the upstream was told to be, nil without one.
func (x *Exchange) routed() *ModelVersion {
	v := x.lease.Version
	if v != nil && (x.mode == snapshot.ModelRouted || x.mode != snapshot.ModelEmbedded && len(v.Inputs) == 0) {
		return v
	}
	return nil
}
