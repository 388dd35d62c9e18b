package policy

import (
	"fmt"
	"hash/maphash"
	"math/bits"
	"strings"
	"sync/atomic"
	"time"

	"github.com/quadnine/quadnine"
)

// Breakers holds one breaker per key, bounded. A key costs nothing while it is
// healthy: its breaker is made at its first failure (at its first request when
// FailureRatePercent is set) and dropped when it has nothing left to remember.
// A key for which there is no room is decided by its tenant's breaker.
//
// It is safe for concurrent use. Call Sweep now and then.
type Breakers struct {
	seed    maphash.Seed
	tuning  atomic.Pointer[tuning]
	keys    *table
	tenants *table
	other   *entry // OtherTenant's: also of tenants past MaxTenants
}

// NewBreakers returns an empty table. The error is cfg.Validate's.
func NewBreakers(cfg BreakerConfig) (*Breakers, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	b := &Breakers{
		seed:    maphash.MakeSeed(),
		keys:    newTable(cfg.MaxKeys),
		tenants: newTable(cfg.MaxTenants),
		other:   &entry{key: quadnine.Key{Tenant: quadnine.OtherTenant}, level: LevelTenant},
	}
	b.other.start(0)
	b.tuning.Store(&tuning{BreakerConfig: cfg, slice: int64(cfg.Window) / sliceCount})
	return b, nil
}

// Config returns the thresholds in force.
func (b *Breakers) Config() BreakerConfig { return b.tuning.Load().BreakerConfig }

// Retune replaces the thresholds; every breaker keeps its state, and its counts
// unless Window changes. They apply from the next Decide or Record on. The
// sizes (maxKeys, maxKeysPerTenant, maxTenants) are fixed: when one differs, or
// cfg is not valid, Retune changes nothing and returns an error.
func (b *Breakers) Retune(cfg BreakerConfig) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	for {
		old := b.tuning.Load()
		if cfg.MaxKeys != old.MaxKeys || cfg.MaxKeysPerTenant != old.MaxKeysPerTenant || cfg.MaxTenants != old.MaxTenants {
			return fmt.Errorf("policy: retune breakers: maxKeys, maxKeysPerTenant and maxTenants are %d, %d and %d since the start, not %d, %d and %d: restart to change them",
				old.MaxKeys, old.MaxKeysPerTenant, old.MaxTenants, cfg.MaxKeys, cfg.MaxKeysPerTenant, cfg.MaxTenants)
		}
		next := &tuning{BreakerConfig: cfg, slice: int64(cfg.Window) / sliceCount, window: old.window}
		if cfg.Window != old.Window {
			next.window++
		}
		if b.tuning.CompareAndSwap(old, next) {
			return nil
		}
	}
}

func (b *Breakers) hash(k quadnine.Key) (key, tenant uint64) {
	tenant = maphash.String(b.seed, k.Tenant)
	return bits.RotateLeft64(tenant*0x9e3779b97f4a7c15, 31) ^ maphash.String(b.seed, k.Metric), tenant // the factor is 2^64/φ: spreads the tenant's bits
}

// Decide reports what to do with the next request for k. It never blocks, takes
// no lock, and allocates only to make a breaker. An empty tenant is
// OtherTenant. The Permit goes to Record when the outcome is known, or may be
// dropped when the Decision is Reject; look at its Event first.
func (b *Breakers) Decide(k quadnine.Key, now int64) (Decision, Permit) {
	if k.Tenant == "" {
		k.Tenant = quadnine.OtherTenant
	}
	t := b.tuning.Load()
	p := Permit{key: k}
	p.hash, p.thash = b.hash(k)
	if e := b.keys.find(p.hash, k); e != nil {
		if d, ok := e.decide(t, now, &p); ok {
			p.e = e
			return d, p
		}
	}
	if t.FailureRatePercent > 0 {
		return b.decideRate(t, now, p)
	}
	p.tenant = b.findTenant(k.Tenant, p.thash)
	p.epoch = firstEpoch
	if p.tenant == nil {
		return Forward, p
	}
	w := p.tenant.word.Load()
	p.epoch = epochOf(w)
	if s := stateOf(w); s == StateClosed || s == stateGone || b.room(t, p.tenant) {
		return Forward, p
	}
	if d, ok := p.tenant.decide(t, now, &p); ok {
		p.e = p.tenant
		return d, p
	}
	return Forward, p
}

// decideRate is Decide for a key without a breaker when every request counts.
func (b *Breakers) decideRate(t *tuning, now int64, p Permit) (Decision, Permit) {
	for {
		e, tenant := b.create(t, now, &p)
		if e == nil {
			e = tenant
		}
		if d, ok := e.decide(t, now, &p); ok {
			p.e = e
			return d, p
		}
	}
}

// Record takes the outcome of a request that was forwarded, with the reason
// when it is Failure, and returns the transition it caused. It never blocks,
// takes no lock, and allocates only to make or to first open a breaker.
//
// A permit that was issued before its breaker's last transition, or a probe's
// whose lease another has, changes nothing.
func (b *Breakers) Record(p Permit, o Outcome, why Reason, now int64) Event {
	if o == Neutral && p.lease == 0 || p.key.Tenant == "" {
		return None
	}
	t := b.tuning.Load()
	if p.e != nil {
		ev, ok := p.e.record(t, &p, o, why, now)
		if ok {
			return ev
		}
		// The breaker was dropped meanwhile. A result of its last epoch counts
		// in a new one; an older one means nothing any more.
		if o != Failure || p.epoch != epochOf(p.e.word.Load()) || p.e.level == LevelTenant {
			return None
		}
		p.tenant = nil
		p.epoch = firstEpoch
	}
	if o != Failure {
		return None
	}
	return b.recordFirst(t, p, why, now)
}

// recordFirst counts a failure of a key that had no breaker.
func (b *Breakers) recordFirst(t *tuning, p Permit, why Reason, now int64) Event {
	for {
		e, tenant := b.create(t, now, &p)
		q := p
		q.lease = 0
		if e != nil {
			q.epoch = firstEpoch
		} else {
			if tenant != p.tenant {
				q.epoch = firstEpoch // made since, or made anew
			}
			e = tenant
		}
		if ev, ok := e.record(t, &q, Failure, why, now); ok {
			return ev
		}
	}
}

// room reports whether a key of tenant could get a breaker as things stand.
func (b *Breakers) room(t *tuning, tenant *entry) bool {
	return !b.keys.full() && tenant.keys.Load() < int64(t.MaxKeysPerTenant)
}

// create returns the entry of p's key, made if need be, or nil when there is no
// room for it. It always returns the tenant's.
func (b *Breakers) create(t *tuning, now int64, p *Permit) (e, tenant *entry) {
	if e := b.keys.find(p.hash, p.key); e != nil {
		return e, e.tenant
	}
	tenant = b.tenant(t, p.key.Tenant, p.thash, now)
	quota := int64(t.MaxKeysPerTenant)
	if !reserve(&tenant.keys, quota) && (!b.evict(t, tenant, true, now) || !reserve(&tenant.keys, quota)) {
		return nil, tenant
	}
	if !b.keys.reserve() && (!b.evict(t, tenant, false, now) || !b.keys.reserve()) {
		tenant.keys.Add(-1)
		return nil, tenant
	}
	made := &entry{hash: p.hash, key: quadnine.Key{Tenant: tenant.key.Tenant, Metric: strings.Clone(p.key.Metric)}, tenant: tenant}
	if tenant == b.other {
		made.key.Tenant = strings.Clone(p.key.Tenant)
	}
	made.start(now)
	if e = b.keys.insert(made); e != made {
		tenant.keys.Add(-1)
	}
	return e, tenant
}

// One search for a victim looks at no more than this: a few microseconds, paid
// only where a breaker must be made and there is no room. A search in vain is not
// repeated for a sixteenth of a slice (375 ms by default), so that a flood of
// keys costs little.
const (
	evictBuckets = 1024
	evictEntries = 128
)

// evict drops one closed key without a failure in its window: only one of
// tenant's when own is set. Of another tenant it drops no key whose requests a
// failure rate still counts: one tenant's load must not change another's
// decisions.
func (b *Breakers) evict(t *tuning, tenant *entry, own bool, now int64) bool {
	barren := &b.keys.barren
	if own {
		barren = &tenant.barren
	}
	if now < barren.Load() {
		return false
	}
	looked := 0
	for e := range b.keys.walk(evictBuckets) {
		if looked++; looked > evictEntries {
			break
		}
		if own && e.tenant != tenant {
			continue
		}
		w := e.word.Load()
		if stateOf(w) != StateClosed {
			continue
		}
		failures, requests := e.win.sum(now/t.slice, t.salt(epochOf(w)))
		if failures > 0 || t.FailureRatePercent > 0 && e.tenant != tenant && requests > 0 {
			continue
		}
		if b.keys.retire(e, w) {
			return true
		}
	}
	barren.Store(now + t.slice/16)
	return false
}

// RetryAfter returns the time until the breaker that decides k lets a probe
// through: 0 unless it is open.
func (b *Breakers) RetryAfter(k quadnine.Key, now int64) time.Duration {
	t := b.tuning.Load()
	if e := b.deciding(t, k); e != nil {
		return e.remaining(t, now)
	}
	return 0
}

// deciding returns whose breaker decides k now, or nil when none does.
func (b *Breakers) deciding(t *tuning, k quadnine.Key) *entry {
	if k.Tenant == "" {
		k.Tenant = quadnine.OtherTenant
	}
	hash, thash := b.hash(k)
	if e := b.keys.find(hash, k); e != nil {
		return e
	}
	if e := b.findTenant(k.Tenant, thash); e != nil && !b.room(t, e) {
		return e
	}
	return nil
}
