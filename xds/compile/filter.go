package compile

import (
	"maps"
	"slices"

	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	grpcstatsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_stats/v3"
	healthcheckv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/health_check/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"

	"github.com/quadnine/quadnine/snapshot"
)

const router = "envoy.extensions.filters.http.router.v3.Router"

// filters compiles the HTTP filters at p.
func (l *listening) filters(in []*hcmv3.HttpFilter, p *at) {
	var end bool
	for i, f := range in {
		at := p.i("http_filters", i)
		if end {
			l.fail(p.i("http_filters", i-1), "move it to the end", "terminal filter must be the last filter in a http filter chain")
			return
		}
		end = l.filter(f, at)
	}
	switch {
	case len(in) == 0:
		// Envoy takes it, and then no request is ever answered but by time-outs.
		l.out.HTTP.Unanswered = true
		l.ignore(p.f("http_filters"), "none", "without a router no request is answered: stream_idle_timeout ends it")
	case !end && !l.failed():
		l.fail(p.f("http_filters"), "end the list with envoy.filters.http.router", "non-terminal filter is the last filter in a http filter chain, or there is none")
	}
}

// filter compiles one filter and reports whether it is the router.
func (l *listening) filter(f *hcmv3.HttpFilter, p *at) bool {
	if f.GetTypedConfig() == nil && f.GetConfigDiscovery() == nil {
		if f.GetName() == "envoy.filters.http.router" { // found by its name, as in Envoy
			return true
		}
		l.fail(p.f("typed_config"), "", "is not set")
		return false
	}
	at := p.f("typed_config")
	x, ok := l.open(f.GetTypedConfig(), at)
	if !ok {
		return false
	}
	switch x.name {
	case router:
		m := new(routerv3.Router)
		if l.into(x, m, at) {
			l.out.HTTP.SuppressEnvoy = m.GetSuppressEnvoyHeaders()
		}
		if f.GetDisabled() {
			l.fail(p.f("disabled"), "", "the router cannot be disabled")
		}
		return true
	case "envoy.extensions.filters.http.health_check.v3.HealthCheck":
		m := new(healthcheckv3.HealthCheck)
		if !l.into(x, m, at) {
			return false
		}
		check := l.healthCheck(m, at)
		if f.GetDisabled() {
			l.ignore(p, f.GetName(), "it is disabled, and no route can enable it")
			return false
		}
		l.out.HTTP.Filters = append(l.out.HTTP.Filters, snapshot.Filter{Name: f.GetName(), HealthCheck: check})
	case "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig":
		l.inert(x, new(grpcstatsv3.FilterConfig), f, p, countsOnly)
	case "envoy.extensions.filters.http.fault.v3.HTTPFault":
		l.inert(x, new(faultv3.HTTPFault), f, p, nothingSet)
	case "envoy.extensions.filters.http.cors.v3.Cors":
		l.inert(x, new(corsv3.Cors), f, p, nothingSet)
	case "envoy.extensions.filters.http.rbac.v3.RBAC":
		l.inert(x, new(rbacv3.RBAC), f, p, nothingSet)
	case "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit":
		l.inert(x, new(ratelimitv3.LocalRateLimit), f, p, nothingSet)
	default:
		l.other(x, f, p)
	}
	return false
}

// nothingSet is why a filter that is told nothing has no effect: a route that
// tells it something is refused.
const nothingSet = "it does nothing where no route says what"

// inert takes a filter that has no effect as it is configured.
func (l *listening) inert(x extension, m proto.Message, f *hcmv3.HttpFilter, p *at, why string) {
	if l.into(x, m, p.f("typed_config")) {
		l.ignore(p, f.GetName(), why)
	}
}

// other takes quadnine's own filters, and those that have no effect here.
func (l *listening) other(x extension, f *hcmv3.HttpFilter, p *at) {
	var own snapshot.Policies
	switch {
	case l.policy(&own, x, "listener", p.f("typed_config"), &l.out.Keys):
		if f.GetDisabled() {
			disableAll(&own)
		}
		l.out.Policies = own.Over(l.out.Policies)
	case f.GetIsOptional():
		l.ignore(p, nameOf(f.GetName(), x), "it is optional")
	case tolerated(f.GetName(), x.name):
		l.ignore(p, f.GetName(), "it only counts and names peers")
	default:
		l.refuse(p, nameOf(f.GetName(), x), "unset it, or mark it is_optional")
	}
}

// disableAll makes what p says apply only to routes that say it again.
func disableAll(p *snapshot.Policies) {
	if p.Breaker != nil {
		p.Breaker.Disabled = true
	}
	if p.Cache != nil {
		p.Cache.Disabled = true
	}
	if p.Model != nil {
		p.Model = &snapshot.ModelRouting{Mode: snapshot.ModelOff}
	}
}

func (l *listening) healthCheck(m *healthcheckv3.HealthCheck, p *at) *snapshot.HealthCheck {
	out := &snapshot.HealthCheck{
		PassThrough: m.GetPassThroughMode().GetValue(),
		CacheFor:    l.duration(m.GetCacheTime(), p.f("cache_time"), 0),
		Headers:     l.headers(m.GetHeaders(), p, "headers"),
	}
	if !out.PassThrough && out.CacheFor > 0 {
		l.fail(p.f("cache_time"), "", "cache_time_ms must not be set when path_through_mode is disabled")
	}
	if out.PassThrough && len(m.GetClusterMinHealthyPercentages()) > 0 {
		l.ignore(p.f("cluster_min_healthy_percentages"), "percentages", "pass_through_mode has the upstream answer")
		return out
	}
	for _, name := range slices.Sorted(maps.Keys(m.GetClusterMinHealthyPercentages())) {
		out.MinHealthy = append(out.MinHealthy, snapshot.ClusterMin{Cluster: name, Percent: m.GetClusterMinHealthyPercentages()[name].GetValue()})
	}
	return out
}
