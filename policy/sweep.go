package policy

import (
	"github.com/quadnine/quadnine"
)

// Transition is a change of state that no request's caller saw happen.
type Transition struct {
	Key   quadnine.Key // of a tenant's breaker: Metric is empty
	Level Level
	Event Event
}

// Sweep looks at the next n buckets of the table (4 keys each when it is full),
// going round, and
//   - drops closed breakers that remember no failure and were not asked for
//     within Window;
//   - turns an open or half-open breaker that nobody asked for in DecayAfter into
//     one failure of its tenant's breaker.
//
// It returns the transitions, nil when there were none. Many Sweeps may run at
// once. A full round of the default table takes 16,384 buckets: 1,024 every
// second is plenty, and costs some tens of microseconds.
func (b *Breakers) Sweep(n int, now int64) []Transition {
	t := b.tuning.Load()
	var out []Transition
	for e := range b.keys.walk(n) {
		w := e.word.Load()
		quiet := now - e.seen.Load()
		switch stateOf(w) {
		case StateClosed:
			if quiet > int64(t.Window) && e.idle(t, w, now) {
				b.keys.retire(e, w)
			}
		case StateOpen, StateHalfOpen:
			if quiet > int64(t.DecayAfter) && b.keys.retire(e, w) {
				out = b.decayed(t, e, now, out)
			}
		}
	}
	for e := range b.tenants.walk(n) {
		w := e.word.Load()
		quiet := now - e.seen.Load()
		if quiet > int64(t.Window) && b.retireTenant(t, e, now) {
			continue
		}
		if s := stateOf(w); (s == StateOpen || s == StateHalfOpen) && quiet > int64(t.DecayAfter) && e.keys.Load() == 0 && b.tenants.retire(e, w) {
			out = append(out, Transition{e.key, LevelTenant, Decayed})
		}
	}
	return out
}

// decayed counts e's end as one failure of its tenant.
func (b *Breakers) decayed(t *tuning, e *entry, now int64, out []Transition) []Transition {
	out = append(out, Transition{e.key, LevelKey, Decayed})
	_, thash := b.hash(quadnine.Key{Tenant: e.key.Tenant})
	tenant := b.tenant(t, e.key.Tenant, thash, now)
	p := Permit{epoch: epochOf(tenant.word.Load())}
	if ev, _ := tenant.record(t, &p, Failure, KeyDecayed, now); ev != None {
		out = append(out, Transition{tenant.key, LevelTenant, ev})
	}
	return out
}
