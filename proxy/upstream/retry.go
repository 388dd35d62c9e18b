package upstream

import (
	"math"
	"sync/atomic"

	"github.com/quadnine/quadnine/snapshot"
)

// A cluster's own retry budget: of what was sent in the last ten seconds a fifth
// may be sent again, and ten requests a second besides, so that a quiet cluster
// has retries too. (Finagle's and Linkerd's defaults; a share of the requests that
// run at the moment could not save those of an endpoint that dies under load.)
const (
	retryShare   = 5   // one in so many
	retryWindow  = 10  // seconds
	retryReserve = 100 // per window
)

// retries counts what was sent and what was sent again, over all shards.
type retries struct {
	sent  atomic.Uint64 // requests, as far as the shards have told: each does once a second
	again atomic.Uint64
	at    atomic.Int64             // the second whose sample was taken last
	since [retryWindow]retrySample // by second, modulo: what there was when it began
}

type retrySample struct{ sent, again atomic.Uint64 }

// roll takes the samples of the seconds up to the one that now, in ns, is in.
func (r *retries) roll(now int64) {
	second := now / 1e9
	last := r.at.Load()
	if second <= last || !r.at.CompareAndSwap(last, second) {
		return
	}
	sent, again := r.sent.Load(), r.again.Load()
	for s := max(last+1, second-retryWindow+1); s <= second; s++ {
		slot := &r.since[s%retryWindow]
		slot.sent.Store(sent)
		slot.again.Store(again)
	}
}

// take reserves one retry, or reports false. Of two that come at once for the last
// one, one gets it.
func (r *retries) take(now int64) bool {
	r.roll(now)
	oldest := &r.since[(r.at.Load()+1)%retryWindow]
	from, sent := oldest.again.Load(), oldest.sent.Load() // before what only grows: another shard may roll on
	allowed := retryReserve + (r.sent.Load()-sent)/retryShare
	for {
		n := r.again.Load()
		if n-from >= allowed {
			return false
		}
		if r.again.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// count notes a request that is sent for the first time.
func (l *lane) count(now int64, r *Request) {
	if r.Tried == 0 && !r.Repeat {
		l.opened++
	}
	if second := now / 1e9; second != l.second {
		l.second = second
		l.tell(now)
	}
}

// tell adds what the shard has sent to what the cluster knows.
func (l *lane) tell(now int64) {
	b := &l.cluster.retries
	b.roll(now)
	b.sent.Add(l.opened)
	l.opened = 0
}

// Retry reports whether one more of c's requests may be sent again, and if so
// counts it. With own it is within the cluster's own budget, otherwise within
// circuit_breakers.thresholds; with true, EndRetry must follow.
func (p *Pool) Retry(c *Cluster, r *Request, own bool) bool {
	u, s := &c.usage[r.Priority], c.Settings()
	t := &s.Thresholds[r.Priority]
	limit := t.MaxRetries
	if t.HasRetryBudget {
		share := t.RetryPercent / 100 * float64(u.active.Load()+u.pending.Load())
		limit = max(t.MinRetries, uint32(min(share, math.MaxUint32-1)))
	}
	if own && s.Balance.Policy != snapshot.LeastOfTwo {
		limit = math.MaxUint32 // thresholds are for what a retry policy asks for
	}
	if !take(&u.retries, limit) {
		u.retryOverflow.Add(1)
		return false
	}
	if !own {
		return true
	}
	now := p.shard.Now()
	p.lane(c).tell(now)
	if !c.retries.take(now) {
		u.retries.Add(-1)
		u.retryOverflow.Add(1)
		return false
	}
	return true
}

// EndRetry says that what Retry allowed is over.
func (c *Cluster) EndRetry(p snapshot.Priority) { c.usage[p].retries.Add(-1) }

// Another reports whether c has an endpoint that r has not tried, although it may
// rest.
func (p *Pool) Another(c *Cluster, r *Request) bool { return c.set.Load().untried(r) != nil }

// untried returns an endpoint that r has not tried, the one that has rested
// longest, or nil.
func (s *set) untried(r *Request) (best *Endpoint) {
	for _, e := range s.all {
		if r.tried(e) || e.Info().Health == snapshot.Unhealthy {
			continue
		}
		if best == nil || e.retryAt.Load() < best.retryAt.Load() {
			best = e
		}
	}
	return best
}
