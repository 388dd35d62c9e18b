package compile

import "testing"

const ownBreaker2 = `{"@type": type.googleapis.com/quadnine.policy.v1.TenantBreaker, failure_threshold: 2}`

// refusals asks a failing app until the breaker opens, and returns how often the
// app was asked.
func (s *scene) refusals(path string, headers ...string) int64 {
	s.t.Helper()
	s.a.status.Store(500)
	for range 10 {
		s.get(path+"?tenant=t&metric=m", headers...)
	}
	return s.a.asked.Load()
}

// never is how often the app is asked when no breaker opens.
const never = 10

// breakerFilter is the listener's filter, that opens after 4 failures.
const breakerFilter = `{name: quadnine.tenant_breaker, typed_config: {"@type": type.googleapis.com/quadnine.policy.v1.TenantBreaker, failure_threshold: 4}},`

const (
	perFilter = "typed_per_filter_config: {quadnine.tenant_breaker: " + ownBreaker2 + "}"
	typedMeta = "metadata: {typed_filter_metadata: {quadnine.breaker: " + ownBreaker2 + "}}"
)

// opensAfter is a case in which the breaker opens after so many failures.
func opensAfter(n int64, c observed) observed {
	c.observe = func(t *testing.T, s *scene) {
		t.Helper()
		same(t, "the app is asked", s.refusals("/"), n)
	}
	return c
}

func weightedA(more string) string {
	return "[{match: {prefix: /}, route: {weighted_clusters: {clusters: [{name: a, weight: 1, " + more + "}]}}}]"
}

var observedPolicies = []observed{
	opensAfter(4, observed{name: "filter", filters: breakerFilter}),
	opensAfter(never, observed{name: "filter disabled", filters: `{name: quadnine.tenant_breaker, disabled: true, typed_config: {"@type": type.googleapis.com/quadnine.policy.v1.TenantBreaker, failure_threshold: 4}},`}),
	opensAfter(2, observed{name: "override of a table", filters: breakerFilter, table: "{" + perFilter + ", virtual_hosts: [{name: v, domains: ['*'], routes: " + toA + "}]}"}),
	opensAfter(2, observed{name: "override of a host", filters: breakerFilter, table: "{virtual_hosts: [{name: v, domains: ['*'], " + perFilter + ", routes: " + toA + "}]}"}),
	opensAfter(2, observed{name: "override of a route", filters: breakerFilter, routes: "[{match: {prefix: /}, route: {cluster: a}, " + perFilter + "}]"}),
	opensAfter(2, observed{name: "override of a weighted cluster", filters: breakerFilter, routes: weightedA(perFilter)}),
	opensAfter(2, observed{name: "override wrapped", filters: breakerFilter, routes: `[{match: {prefix: /}, route: {cluster: a}, typed_per_filter_config: {quadnine.tenant_breaker: {"@type": type.googleapis.com/envoy.config.route.v3.FilterConfig, is_optional: true, config: ` + ownBreaker2 + `}}}]`}),
	opensAfter(4, observed{name: "override unknown and optional", filters: breakerFilter, routes: `[{match: {prefix: /}, route: {cluster: a}, typed_per_filter_config: {x: {"@type": type.googleapis.com/envoy.config.route.v3.FilterConfig, is_optional: true, config: {"@type": type.googleapis.com/envoy.config.core.v3.Locality}}}}]`}),
	opensAfter(never, observed{name: "override that disables", filters: breakerFilter, routes: `[{match: {prefix: /}, route: {cluster: a}, typed_per_filter_config: {quadnine.tenant_breaker: {"@type": type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true}}}]`}),
	opensAfter(2, observed{name: "metadata of a table", table: "{" + typedMeta + ", virtual_hosts: [{name: v, domains: ['*'], routes: " + toA + "}]}"}),
	opensAfter(2, observed{name: "metadata of a host", table: "{virtual_hosts: [{name: v, domains: ['*'], " + typedMeta + ", routes: " + toA + "}]}"}),
	opensAfter(2, observed{name: "metadata of a route", routes: "[{match: {prefix: /}, route: {cluster: a}, " + typedMeta + "}]"}),
	opensAfter(2, observed{name: "metadata of a listener", listener: typedMeta}),
}
