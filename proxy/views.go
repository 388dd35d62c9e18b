package proxy

import (
	"context"
	"iter"
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
			for _, tr := range s.breakers.Sweep(sweepKeys, s.now()) {
				if tr.Event == policy.Opened {
					s.registry.Count(telemetry.BreakerOpened, 1)
					s.transition(tr.Key, tr.Event)
				}
			}
			if s.versions != nil {
				s.versions.Sweep(maxVersions, s.now())
			}
			s.cache.Expire(s.now())
		}
	}
}

// Breakers yields every breaker of the table, for admin pages.
func (s *Server) Breakers() iter.Seq[policy.BreakerView] { return s.breakers.All(s.now()) }

// Clusters returns the running clusters: the local one, then the peers.
func (s *Server) Clusters() []*upstream.Cluster {
	var out []*upstream.Cluster
	for _, c := range []*snapshot.Cluster{s.snap.Local, s.snap.Peers} {
		if c != nil {
			out = append(out, s.clusters[c])
		}
	}
	return out
}

// Config returns the snapshot in force.
func (s *Server) Config() *snapshot.Snapshot { return s.snap }

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
	e := Explanation{Breaker: s.breakers.Explain(k, s.now()), Threshold: s.breakers.Config(), Clusters: s.Clusters(), Model: s.explainModel(k)}
	e.Stored, e.Newest = s.cache.ForKey(k, s.now())
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
			for _, c := range s.Clusters() {
				for _, e := range c.Endpoints {
					if !yield(telemetry.Sample{Labels: []string{c.Name, e.Address}, Value: read(c, e)}) {
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
	r.Gauge(telemetry.CacheBytes, func() float64 { return float64(s.cache.Stats().Bytes) })
	r.Gauge(telemetry.CacheEntries, func() float64 { return float64(s.cache.Stats().Entries) })
	r.Gauge(telemetry.Ready, func() float64 { return truth(!s.Draining()) })
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
