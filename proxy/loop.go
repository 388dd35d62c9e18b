package proxy

import (
	"strings"
	"sync/atomic"

	"github.com/quadnine/quadnine/internal/invariant"
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
	conns    map[*downConn]struct{}
	outcomes map[*upstream.Cluster]*batch
	touched  bool // outcomes holds something
	draining bool

	// Scratch for what is made of a head, and for lines of access logs.
	scratch, joined []byte
	values          []value
	date            []byte // a Date field's value
	dateAt          int64  // the second that it tells
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
	l.logTimer.To = (*logTick)(l)
	count := func(c telemetry.CounterID) func() { return func() { l.tel.Count(c, 1) } }
	l.pool = upstream.NewPool(sh, s.dial, upstream.Events{
		Connected:  count(telemetry.UpstreamConnects),
		DialFailed: count(telemetry.UpstreamConnectFailures),
		FellBack:   count(telemetry.UpstreamProbeFallbacks),
	})
	l.stages = stages(l)
	sh.BeforeFlush(l.settle)
	return l
}

// intern returns b as a string that is shared by all requests of this loop: a
// name costs an allocation only when it is first seen.
func (l *loop) intern(b []byte) string {
	if s, ok := l.names[string(b)]; ok {
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
	x.site = c.socket.site.Load()
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
	b := l.outcomes[c]
	if b == nil {
		b = new(batch)
		l.outcomes[c] = b
	}
	return b
}

// settle hands the outcomes of one wake-up to the cluster breakers.
func (l *loop) settle() {
	l.bury()
	l.handLines()
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
		}
	}
}
