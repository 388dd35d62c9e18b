package policy

import (
	"strings"

	"github.com/quadnine/quadnine"
)

// findTenant returns a tenant's entry, OtherTenant's when there is no room for
// one, or nil when it has none yet.
func (b *Breakers) findTenant(tenant string, hash uint64) *entry {
	if tenant == quadnine.OtherTenant {
		return b.other
	}
	if e := b.tenants.find(hash, quadnine.Key{Tenant: tenant}); e != nil {
		return e
	}
	if b.tenants.full() {
		return b.other
	}
	return nil
}

// tenant returns a tenant's entry, made if need be and possible, else OtherTenant's.
func (b *Breakers) tenant(t *tuning, tenant string, hash uint64, now int64) *entry {
	k := quadnine.Key{Tenant: tenant}
	if tenant == quadnine.OtherTenant {
		return b.other
	}
	if e := b.tenants.find(hash, k); e != nil {
		return e
	}
	if !b.tenants.reserve() && (!b.evictTenant(t, now) || !b.tenants.reserve()) {
		return b.other
	}
	e := &entry{hash: hash, key: quadnine.Key{Tenant: strings.Clone(tenant)}, level: LevelTenant}
	e.start(now)
	return b.tenants.insert(e)
}

// evictTenant drops one tenant that has no key and nothing to remember.
func (b *Breakers) evictTenant(t *tuning, now int64) bool {
	if now < b.tenants.barren.Load() {
		return false
	}
	looked := 0
	for e := range b.tenants.walk(evictBuckets) {
		if looked++; looked > evictEntries {
			break
		}
		if b.retireTenant(t, e, now) {
			return true
		}
	}
	b.tenants.barren.Store(now + t.slice/16)
	return false
}

// retireTenant drops e if it has no key and nothing to remember. A key that
// reserves its place at this very moment keeps the old entry as its quota's
// holder: the quota is then split for as long as that key lives.
func (b *Breakers) retireTenant(t *tuning, e *entry, now int64) bool {
	w := e.word.Load()
	return e.keys.Load() == 0 && e.idle(t, w, now) && b.tenants.retire(e, w)
}
