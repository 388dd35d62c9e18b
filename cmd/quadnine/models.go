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
	"github.com/quadnine/quadnine/loader/objects"
	"github.com/quadnine/quadnine/loader/share"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/proxy"
	"github.com/quadnine/quadnine/telemetry"
)

// modelsConfig is what `run` was told about models. Without a directory there
// are none.
type modelsConfig struct {
	dir, store, ingest string
	keys               []string // files
	trust              []string // files: keys of OpenSSF Model Signing
	judge              judgeFlags
	bucket             bucketConfig
	quotas             []string // each a size, or MODEL=SIZE
	mlock              bool
	reclaim            time.Duration // 0: the loader's default
	copyLimit          string        // a size, or off: private memory of one version
	patchMemory        string        // a size, or off: what a child may take that applies a patch
	patchTime          time.Duration
	share              shareFlags
}

// check refuses what cannot be followed, before anything is started.
func (c *modelsConfig) check() error {
	if err := c.bucket.check(); err != nil {
		return err
	}
	if err := c.judge.check(c.dir != "" || c.bucket.url != ""); err != nil {
		return err
	}
	if c.reclaim <= 0 {
		return usage(fmt.Errorf("--model-reclaim: is %v: want a time above 0, like %v", c.reclaim, loader.DefaultReclaim))
	}
	if c.ingest != string(loader.Copy) && c.ingest != string(loader.InPlace) {
		return usage(fmt.Errorf("--model-ingest: is %q: want %s or %s", c.ingest, loader.Copy, loader.InPlace))
	}
	_, err := c.copies()
	if err == nil {
		_, _, err = c.quota()
	}
	if err == nil {
		_, err = c.patchChild()
	}
	if err == nil {
		_, err = c.share.options()
	}
	return err
}

// models introduces the loader to the data plane: it is proxy.Models for the one
// and loader.Judge for the other.
type models struct {
	log    *slog.Logger
	loader *loader.Loader
	opened atomic.Pointer[loader.Loader] // the same, for the loader's workers, who begin before open is done
	source *loader.Watcher               // nil without a directory
	bucket *objects.Source               // nil without a bucket
	merged *loader.Sources               // of the two
	share  *share.Server                 // nil without a socket
	now    func() int64                  // the shards' clock

	bounds policy.JudgeConfig // of canaries; what a manifest says is not in it
	pool   pool

	registry *telemetry.Registry // one that nobody reads without instrument
	tracer   *telemetry.Tracer   // nil: no spans

	mu        sync.Mutex                              // held by who replaces byMetric or routed
	byMetric  atomic.Pointer[map[string]*proxy.Model] // replaced as a whole under mu
	routed    atomic.Pointer[proxy.Model]             // accompanies every request; nil: none
	lastPatch atomic.Pointer[loader.Patched]          // nil before the first
	trials    atomic.Pointer[map[string]*trial]       // by model; replaced as a whole by the loader's goroutine
	studies   studies
}

// newModels returns models without any. open brings them in.
func newModels(log *slog.Logger) *models {
	a := &models{log: log, registry: telemetry.NewRegistry(), bounds: policy.DefaultJudgeConfig()}
	a.byMetric.Store(&map[string]*proxy.Model{})
	a.trials.Store(&map[string]*trial{})
	a.studies.init()
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
	if a.bounds, err = cfg.judge.config(); err != nil {
		return usage(err)
	}
	o := loader.Options{
		Lock: cfg.mlock, Reclaim: cfg.reclaim, Store: cfg.store, Mode: loader.Mode(cfg.ingest), Judge: a, Prepare: a.prepare, Refuse: refuse, TakenBack: a.takenBack,
		Warm: a.warm, Comparable: canShadow, Compared: a.compared, Changed: a.changed,
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
	if o.Trust, err = readTrust("--model-trust", cfg.trust); err != nil {
		return err
	}
	if o.CopyLimit, err = cfg.copies(); err != nil {
		return err
	}
	if o.Quota, o.Quotas, err = cfg.quota(); err != nil {
		return err
	}
	if o.Patch, err = cfg.patchChild(); err != nil {
		return err
	}
	o.Patched = a.patched
	if cfg.share.socket != "" {
		cfg.share.reclaim = cmp.Or(cfg.share.reclaim, cfg.reclaim)
		if a.share, err = cfg.share.listen(ctx); err != nil {
			return err
		}
		defer func() {
			if err != nil {
				err = errors.Join(err, a.share.Close())
			}
		}()
		o.Sharer = a.share
	}
	var sources []loader.Source
	if cfg.bucket.url != "" {
		if err := a.openBucket(cfg.bucket, cfg.store); err != nil {
			return err
		}
		sources, o.Retain = append(sources, a.bucket), cfg.bucket.tier > 0
	}
	if cfg.dir != "" {
		if a.source, err = loader.Watch(cfg.dir, 0); err != nil {
			if a.bucket != nil {
				err = errors.Join(err, a.bucket.Close())
				a.bucket = nil
			}
			return usage(fmt.Errorf("--models: %w", err))
		}
		sources = append(sources, a.source)
	}
	a.merged = loader.Merge(sources...)
	o.Source = a.merged
	startPool, err := a.openPool(&cfg.judge, cfg.store)
	if err != nil {
		return errors.Join(usage(err), a.closeSources())
	}
	if a.loader, err = loader.Open(ctx, o); err != nil {
		return errors.Join(err, a.closeSources())
	}
	a.opened.Store(a.loader)
	if a.bucket != nil {
		if err := a.bucket.Start(a.loader); err != nil {
			err = errors.Join(err, a.loader.Close(), a.closeSources())
			a.loader = nil // close must not do it again
			return err
		}
	}
	startPool()
	a.measure(a.registry)
	a.measureShared(a.registry)
	a.studies.wg.Go(a.computeShadows)
	return nil
}

// close ends the loader: leases that are out are revoked.
func (a *models) close() error {
	if a.loader == nil {
		return nil
	}
	a.pool.close() // it asks the loader
	close(a.studies.done)
	a.studies.wg.Wait() // it holds leases
	var err error
	if a.share != nil {
		err = a.share.Close() // it holds them for others
	}
	return errors.Join(err, a.loader.Close(), a.closeSources())
}

func (a *models) closeSources() error {
	var errs []error
	if a.bucket != nil {
		errs = append(errs, a.bucket.Close())
	}
	if a.source != nil {
		errs = append(errs, a.source.Close())
	}
	a.merged.Close()
	return errors.Join(errs...)
}

// prepare makes what requests use of a version. It runs on the loader's worker,
// before anybody can see the version, and again after a restart.
func (a *models) prepare(w loader.View) (any, error) {
	info := w.Info()
	v := &proxy.ModelVersion{Name: info.String(), Number: info.Number}
	m := &proxy.Model{Name: info.Model, Salt: salt(info.Model)}
	if e := info.Eval; e != nil {
		spec := evalSpec(e, v.Name)
		spec.Again = w.Again()
		ev, err := model.Build(spec, w.Tensor)
		if err == nil {
			err = embed(v, ev, e.Rows)
		}
		if err != nil {
			return nil, err
		}
		m.Embedded = true
		a.tellNarrower(info, v.Names)
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
			return fmt.Errorf("metric %s is answered by model %s already: give this one another metric", metric, have.Name)
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
	if l.Role() == loader.Active {
		if s := (*a.studies.shadows.Load())[m.Name]; s != nil && s.share.Load() != 0 {
			out.Shadow = s
		}
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
