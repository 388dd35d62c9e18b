package telemetry

import (
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quadnine/quadnine"
)

// Registry holds every number of one process and hands them to exporters.
type Registry struct {
	start   time.Time
	tenants *tenants
	counts  []atomic.Uint64 // for goroutines that own no shard
	logger  atomic.Pointer[slog.Logger]

	mu     sync.RWMutex
	shards []*Shard                      // guarded by mu; only grows
	gauges map[GaugesID]iter.Seq[Sample] // guarded by mu
}

// Sample is one reading of a gauge.
type Sample struct {
	Labels []string // values, in the order of the catalog's Labels
	Value  float64
}

// NewRegistry returns an empty registry. Counters start now.
func NewRegistry() *Registry {
	return &Registry{
		start:   time.Now(),
		tenants: newTenants(),
		counts:  make([]atomic.Uint64, book.counters),
		gauges:  make(map[GaugesID]iter.Seq[Sample]),
	}
}

// NewShard returns the counters for one more event loop.
func (r *Registry) NewShard() *Shard {
	s := &Shard{
		tenants: make(map[string]*series),
		other:   &series{tenant: quadnine.OtherTenant},
		counts:  make([]atomic.Uint64, book.counters),
		shared:  r.tenants,
	}
	s.list.Store(&[]*series{s.other})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shards = append(r.shards, s)
	return s
}

// Count adds n to c. Unlike Shard.Count it is safe for concurrent use: it is for
// goroutines that own no shard.
func (r *Registry) Count(c CounterID, n uint64) { r.counts[c].Add(n) }

// Gauge makes read the source of a gauge without labels, in place of an earlier
// one. read must not block and must be safe for concurrent use.
func (r *Registry) Gauge(id GaugeID, read func() float64) {
	r.Gauges(GaugesID(id), func(yield func(Sample) bool) { yield(Sample{Value: read()}) })
}

// Gauges makes read the source of a gauge with labels, in place of an earlier
// one. read must not block and must be safe for concurrent use; a sample is used
// before the next is asked for. Samples with labels that are too many, too few or
// not UTF-8, and all but the first with equal labels, are left out and counted; so
// is what remains of a gauge whose read panics.
func (r *Registry) Gauges(id GaugesID, read iter.Seq[Sample]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gauges[id] = read
}

// Total returns what c counts over all shards.
func (r *Registry) Total(c CounterID) uint64 {
	n := r.counts[c].Load()
	for _, s := range r.owners() {
		n += s.counts[c].Load()
	}
	return n
}

// Latency returns the request durations of all shards.
func (r *Registry) Latency() Latency {
	var l Latency
	for _, s := range r.owners() {
		l.add(&s.latency)
	}
	return l
}

// Quantile returns the duration below which the share q (0 to 1) of all
// requests fell; see Latency.Quantile.
func (r *Registry) Quantile(q float64) time.Duration {
	l := r.Latency()
	return l.Quantile(q)
}

// Totals is what one tenant's requests came to.
type Totals struct {
	Outcomes [numOutcomes]uint64 // by Outcome
	Steps    [numSteps]uint64    // by DegradeStep; StepNone is not counted
}

// Requests returns how many requests finished, whatever their outcome.
func (t *Totals) Requests() uint64 {
	var n uint64
	for _, o := range t.Outcomes {
		n += o
	}
	return n
}

// Tenants returns every counted tenant's totals over all shards. There are at
// most MaxTenants and quadnine.OtherTenant.
func (r *Registry) Tenants() map[string]Totals {
	sum := map[string]Totals{quadnine.OtherTenant: {}}
	for _, s := range r.owners() {
		for _, t := range *s.list.Load() {
			all := sum[t.tenant]
			for i := range t.outcomes {
				all.Outcomes[i] += t.outcomes[i].Load()
			}
			for i := range t.steps {
				all.Steps[i] += t.steps[i].Load()
			}
			sum[t.tenant] = all
		}
	}
	return sum
}

// log returns where the registry complains: slog's default until Setup names one.
func (r *Registry) log() *slog.Logger {
	if l := r.logger.Load(); l != nil {
		return l
	}
	return slog.Default()
}

// owners returns the shards there are now. The slice is only appended to, so
// the part a reader holds never changes.
func (r *Registry) owners() []*Shard {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.shards
}
