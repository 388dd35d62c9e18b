package telemetry

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/quadnine/quadnine"
)

// MaxTenants is how many tenants get series of their own, first come first
// served over all shards; the rest share quadnine.OtherTenant. 256 tenants are
// 2,048 series, which keeps a scrape under 1 MB.
const MaxTenants = 256

// maxTenantLen bounds a label value in bytes: a tenant comes from a header.
const maxTenantLen = 128

// tenants decides for all shards which tenants are counted by name. Reading
// takes no lock; writing happens at most MaxTenants times.
type tenants struct {
	names atomic.Pointer[map[string]struct{}]
	mu    sync.Mutex // held while names is replaced
}

func newTenants() *tenants {
	t := new(tenants)
	t.names.Store(&map[string]struct{}{})
	return t
}

// admit reports whether tenant is counted by name, and remembers it if there is
// room.
func (t *tenants) admit(tenant string) bool {
	names := *t.names.Load()
	if _, ok := names[tenant]; ok {
		return true
	}
	if len(names) >= MaxTenants || !countable(tenant) {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	names = *t.names.Load() // another shard may have come first
	if _, ok := names[tenant]; ok {
		return true
	}
	if len(names) >= MaxTenants {
		return false
	}
	next := maps.Clone(names)
	next[strings.Clone(tenant)] = struct{}{}
	t.names.Store(&next)
	return true
}

// countable reports whether tenant can be a label value. One that is not UTF-8
// would make the whole scrape fail.
func countable(tenant string) bool {
	return tenant != "" && tenant != quadnine.OtherTenant && len(tenant) <= maxTenantLen && utf8.ValidString(tenant)
}
