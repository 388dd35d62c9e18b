package telemetry

import (
	"slices"
	"strings"
	"sync/atomic"

	"github.com/quadnine/quadnine"
)

// line keeps what one loop writes off the cache lines that another writes: two
// lines of 64 bytes, because processors fetch them in pairs.
type line [128]byte

// Shard is one event loop's counters. Get it from Registry.NewShard; only that
// loop may call its methods.
type Shard struct {
	_       line
	tenants map[string]*series // what the owner looks up; readers use list
	recent  [16]*series        // of those, by a few of their letters: without a hash
	other   *series
	list    atomic.Pointer[[]*series] // copied on each new tenant
	counts  []atomic.Uint64           // by CounterID
	shared  *tenants
	latency histogram
	_       line
}

// series is one tenant's numbers in one shard.
type series struct {
	tenant   string
	outcomes [numOutcomes]atomic.Uint64
	steps    [numSteps]atomic.Uint64
	_        line
}

// bump adds n to a counter that only this goroutine writes.
func bump(c *atomic.Uint64, n uint64) { c.Store(c.Load() + n) }

// Request records one finished request of tenant that took latencyNs
// nanoseconds. It takes no lock and allocates only for a tenant's first request
// on this shard; tenants past the bound (MaxTenants) count as _other.
func (s *Shard) Request(tenant string, o Outcome, step DegradeStep, latencyNs int64) {
	t := s.other
	if tenant != quadnine.OtherTenant && tenant != "" {
		recent := &s.recent[(int(tenant[len(tenant)-1])^len(tenant))%len(s.recent)]
		if *recent == nil || (*recent).tenant != tenant {
			var known bool
			if t, known = s.tenants[tenant]; !known {
				t = s.admit(tenant)
			}
			if t != s.other {
				*recent = t
			}
		} else {
			t = *recent
		}
	}
	if o >= numOutcomes {
		o = LocalError
	}
	bump(&t.outcomes[o], 1)
	if step > StepNone && step < numSteps {
		bump(&t.steps[step], 1)
	}
	s.latency.record(latencyNs)
}

// Count adds n to c.
func (s *Shard) Count(c CounterID, n uint64) { bump(&s.counts[c], n) }

// admit returns the series for a tenant that this shard has none for yet.
func (s *Shard) admit(tenant string) *series {
	if !s.shared.admit(tenant) {
		return s.other
	}
	t := &series{tenant: strings.Clone(tenant)} // the caller's string may pin a larger buffer
	s.tenants[t.tenant] = t
	list := append(slices.Clone(*s.list.Load()), t)
	s.list.Store(&list)
	return t
}
