package proxy

import (
	"github.com/quadnine/quadnine/proxy/upstream"
	"github.com/quadnine/quadnine/snapshot"
)

// maxChecks bounds the health check filters that a loop keeps answers of: those
// of past configurations are forgotten.
const maxChecks = 64

// checked is the last answer to a health check.
type checked struct {
	status int
	until  int64 // ns
}

// FailHealth makes health checks fail, or succeed again, and has callers leave:
// every reply while they fail says so and ends its connection.
func (s *Server) FailHealth(fail bool) { s.unwell.Store(fail) }

// HealthFailed reports what FailHealth was told last.
func (s *Server) HealthFailed() bool { return s.unwell.Load() }

// health answers x when it is a health check that c answers, and reports whether
// it did.
func (f filters) health(x *Exchange, c *snapshot.HealthCheck) bool {
	for i := range c.Headers {
		if !c.Headers[i].Holds(&x.req) {
			return false
		}
	}
	x.checking = c
	switch {
	case f.server.unwell.Load():
		x.sayPlainly(&plain{status: 503, details: "health_check_failed"}, "", "", "")
		return true
	case c.PassThrough:
		a, ok := f.checks[c]
		if !ok || a.until <= f.shard.Now() {
			return false
		}
		x.cached = true
		x.sayPlainly(&plain{status: a.status, details: "health_check_cached"}, "", "", "")
		return true
	}
	for i := range c.MinHealthy {
		if !enough(x.site.cluster(c.MinHealthy[i].Cluster), c.MinHealthy[i].Percent, f.shard.Now()) {
			x.sayPlainly(&plain{status: 503, details: "health_check_cluster_min_healthy"}, "", "", "")
			return true
		}
	}
	x.sayPlainly(&plain{status: 200, details: "health_check_ok"}, "", "", "")
	return true
}

// enough reports whether percent of c's endpoints may be asked.
func enough(c *upstream.Cluster, percent float64, now int64) bool {
	if c == nil {
		return false
	}
	all, good := 0, 0
	for _, e := range c.Endpoints() {
		all++
		if e.Healthy(now) {
			good++
		}
	}
	if all == 0 {
		return percent == 0
	}
	return 100*float64(good) >= percent*float64(all)
}

// noteHealth keeps what a health check was answered, for c's cache_time. Each
// shard keeps its own.
func (l *loop) noteHealth(c *snapshot.HealthCheck, status int) {
	if c.CacheFor <= 0 {
		return
	}
	if len(l.checks) >= maxChecks {
		clear(l.checks)
	}
	l.checks[c] = checked{status, l.shard.Now() + int64(c.CacheFor)}
}
