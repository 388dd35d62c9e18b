package snapshot

import "github.com/quadnine/quadnine/policy"

// Policies are what quadnine adds to a route: each is nil where the level does
// not say anything, and then the next wider level's holds: route, virtual host,
// listener.
type Policies struct {
	Breaker *Breaker
	Cache   *Cache
	Model   *ModelRouting
}

// Over returns p with what it does not say taken from wider.
func (p Policies) Over(wider Policies) Policies {
	if p.Breaker == nil {
		p.Breaker = wider.Breaker
	}
	if p.Cache == nil {
		p.Cache = wider.Cache
	}
	if p.Model == nil {
		p.Model = wider.Model
	}
	return p
}

// Breaker is quadnine.policy.v1.TenantBreaker without its sources. The tables of
// one scope are one: a changed configuration retunes it and keeps its keys.
type Breaker struct {
	Scope    string // "listener/NAME", or "override/HASH" of what a route says
	Config   policy.BreakerConfig
	Disabled bool
}

// Cache is quadnine.policy.v1.ResponseCache. One scope is one cache.
type Cache struct {
	Scope    string
	Config   policy.CacheConfig
	Disabled bool
}

// ModelRouting is quadnine.model.v1.ModelRouting.
type ModelRouting struct {
	Model     string // "": by the request's metric, as manifests say
	Mode      ModelMode
	Weight    float64 // of the canary, in percent, when HasWeight
	HasWeight bool
	WeightKey string // the runtime key that overrides Weight; "": none
}

// ModelMode is how a version answers.
type ModelMode uint8

// The modes.
const (
	ModelByManifest ModelMode = iota
	ModelOff                  // no version has a say on this route
	ModelRouted               // the upstream answers and echoes the version
	ModelEmbedded             // the sidecar computes
)
