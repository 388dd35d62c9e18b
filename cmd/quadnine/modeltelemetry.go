package main

import (
	"context"
	"iter"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/telemetry"
)

// instrument makes tel the place for what models count and trace. It is called
// before open.
func (a *models) instrument(tel *telemetry.Telemetry) {
	a.registry, a.tracer = tel.Registry, tel.Tracer
}

// measure makes the loader the source of r's gauges of models.
func (a *models) measure(r *telemetry.Registry) {
	r.Gauges(telemetry.ModelVersion, a.perVersion(func(s *loader.Status, yield func(float64, ...string) bool) bool {
		switch s.State {
		case loader.Active, loader.Canary, loader.Standby, loader.Shadow:
			return yield(float64(s.Number), s.Model, s.State.String())
		}
		return true
	}))
	r.Gauges(telemetry.ModelCanaryShare, a.canaryShares)
	r.Gauges(telemetry.ModelEvidence, a.perVersion(func(s *loader.Status, yield func(float64, ...string) bool) bool {
		if s.State != loader.Canary {
			return true
		}
		e, ok := a.trial(s.Model, s.Number)
		return !ok || yield(e.ErrorsAgainst, s.Model, "errors") && yield(e.LatencyAgainst, s.Model, "latency") &&
			yield(e.ErrorsFor, s.Model, "errors-for") && yield(e.LatencyFor, s.Model, "latency-for")
	}))
	number := func(read func(*loader.Status) int64) iter.Seq[telemetry.Sample] {
		return a.perVersion(func(s *loader.Status, yield func(float64, ...string) bool) bool {
			return yield(float64(read(s)), s.Model, strconv.FormatUint(s.Number, 10))
		})
	}
	r.Gauges(telemetry.ModelLeases, number(func(s *loader.Status) int64 { return s.Leases }))
	r.Gauges(telemetry.ModelMappedBytes, number(func(s *loader.Status) int64 { return s.Size }))
	r.Gauges(telemetry.ModelPrivateBytes, number(func(s *loader.Status) int64 { return s.Copied }))
	r.Gauges(telemetry.ModelLockedBytes, number(func(s *loader.Status) int64 { return s.Locked }))
	a.measureStudies(r)
	last := func(read func(*loader.Patched) time.Duration) func() float64 {
		return func() float64 {
			if p := a.lastPatch.Load(); p != nil {
				return read(p).Seconds()
			}
			return 0
		}
	}
	r.Gauge(telemetry.ModelPatchTime, last(func(p *loader.Patched) time.Duration { return p.Took }))
	r.Gauge(telemetry.ModelPatchCPU, last(func(p *loader.Patched) time.Duration { return p.CPU }))
	r.Gauges(telemetry.ModelStoreUsed, func(yield func(telemetry.Sample) bool) {
		for _, name := range a.loader.Models() {
			own, _ := a.loader.Disk(name)
			if !yield(telemetry.Sample{Labels: []string{name}, Value: float64(own.Used)}) {
				return
			}
		}
	})
	r.Gauge(telemetry.ModelStoreQuota, func() float64 { _, all := a.loader.Disk(""); return float64(all.Limit) })
	r.Gauge(telemetry.ModelMappings, func() float64 { used, _ := a.loader.Mappings(); return float64(used) })
	r.Gauge(telemetry.ModelMappingsMax, func() float64 { _, limit := a.loader.Mappings(); return float64(limit) })
	r.Gauge(telemetry.ModelBlockedActive, func() (n float64) {
		for _, name := range a.loader.Models() {
			for _, s := range a.loader.Versions(name) {
				if s.State == loader.Active && s.Blocked != "" {
					n++
				}
			}
		}
		return n
	})
	r.Gauge(telemetry.ModelQuarantined, func() float64 { return float64(len(a.loader.Quarantined())) })
}

// perVersion is a gauge with what sample yields of each mapped version.
func (a *models) perVersion(sample func(s *loader.Status, yield func(float64, ...string) bool) bool) iter.Seq[telemetry.Sample] {
	return func(yield func(telemetry.Sample) bool) {
		emit := func(value float64, labels ...string) bool {
			return yield(telemetry.Sample{Labels: labels, Value: value})
		}
		for _, name := range a.loader.Models() {
			for _, s := range a.loader.Versions(name) {
				if !sample(&s, emit) {
					return
				}
			}
		}
	}
}

// canaryShares is 0 for a model without a canary: a trial that ended is seen to
// have ended.
func (a *models) canaryShares(yield func(telemetry.Sample) bool) {
	for _, name := range a.loader.Models() {
		percent := 0.0
		for _, s := range a.loader.Versions(name) {
			percent += s.Weight
		}
		if !yield(telemetry.Sample{Labels: []string{name}, Value: percent / 100}) {
			return
		}
	}
}

// follow logs and traces what happens to models until ctx ends.
func (a *models) follow(ctx context.Context) {
	r := reloading{tracer: a.tracer, open: make(map[string]*reload)}
	defer r.abandon()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-a.loader.Events():
			now := r.of(&e)
			if e.Kind == loader.EventCompacted {
				a.registry.Count(telemetry.ModelCompactions, 1)
			}
			a.tell(ctx, now, &e)
			r.settle(now, &e)
		case e := <-a.shared():
			a.count(&e)
			a.tell(ctx, nil, &e)
		}
	}
}

// tell writes an event's log record, with the trace of its reload.
func (a *models) tell(ctx context.Context, r *reload, e *loader.Event) {
	level := slog.LevelInfo
	switch e.Kind {
	case loader.EventTiered:
		a.registry.Count(telemetry.ModelTiered, 1)
	case loader.EventQuarantined, loader.EventRolledBack, loader.EventUnloadTimeout, loader.EventStore, loader.EventLost, loader.EventShort, loader.EventUnlocked, loader.EventHeld, loader.EventDetached, loader.EventBlockedActive:
		level = slog.LevelWarn
	}
	attrs := []any{"model", e.Model, "version", e.Version, "took", e.Took, "bytes", e.Bytes}
	if e.From != 0 {
		attrs = append(attrs, "from", e.From)
	}
	if e.Copied != 0 {
		attrs = append(attrs, "copied", e.Copied, "copied_extents", e.Copies)
	}
	if e.Leases != 0 {
		attrs = append(attrs, "leases", e.Leases)
	}
	if e.Requests != 0 {
		attrs = append(attrs, "requests", e.Requests)
	}
	if e.Drop != "" {
		attrs = append(attrs, "drop", e.Drop)
	}
	if e.Reason != "" {
		attrs = append(attrs, "reason", strings.TrimSpace(e.Reason))
	}
	if r != nil {
		ctx = r.Context(ctx)
		if id := r.TraceID(); id != "" {
			attrs = append(attrs, "trace_id", id)
		}
	}
	a.log.Log(ctx, level, string(e.Kind), attrs...) //nolint:sloglint // the kinds are constants of the loader
}

// reloading holds the reloads under way. A model has at most one.
type reloading struct {
	tracer *telemetry.Tracer
	open   map[string]*reload // by model
}

// reload is one version on its way to being the active one.
type reload struct {
	telemetry.Reload
	version uint64
	drop    string
	last    time.Time // of what was heard of it
}

// of returns the reload that an event is part of, or nil. The event that says
// that a version is loaded begins one, at the moment at which its drop was seen.
func (r *reloading) of(e *loader.Event) *reload {
	now := r.open[e.Model]
	if e.Kind == loader.EventLoaded {
		if now != nil { // its end was among the events that there was no room for
			now.Fail(now.last, "lost")
		}
		now = &reload{Reload: r.tracer.StartReload(e.Model, e.Version, e.Began), version: e.Version, drop: e.Drop}
		r.open[e.Model] = now
	}
	version := e.Version
	if e.Kind == loader.EventRolledBack {
		version = e.From
	}
	if now == nil || now.version != version || now.drop != e.Drop {
		return nil
	}
	now.last = e.Time
	return now
}

// settle ends the reload that e is the last event of.
func (r *reloading) settle(now *reload, e *loader.Event) {
	switch {
	case now == nil:
		return
	case e.Kind == loader.EventActive:
		now.End(e.Time, telemetry.Int("module.bytes", e.Bytes))
	case e.Kind == loader.EventRolledBack:
		now.Fail(e.Time, "rolled-back")
	case e.Kind == loader.EventQuarantined:
		now.Fail(e.Time, "quarantined")
	default:
		return
	}
	delete(r.open, e.Model)
}

// abandon ends the reloads that the process does not see the end of.
func (r *reloading) abandon() {
	for _, now := range r.open {
		now.Fail(now.last, "stopped")
	}
}
