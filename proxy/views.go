package proxy

import (
	"context"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/proxy/upstream"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// janitorEvery is how often forgotten breakers and stale replies are swept out;
// sweepKeys is how many breakers one round looks at.
const (
	janitorEvery = 10 * time.Second
	sweepKeys    = 8192
)

// maxEndpointSamples bounds how many endpoints have time series of their own: the
// first clusters' by name. All of them are on the admin pages.
const maxEndpointSamples = 1024

// Tidy sweeps until ctx ends: it drops breakers that nobody asks for and stored
// replies past their time. Run it on a goroutine of its own.
func (s *Server) Tidy(ctx context.Context) {
	t := time.NewTicker(janitorEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			st := s.current.Load()
			for _, b := range distinct(maps.Values(st.breakers)) {
				for _, tr := range b.Sweep(sweepKeys, s.now()) {
					if tr.Event == policy.Opened {
						s.registry.Count(telemetry.BreakerOpened, 1)
						s.transition(tr.Key, tr.Event)
					}
				}
			}
			if s.versions != nil {
				s.versions.Sweep(maxVersions, s.now())
			}
			for _, c := range distinct(maps.Values(st.caches)) {
				c.Expire(s.now())
			}
			s.secure.Refresh()
		}
	}
}

// distinct returns each of seq once.
func distinct[T comparable](seq iter.Seq[T]) (out []T) {
	for v := range seq {
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

// Breakers yields every breaker of all tables, for admin pages.
func (s *Server) Breakers() iter.Seq[policy.BreakerView] {
	return func(yield func(policy.BreakerView) bool) {
		for _, b := range distinct(maps.Values(s.current.Load().breakers)) {
			for v := range b.All(s.now()) {
				if !yield(v) {
					return
				}
			}
		}
	}
}

// Clusters returns the running clusters by name.
func (s *Server) Clusters() []*upstream.Cluster {
	st := s.current.Load()
	out := make([]*upstream.Cluster, 0, len(st.clusters))
	for _, name := range slices.Sorted(maps.Keys(st.clusters)) {
		out = append(out, st.clusters[name])
	}
	return out
}

// Config returns the snapshot in force.
func (s *Server) Config() *snapshot.Snapshot { return s.current.Load().snap }

// Now returns the time on the shards' time line, in ns since the start.
func (s *Server) Now() int64 { return s.now() }

// Explanation is what the data plane knows of a key.
type Explanation struct {
	Breaker   policy.BreakerView
	Threshold policy.BreakerConfig
	Stored    int           // usable stored replies, all queries together
	Newest    time.Duration // age of the newest
	Clusters  []*upstream.Cluster
	Model     *ModelExplanation // nil: no model has a say
}

// ModelExplanation is which version a request of a key, without a user, falls to.
type ModelExplanation struct {
	Model    string
	Embedded bool
	Version  string // "" while there is none
	Canary   bool
	Trial    *policy.Evidence // of the trial under way; nil without one
}

// String says it for people to read.
func (e *ModelExplanation) String() string {
	switch {
	case e.Version == "":
		return "no version of " + e.Model + " answers now"
	case e.Canary:
		return e.Version + ", the canary: this key draws it"
	default:
		return e.Version
	}
}

// explainModel draws for k and gives the lease back at once.
func (s *Server) explainModel(k quadnine.Key) *ModelExplanation {
	if s.models == nil {
		return nil
	}
	m := s.models.For(k)
	if m == nil {
		return nil
	}
	e := &ModelExplanation{Model: m.Name, Embedded: m.Embedded}
	lease, ok := s.models.Acquire(m, policy.Draw(m.Salt, k.Tenant, nil))
	if !ok {
		return e
	}
	defer lease.drop()
	e.Version, e.Canary = lease.Version.Name, lease.Canary
	if lease.Trial != nil {
		trial := lease.Trial.Look(s.now())
		e.Trial = &trial
	}
	return e
}

// Explain looks at what would decide a request of k now. It changes nothing.
func (s *Server) Explain(k quadnine.Key) Explanation {
	e := Explanation{Clusters: s.Clusters(), Model: s.explainModel(k)}
	st := s.current.Load()
	for _, l := range st.snap.Listeners {
		for face := range l.Faces {
			if b := st.breakers[face.Breaker]; b != nil && e.Threshold.MaxKeys == 0 {
				e.Breaker, e.Threshold = b.Explain(k, s.now()), b.Config()
			}
		}
	}
	for _, c := range distinct(maps.Values(st.caches)) {
		n, newest := c.ForKey(k, s.now())
		if n > 0 && (e.Stored == 0 || newest < e.Newest) {
			e.Newest = newest
		}
		e.Stored += n
	}
	return e
}

// Active returns how many exchanges are under way.
func (s *Server) Active() int64 {
	var n int64
	for _, l := range s.loops {
		n += l.active.Load()
	}
	return n
}

// gauges registers what callbacks read.
func (s *Server) gauges() {
	r := s.registry
	r.Gauge(telemetry.ActiveRequests, func() float64 { return float64(s.Active()) })
	r.Gauge(telemetry.DownstreamConnections, func() float64 {
		var n int64
		for _, l := range s.loops {
			n += l.downConns.Load()
		}
		return float64(n)
	})
	perEndpoint := func(read func(c *upstream.Cluster, e *upstream.Endpoint) float64) iter.Seq[telemetry.Sample] {
		return func(yield func(telemetry.Sample) bool) {
			left := maxEndpointSamples
			for _, c := range s.Clusters() {
				for _, e := range c.Endpoints() {
					if left--; left < 0 || !yield(telemetry.Sample{Labels: []string{c.Name, e.Address}, Value: read(c, e)}) {
						return
					}
				}
			}
		}
	}
	r.Gauges(telemetry.UpstreamConnections, perEndpoint(func(_ *upstream.Cluster, e *upstream.Endpoint) float64 {
		return float64(e.Conns())
	}))
	r.Gauges(telemetry.EndpointHealthy, perEndpoint(func(_ *upstream.Cluster, e *upstream.Endpoint) float64 {
		return truth(e.Healthy(s.now()))
	}))
	r.Gauges(telemetry.ClusterBreakerOpen, func(yield func(telemetry.Sample) bool) {
		for _, c := range s.Clusters() {
			if !yield(telemetry.Sample{Labels: []string{c.Name}, Value: truth(c.State() == "open")}) {
				return
			}
		}
	})
	r.Gauges(telemetry.BreakerKeys, func(yield func(telemetry.Sample) bool) {
		counts := map[policy.State]int{policy.StateClosed: 0, policy.StateOpen: 0, policy.StateHalfOpen: 0}
		for v := range s.Breakers() {
			if v.Level == policy.LevelKey {
				counts[v.State]++
			}
		}
		for st, n := range counts {
			if !yield(telemetry.Sample{Labels: []string{st.String()}, Value: float64(n)}) {
				return
			}
		}
	})
	stored := func(read func(policy.CacheStats) float64) func() float64 {
		return func() (sum float64) {
			for _, c := range distinct(maps.Values(s.current.Load().caches)) {
				sum += read(c.Stats())
			}
			return sum
		}
	}
	r.Gauge(telemetry.CacheBytes, stored(func(c policy.CacheStats) float64 { return float64(c.Bytes) }))
	r.Gauge(telemetry.CacheEntries, stored(func(c policy.CacheStats) float64 { return float64(c.Entries) }))
	s.overloadGauges()
	r.Gauges(telemetry.CertificateEnd, s.ends)
	r.Gauge(telemetry.Ready, func() float64 { return truth(!s.Draining()) })
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
