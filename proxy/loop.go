package proxy

import (
	"strings"
	"sync/atomic"

	"github.com/quadnine/quadnine/internal/invariant"
	"github.com/quadnine/quadnine/proxy/field"
	"github.com/quadnine/quadnine/proxy/shard"
	"github.com/quadnine/quadnine/proxy/upstream"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// Bounds of what a loop keeps for reuse.
const (
	maxFree     = 1024 // exchanges
	maxInterned = 8192 // tenant and metric names
)

// loop is one shard's share of the data plane.
type loop struct {
	server *Server
	shard  *shard.Shard
	pool   *upstream.Pool
	tel    *telemetry.Shard
	stages []stage

	free     []*Exchange
	dead     []*Exchange // become free at the end of the wake-up
	names    map[string]string
	recent   [64]string // of those, by a few of their letters
	conns    map[*downConn]struct{}
	outcomes map[*upstream.Cluster]*batch
	latest   *upstream.Cluster // whose outcomes lately are
	lately   *batch
	touched  bool  // outcomes holds something
	found    found // by route
	draining bool

	// Scratch for what is made of a head, and for lines of access logs.
	scratch, joined []byte
	values          []value
	timeouts        numbers    // x-envoy-expected-rq-timeout-ms
	serviceTimes    numbers    // x-envoy-upstream-service-time
	date            []byte     // a Date field's value
	dateAt          int64      // the second that it tells
	connect         field.List // an extended CONNECT's head
	checks          map[*snapshot.HealthCheck]checked
	logs            map[*snapshot.AccessLog]*accessLog
	files           map[string]*logLines // by path
	gathered        []*logLines          // with lines to hand over
	logTimer        shard.Timer

	active    atomic.Int64 // exchanges
	downConns atomic.Int64
}

// batch is what one wake-up saw of a cluster.
type batch struct{ responded, lost bool }

func newLoop(s *Server, sh *shard.Shard) *loop {
	l := &loop{
		server: s, shard: sh, tel: s.registry.NewShard(),
		names: make(map[string]string), conns: make(map[*downConn]struct{}),
		outcomes: make(map[*upstream.Cluster]*batch),
		checks:   make(map[*snapshot.HealthCheck]checked), logs: make(map[*snapshot.AccessLog]*accessLog), files: make(map[string]*logLines),
	}
	l.timeouts.name, l.serviceTimes.name = "x-envoy-expected-rq-timeout-ms", "x-envoy-upstream-service-time"
	l.logTimer.To = (*logTick)(l)
	count := func(c telemetry.CounterID) func() { return func() { l.tel.Count(c, 1) } }
	l.pool = upstream.NewPool(sh, s.dial, upstream.Events{
		Connected:  count(telemetry.UpstreamConnects),
		DialFailed: count(telemetry.UpstreamConnectFailures),
		FellBack:   count(telemetry.UpstreamProbeFallbacks),
		Secured:    s.secured,
		NotSecured: func() { s.registry.Count(telemetry.UpstreamNotSecured, 1) },
		Cut:        l.upstreamCut,
	})
	l.pool.UseTLS(s.secure)
	l.stages = stages(l)
	sh.BeforeFlush(l.settle)
	return l
}

// intern returns b as a string that is shared by all requests of this loop: a
// name costs an allocation only when it is first seen.
func (l *loop) intern(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	recent := &l.recent[(len(b)*31^int(b[len(b)-1])^int(b[len(b)/2])<<3)%len(l.recent)]
	if string(b) == *recent { // without a hash
		return *recent
	}
	if s, ok := l.names[string(b)]; ok {
		*recent = s
		return s
	}
	if len(l.names) >= maxInterned {
		clear(l.names) // someone makes names up; the real ones come back at once
	}
	s := strings.Clone(string(b))
	l.names[s] = s
	return s
}

// begin returns a fresh exchange of a caller.
func (l *loop) begin(c *downConn, down upstream.Stream) *Exchange {
	l.active.Add(1)
	return l.take(c, down)
}

// take returns a fresh exchange that is not counted.
func (l *loop) take(c *downConn, down upstream.Stream) *Exchange {
	var x *Exchange
	if n := len(l.free); n > 0 {
		x, l.free = l.free[n-1], l.free[:n-1]
	} else {
		x = &Exchange{loop: l}
		x.reset()
	}
	x.conn, x.down, x.start = c, down, l.shard.Now()
	x.site = c.place.site.Load()
	return x
}

// recycle takes x back. It is not used again before the wake-up ends: an engine's
// event may end an exchange while a caller up the stack still looks at it.
func (l *loop) recycle(x *Exchange) {
	invariant.Check(x.finished && !x.hashing && !x.evaluating && !x.timer.Armed() && x.up == nil && x.want.Endpoint == nil,
		"an exchange is recycled that something still refers to")
	l.dead = append(l.dead, x)
}

// bury makes the dead exchanges free.
func (l *loop) bury() {
	for _, x := range l.dead {
		if len(l.free) < maxFree {
			x.reset()
			l.free = append(l.free, x)
		}
	}
	clear(l.dead)
	l.dead = l.dead[:0]
}

// responded and lost note what the cluster's breaker is told at the flush.
func (l *loop) responded(c *upstream.Cluster) { l.batchOf(c).responded = true }
func (l *loop) lost(c *upstream.Cluster)      { l.batchOf(c).lost = true }

func (l *loop) batchOf(c *upstream.Cluster) *batch {
	l.touched = true
	if c == l.latest {
		return l.lately
	}
	b := l.outcomes[c]
	if b == nil {
		b = new(batch)
		l.outcomes[c] = b
	}
	l.latest, l.lately = c, b
	return b
}

// settle hands the outcomes of one wake-up to the cluster breakers.
func (l *loop) settle() {
	l.bury()
	l.handLines()
	l.server.overload.look(l.shard.Now())
	if !l.touched {
		return
	}
	l.touched = false
	for c, b := range l.outcomes {
		if b.responded || b.lost {
			c.RecordBatch(b.responded, b.lost)
			*b = batch{}
		}
		if c.Retired() {
			delete(l.outcomes, c)
			l.latest = nil
		}
	}
}
