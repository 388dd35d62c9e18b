package statsapp

import (
	"maps"
	"sync"
	"sync/atomic"
)

// otherTenants is where requests of tenants past the bound are counted. No
// tenant can have this name: '*' is not allowed in one.
const otherTenants = "*"

// counters count since the start of the process.
type counters struct {
	most     int
	http     atomic.Int64
	grpc     atomic.Int64
	accepted atomic.Int64

	mu       sync.RWMutex
	requests map[string]*atomic.Int64 // by tenant; guarded by mu
	rejected map[string]int64         // lines by class; guarded by mu
}

func newCounters(most int) *counters {
	return &counters{
		most:     most,
		requests: map[string]*atomic.Int64{otherTenants: new(atomic.Int64)},
		rejected: map[string]int64{refusedJSON: 0, refusedSDK: 0, refusedSchema: 0, refusedLimit: 0},
	}
}

func (c *counters) request(tenant string) {
	c.mu.RLock()
	n := c.requests[tenant]
	c.mu.RUnlock()
	if n == nil {
		n = c.open(tenant)
	}
	n.Add(1)
}

func (c *counters) open(tenant string) *atomic.Int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.requests[tenant]; n != nil {
		return n
	}
	if len(c.requests) > c.most || !validName(tenant) {
		return c.requests[otherTenants]
	}
	n := new(atomic.Int64)
	c.requests[tenant] = n
	return n
}

func (c *counters) of(tenant string) int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if n := c.requests[tenant]; n != nil {
		return n.Load()
	}
	return 0
}

func (c *counters) reject(class string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rejected[class]++
}

// countersView is the counters as /debug/counters shows them.
type countersView struct {
	HTTPRequests int64                `json:"http_requests"`
	GRPCCalls    int64                `json:"grpc_calls"`
	Requests     map[string]int64     `json:"requests"` // by tenant; "*" is all past the bound
	Events       eventsView           `json:"events"`
	Faults       map[string]faultView `json:"faults"`
}

type eventsView struct {
	Accepted int64            `json:"accepted"`
	Rejected map[string]int64 `json:"rejected"` // by class
}

func (c *counters) view() countersView {
	c.mu.RLock()
	defer c.mu.RUnlock()
	v := countersView{
		HTTPRequests: c.http.Load(),
		GRPCCalls:    c.grpc.Load(),
		Requests:     make(map[string]int64, len(c.requests)),
		Events:       eventsView{Accepted: c.accepted.Load(), Rejected: make(map[string]int64, len(c.rejected))},
	}
	for tenant, n := range c.requests {
		v.Requests[tenant] = n.Load()
	}
	maps.Copy(v.Events.Rejected, c.rejected)
	return v
}
