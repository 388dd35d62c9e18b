package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/loader/model"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/proxy"
	"github.com/quadnine/quadnine/telemetry"
)

// modelsConfig is what `run` was told about models. Without a directory there
// are none.
type modelsConfig struct {
	dir, store, ingest string
	keys               []string // files
}

// models introduces the loader to the data plane: it is proxy.Models for the one
// and loader.Judge for the other.
type models struct {
	log    *slog.Logger
	loader *loader.Loader
	source *loader.Watcher
	now    func() int64 // the shards' clock

	registry *telemetry.Registry // one that nobody reads without instrument
	tracer   *telemetry.Tracer   // nil: no spans

	mu       sync.Mutex                              // held by who replaces byMetric or routed
	byMetric atomic.Pointer[map[string]*proxy.Model] // replaced as a whole under mu
	routed   atomic.Pointer[proxy.Model]             // accompanies every request; nil: none
	trials   atomic.Pointer[map[string]*trial]       // by model; replaced as a whole by the loader's goroutine
}

// trial is a canary and the active version that it is compared with. Its
// evidence is shown until the model's next one begins.
type trial struct {
	canary, active uint64
	judge          *policy.Judge
	over           atomic.Bool            // one of the two was promoted or taken back: nothing more is to be said
	promoted       atomic.Pointer[string] // the evidence that the canary was promoted on; nil until then
}

// newModels returns models without any. open brings them in.
func newModels(log *slog.Logger) *models {
	a := &models{log: log, registry: telemetry.NewRegistry()}
	a.byMetric.Store(&map[string]*proxy.Model{})
	a.trials.Store(&map[string]*trial{})
	return a
}

// open starts the loader on cfg's directory, before the first request is taken.
// The versions of the last run answer when it returns. now is the data plane's
// clock.
func (a *models) open(ctx context.Context, cfg modelsConfig, now func() int64) (err error) {
	a.now = now
	if cfg.store == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return usage(fmt.Errorf("--model-store: no default: %w", err))
		}
		cfg.store = filepath.Join(cache, "quadnine", "models")
	}
	o := loader.Options{
		Store: cfg.store, Mode: loader.Mode(cfg.ingest), Judge: a, Prepare: a.prepare, Refuse: refuse, TakenBack: a.takenBack,
	}
	for _, file := range cfg.keys {
		data, err := os.ReadFile(file)
		if err != nil {
			return usage(fmt.Errorf("--model-key: %w", err))
		}
		key, err := delta.ParsePublicKey(data)
		if err != nil {
			return usage(fmt.Errorf("--model-key %s: %w", file, err))
		}
		o.Keys = append(o.Keys, key)
	}
	if a.source, err = loader.Watch(cfg.dir, 0); err != nil {
		return usage(fmt.Errorf("--models: %w", err))
	}
	o.Source = a.source
	if a.loader, err = loader.Open(ctx, o); err != nil {
		return errors.Join(err, a.source.Close())
	}
	a.measure(a.registry)
	return nil
}

// close ends the loader: leases that are out are revoked.
func (a *models) close() error {
	if a.loader == nil {
		return nil
	}
	return errors.Join(a.loader.Close(), a.source.Close())
}

// prepare makes what requests use of a version. It runs on the loader's worker,
// before anybody can see the version, and again after a restart.
func (a *models) prepare(w loader.View) (any, error) {
	info := w.Info()
	v := &proxy.ModelVersion{Name: info.String(), Number: info.Number}
	m := &proxy.Model{Name: info.Model, Salt: salt(info.Model)}
	if e := info.Eval; e != nil {
		spec := model.EvalSpec{Kind: e.Kind, Metric: e.Metric, Weights: e.Weights, Version: v.Name, Input: make(map[string]model.InputSpec, len(e.Input))}
		for name, in := range e.Input {
			spec.Input[name] = model.InputSpec{Metric: in.Metric}
		}
		ev, err := model.Build(spec, w.Tensor)
		if err != nil {
			return nil, err
		}
		for _, in := range ev.Inputs() {
			v.Inputs = append(v.Inputs, in.Metric)
		}
		v.Eval = ev.Eval
		v.NotFinite = func(err error) bool { return errors.Is(err, model.ErrNotFinite) }
		m.Embedded = true
	}
	metric := ""
	if m.Embedded {
		metric = info.Eval.Metric
	}
	return v, a.introduce(m, metric)
}

// introduce has requests find m: those for metric, or when it has none all that
// no other model answers. What a model answers is the same for all of its
// versions, for requests find the model before they find the version.
func (a *models) introduce(m *proxy.Model, metric string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	old, routed := *a.byMetric.Load(), a.routed.Load()
	for answers, have := range old {
		switch {
		case have.Name == m.Name && answers != metric:
			return fmt.Errorf("model %s answers metric %s, this version %s: give it a model of its own", m.Name, answers, cmp.Or(metric, "none, for its manifest has no eval"))
		case have.Name != m.Name && answers == metric:
			return fmt.Errorf("metric %s is answered by model %s already", metric, have.Name)
		}
	}
	switch {
	case routed != nil && routed.Name == m.Name && m.Embedded:
		return fmt.Errorf("model %s accompanies requests, this version answers metric %s: give it a model of its own", m.Name, metric)
	case routed != nil && routed.Name != m.Name && !m.Embedded:
		return fmt.Errorf("model %s accompanies every request already: a second model without eval has no requests of its own", routed.Name)
	case !m.Embedded:
		a.routed.CompareAndSwap(nil, m)
	case old[metric] == nil:
		next := maps.Clone(old)
		next[metric] = m
		a.byMetric.Store(&next)
	}
	return nil
}

// salt makes two models draw different callers, alike on every node.
func salt(name string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // a hash never fails
	return h.Sum64()
}

// For implements proxy.Models.
func (a *models) For(k quadnine.Key) *proxy.Model {
	if m := (*a.byMetric.Load())[k.Metric]; m != nil {
		return m
	}
	return a.routed.Load()
}

// lease turns a loader's lease into the data plane's.
func (a *models) lease(m *proxy.Model, l loader.Lease) proxy.Lease {
	v, ok := l.Prepared().(*proxy.ModelVersion)
	if !ok {
		l.Release()
		return proxy.Lease{}
	}
	out := proxy.Lease{Version: v, Canary: l.Role() == loader.Canary, Hold: l.Version()}
	if t := (*a.trials.Load())[m.Name]; t != nil && !t.over.Load() && (v.Number == t.canary || v.Number == t.active) {
		out.Trial = t.judge
	}
	return out
}

// Acquire implements proxy.Models.
func (a *models) Acquire(m *proxy.Model, draw uint64) (proxy.Lease, bool) {
	l, err := a.loader.Acquire(m.Name, draw)
	if err != nil {
		return proxy.Lease{}, false
	}
	out := a.lease(m, l)
	return out, out.Version != nil
}

// AcquireShare implements proxy.Models.
func (a *models) AcquireShare(m *proxy.Model, draw uint64, percent float64) (proxy.Lease, bool) {
	l, err := a.loader.AcquireShare(m.Name, draw, percent)
	if err != nil {
		return proxy.Lease{}, false
	}
	out := a.lease(m, l)
	return out, out.Version != nil
}

// Named implements proxy.Models.
func (a *models) Named(name string) *proxy.Model {
	if m := a.routed.Load(); m != nil && m.Name == name {
		return m
	}
	for _, m := range *a.byMetric.Load() {
		if m.Name == name {
			return m
		}
	}
	return nil
}

// Pin implements proxy.Models.
func (a *models) Pin(m *proxy.Model, number uint64) (proxy.Lease, proxy.PinResult) {
	l, err := a.loader.AcquireVersion(m.Name, number)
	if err == nil {
		return a.lease(m, l), proxy.Pinned
	}
	if _, refused := a.loader.Refused(m.Name)[number]; refused {
		return proxy.Lease{}, proxy.PinRefused
	}
	return proxy.Lease{}, proxy.PinUnknown
}

// Other implements proxy.Models.
func (a *models) Other(m *proxy.Model, number uint64) (proxy.Lease, bool) {
	l, err := a.loader.AcquireOther(m.Name, number)
	if err != nil {
		return proxy.Lease{}, false
	}
	out := a.lease(m, l)
	return out, out.Version != nil
}

// TakeBack implements proxy.Models.
func (a *models) TakeBack(m *proxy.Model, number uint64, e policy.Evidence) (uint64, error) {
	to, err := a.loader.TakeBack(m.Name, number, e.String())
	if err == nil {
		a.end(m.Name, number)
	}
	return to, err
}

// Verdict implements loader.Judge: it is asked every 100 ms while there is a
// canary, on the loader's goroutine.
func (a *models) Verdict(canary, active *loader.Info) (loader.Verdict, string) {
	t := (*a.trials.Load())[canary.Model]
	if t == nil || t.canary != canary.Number || t.active != active.Number {
		var err error
		if t, err = a.begin(canary, active); err != nil {
			return loader.Rollback, "it cannot be judged: " + err.Error()
		}
	}
	v, e := t.judge.Verdict(a.now())
	switch v {
	case policy.Promote:
		if e.First { // else a request found the verdict, and its shard counted it
			a.registry.Count(telemetry.ModelPromoted, 1)
			a.log.Info("canary promoted", "model", canary.Model, "version", canary.Number, "evidence", e.String())
		}
		why := e.String()
		t.promoted.Store(&why)
		t.over.Store(true)
		return loader.Promote, why
	case policy.Rollback: // also when a request found it and could not act on it
		return loader.Rollback, e.String()
	default:
		return loader.Hold, e.Expect()
	}
}

// refuse marks a version before it is out of use: no answer leaves with its
// number.
func refuse(prepared any) {
	if v, ok := prepared.(*proxy.ModelVersion); ok {
		v.SetRefused(true)
	}
}

// takenBack counts and audits the rollbacks that no request's shard has made.
func (a *models) takenBack(bad, to *loader.Info, reason string, judged bool) {
	a.end(bad.Model, bad.Number)
	a.registry.Count(telemetry.ModelTakenBack, 1)
	if judged {
		if e, ok := a.trial(bad.Model, bad.Number); ok {
			proxy.TakenBack{Model: bad.Model, From: bad.Number, To: to.Number, Evidence: e}.Log(a.log)
			return
		}
	}
	a.log.Warn("version taken back", "model", bad.Model, "from", bad.Number, "to", to.Number, "rollback", "swapped", "judged", judged, "reason", reason)
}

// begin puts a canary on trial.
func (a *models) begin(canary, active *loader.Info) (*trial, error) {
	cfg := policy.DefaultJudgeConfig()
	cfg.PromoteAfter = max(canary.Canary.PromoteAfter, time.Millisecond) // a manifest may say 0s: the judge's least
	cfg.MinRequests = int(min(max(canary.Canary.MinRequests, 1), 1<<30))
	judge, err := policy.NewJudge(cfg, a.now())
	if err != nil {
		return nil, err
	}
	t := &trial{canary: canary.Number, active: active.Number, judge: judge}
	old := *a.trials.Load()
	next := maps.Clone(old)
	next[canary.Model] = t
	a.trials.Store(&next)
	return t, nil
}

// end ends the trial that a version is part of, once it was taken back.
func (a *models) end(name string, number uint64) {
	if t := (*a.trials.Load())[name]; t != nil && (t.canary == number || t.active == number) {
		t.over.Store(true)
	}
}

// trial returns the evidence of the trial that a model's canary is on. It never
// takes the verdict that somebody has to act on.
func (a *models) trial(name string, canary uint64) (policy.Evidence, bool) {
	t := (*a.trials.Load())[name]
	if t == nil || t.canary != canary {
		return policy.Evidence{}, false
	}
	return t.judge.Look(a.now()), true
}
