package upstream

import (
	"math"
	"sync/atomic"

	"github.com/quadnine/quadnine/snapshot"
)

// usage is what one priority of a cluster takes, over all shards.
type usage struct {
	conns   atomic.Int64 // open, and being dialed
	pending atomic.Int64 // requests that wait for a connection
	active  atomic.Int64 // streams
	retries atomic.Int64 // requests that were sent again and are not answered

	connOverflow    atomic.Uint64
	pendingOverflow atomic.Uint64
	activeOverflow  atomic.Uint64
	retryOverflow   atomic.Uint64
}

// take adds one to n, unless it has reached limit. It is exact: of two that
// come at once for the last place, one gets it.
func take(n *atomic.Int64, limit uint32) bool {
	if limit == math.MaxUint32 {
		n.Add(1)
		return true
	}
	for {
		v := n.Load()
		if v >= int64(limit) {
			return false
		}
		if n.CompareAndSwap(v, v+1) {
			return true
		}
	}
}

// Usage is how much of its thresholds one priority of a cluster has taken, and
// how often they were in the way.
type Usage struct {
	snapshot.Thresholds
	Connections, Pending, Requests, Retries                                 int64
	ConnectionOverflows, PendingOverflows, RequestOverflows, RetryOverflows uint64
}

// Usage returns what p takes now.
func (c *Cluster) Usage(p snapshot.Priority) Usage {
	u := &c.usage[p]
	return Usage{
		Thresholds:  c.set.Load().settings.Thresholds[p],
		Connections: u.conns.Load(), Pending: u.pending.Load(), Requests: u.active.Load(), Retries: u.retries.Load(),
		ConnectionOverflows: u.connOverflow.Load(), PendingOverflows: u.pendingOverflow.Load(), RequestOverflows: u.activeOverflow.Load(), RetryOverflows: u.retryOverflow.Load(),
	}
}

// Active returns how many requests are on the cluster: those that have a stream
// and those that wait for one.
func (c *Cluster) Active() (n int64) {
	for p := range c.usage {
		n += c.usage[p].active.Load() + c.usage[p].pending.Load()
	}
	return n
}
