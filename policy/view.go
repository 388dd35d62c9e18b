package policy

import (
	"iter"
	"time"

	"github.com/quadnine/quadnine"
)

// BreakerView is one breaker as admin pages show it.
type BreakerView struct {
	Key        quadnine.Key  // of a tenant's breaker: Metric is empty
	Level      Level         // whose breaker it is
	State      State         // at the moment of looking
	Failures   int           // within Window; 0 unless closed
	Requests   int           // within Window, since the breaker was made; 0 unless closed
	ProbesOut  int           // probes without a result whose leases run
	OpenedAgo  time.Duration // since it last opened; 0 if it never did
	RetryAfter time.Duration // until a probe may go; 0 unless open
	LastReason Reason        // of the last failure
	Keys       int           // a tenant's: keys of its that have a breaker
}

func (e *entry) view(t *tuning, now int64) BreakerView {
	w := e.word.Load()
	v := BreakerView{
		Key: e.key, Level: e.level, State: stateOf(w), LastReason: Reason(e.reason.Load()),
		RetryAfter: e.remaining(t, now), Keys: int(e.keys.Load()),
	}
	if epochOf(w) != firstEpoch {
		v.OpenedAgo = time.Duration(now - e.since.Load())
	}
	switch v.State {
	case StateClosed:
		v.Failures, v.Requests = e.win.sum(now/t.slice, t.salt(epochOf(w)))
	case StateHalfOpen:
		v.ProbesOut = e.leases.Load().out(epochOf(w), now)
	}
	return v
}

// All yields every breaker at now, tenants' first, in no further order. What
// changes meanwhile may or may not be seen. It is for admin pages: it reads the
// whole table.
func (b *Breakers) All(now int64) iter.Seq[BreakerView] {
	return func(yield func(BreakerView) bool) {
		t := b.tuning.Load()
		if w := b.other.word.Load(); (epochOf(w) != firstEpoch || b.other.keys.Load() > 0 || !b.other.idle(t, w, now)) && !yield(b.other.view(t, now)) {
			return
		}
		for _, table := range []*table{b.tenants, b.keys} {
			for e := range table.all() {
				if !yield(e.view(t, now)) {
					return
				}
			}
		}
	}
}

// Explain returns the breaker that decides k at now. A key that has none is
// shown closed and empty.
func (b *Breakers) Explain(k quadnine.Key, now int64) BreakerView {
	t := b.tuning.Load()
	if e := b.deciding(t, k); e != nil {
		return e.view(t, now)
	}
	return BreakerView{Key: k}
}

// Counts returns how many keys and tenants have a breaker.
func (b *Breakers) Counts() (keys, tenants int) {
	return int(b.keys.live.Load()), int(b.tenants.live.Load())
}
