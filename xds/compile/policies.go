package compile

import (
	"cmp"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/quadnine/quadnine/snapshot"
	modelv1 "github.com/quadnine/quadnine/xds/api/quadnine/model/v1"
	policyv1 "github.com/quadnine/quadnine/xds/api/quadnine/policy/v1"
)

// The messages that are quadnine's own.
const (
	tenantBreaker = "quadnine.policy.v1.TenantBreaker"
	responseCache = "quadnine.policy.v1.ResponseCache"
	modelRouting  = "quadnine.model.v1.ModelRouting"
)

// own is the prefix of quadnine's keys in typed_filter_metadata.
const own = "quadnine"

// filterConfig wraps an override.
const filterConfig = "envoy.config.route.v3.FilterConfig"

// policies compiles what a route, a virtual host, a weighted cluster or a table
// says of its own: in typed_per_filter_config, and less strongly in metadata.
func (r *review) policies(filters map[string]*anypb.Any, metadata *corev3.Metadata, p *at) snapshot.Policies {
	var out snapshot.Policies
	if len(filters) > 0 {
		for _, key := range slices.Sorted(maps.Keys(filters)) {
			r.override(&out, key, filters[key], p.k("typed_per_filter_config", key))
		}
	}
	if len(metadata.GetTypedFilterMetadata()) > 0 {
		out = out.Over(r.metadata(metadata, p, nil))
	}
	return out
}

// metadata compiles quadnine's own messages in typed_filter_metadata; those of
// others have no effect. keys is where a breaker's sources go; nil: they are
// refused.
func (r *review) metadata(m *corev3.Metadata, p *at, keys *snapshot.Keys) snapshot.Policies {
	var out snapshot.Policies
	typed := m.GetTypedFilterMetadata()
	for _, key := range slices.Sorted(maps.Keys(typed)) {
		if key != own && !strings.HasPrefix(key, own+".") {
			continue
		}
		at := p.f("metadata").k("typed_filter_metadata", key)
		if x, ok := r.open(typed[key], at); ok && !r.policy(&out, x, "", at, keys) {
			r.refuse(at, x.name, "use "+tenantBreaker+", "+responseCache+" or "+modelRouting)
		}
	}
	return out
}

// override compiles one entry of typed_per_filter_config.
func (r *review) override(out *snapshot.Policies, key string, a *anypb.Any, p *at) {
	x, ok := r.open(a, p)
	if !ok {
		return
	}
	optional := false
	if x.name == filterConfig {
		m := new(routev3.FilterConfig)
		if !r.into(x, m, p) {
			return
		}
		if m.GetDisabled() {
			r.disable(out, key, m, p)
			return
		}
		if m.GetConfig() == nil {
			r.fail(p.f("config"), "", "Empty route/virtual host per filter configuration for %s filter", key)
			return
		}
		optional, p = m.GetIsOptional(), p.f("config")
		if x, ok = r.open(m.GetConfig(), p); !ok {
			return
		}
	}
	switch {
	case r.policy(out, x, "", p, nil):
	case optional:
		r.ignore(p, cmp.Or(x.name, key), "it is optional")
	default: // an empty one switches a filter on that the listener has switched off
		r.refuse(p, cmp.Or(x.name, key), "unset it, or wrap it in "+filterConfig+" with is_optional")
	}
}

// disable switches one of quadnine's filters off for a route. It is found by its
// configuration, or by the filter's name.
func (r *review) disable(out *snapshot.Policies, key string, m *routev3.FilterConfig, p *at) {
	name := key
	if m.GetConfig() != nil {
		if x, ok := r.open(m.GetConfig(), p.f("config")); ok {
			name = x.name
		}
	}
	switch name {
	case tenantBreaker, "quadnine.tenant_breaker":
		out.Breaker = &snapshot.Breaker{Disabled: true}
	case responseCache, "quadnine.response_cache":
		out.Cache = &snapshot.Cache{Disabled: true}
	case modelRouting, "quadnine.model_routing":
		out.Model = &snapshot.ModelRouting{Mode: snapshot.ModelOff}
	case "envoy.filters.http.health_check":
		r.refuse(p, "disabled", "the health check filter answers before a route is chosen: narrow its headers")
	default:
		r.ignore(p, "disabled", "there is no such filter")
	}
}

// policy adds what x says to out and reports whether it is one of quadnine's
// messages. scope is "" for an override, whose scope is what it says.
func (r *review) policy(out *snapshot.Policies, x extension, scope string, p *at, keys *snapshot.Keys) bool {
	switch x.name {
	case tenantBreaker:
		m := new(policyv1.TenantBreaker)
		if !r.own(x, m, p) {
			return true
		}
		file := breakerFile(m)
		config, found, err := file.Settings()
		r.settings(err, p)
		if keys != nil {
			*keys = found
		} else if len(m.GetTenant())+len(m.GetMetric())+len(m.GetUser()) > 0 || m.GetRequireTenant() {
			r.fail(p, "name requests in the listener's TenantBreaker filter", "says how requests are named: only a listener can")
		}
		out.Breaker = &snapshot.Breaker{Scope: scopeOf(scope, x.name, m), Config: config}
	case responseCache:
		m := new(policyv1.ResponseCache)
		if !r.own(x, m, p) {
			return true
		}
		file := &snapshot.ResponseCache{
			TTL: span(m.GetTtl()), MaxBytes: m.GetMaxBytes(), MaxBodyBytes: m.GetMaxBodyBytes(), IdentityHeaders: m.GetIdentityHeaders(),
		}
		config, err := file.Settings()
		r.settings(err, p)
		out.Cache = &snapshot.Cache{Scope: scopeOf(scope, x.name, m), Config: config}
	case modelRouting:
		m := new(modelv1.ModelRouting)
		if !r.own(x, m, p) {
			return true
		}
		out.Model = r.model(m, p)
	default:
		return false
	}
	return true
}

// own decodes one of quadnine's messages: all of its fields are used.
func (r *review) own(x extension, m proto.Message, p *at) bool {
	ok := r.decode(x, m, p)
	if ok {
		r.unknown(m.ProtoReflect().GetUnknown(), p)
	}
	return ok
}

func (r *review) model(m *modelv1.ModelRouting, p *at) *snapshot.ModelRouting {
	out := &snapshot.ModelRouting{Model: m.GetModel(), WeightKey: m.GetCanaryRuntimeKey()}
	switch m.GetMode() {
	case modelv1.ModelRouting_MODE_UNSPECIFIED:
	case modelv1.ModelRouting_OFF:
		out.Mode = snapshot.ModelOff
	case modelv1.ModelRouting_ROUTED:
		out.Mode = snapshot.ModelRouted
	case modelv1.ModelRouting_EMBEDDED:
		out.Mode = snapshot.ModelEmbedded
	default:
		r.fail(p.f("mode"), "", "is %d: want OFF, ROUTED or EMBEDDED", m.GetMode())
	}
	if w := m.GetCanaryWeight(); w != nil {
		out.Weight, out.HasWeight = w.GetValue(), true
		if !(out.Weight >= 0 && out.Weight <= 100) {
			r.fail(p.f("canary_weight"), "", "is %v: want 0 to 100", out.Weight)
		}
	}
	return out
}

// settings adds the errors of what is out of bounds.
func (r *review) settings(err error, p *at) {
	if err == nil {
		return
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		field, what, _ := strings.Cut(line, " ")
		r.fail(p.f(field), "", "%s", what)
	}
}

// scopeOf names the state that a policy keeps: that of its listener, or that of
// all overrides that say the same.
func scopeOf(scope, name string, m proto.Message) string {
	if scope != "" {
		return scope
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	_, _ = h.Write(canonical(m))
	return "override/" + strconv.FormatUint(h.Sum64(), 16)
}

// breakerFile returns m as quadnine.yaml writes it.
func breakerFile(m *policyv1.TenantBreaker) *snapshot.TenantBreaker {
	return &snapshot.TenantBreaker{
		FailureThreshold: m.GetFailureThreshold(), FailureRatePercent: m.GetFailureRatePercent(), MinRequests: m.GetMinRequests(),
		Window: span(m.GetWindow()), OpenFor: span(m.GetOpenFor()), ProbeLease: span(m.GetProbeLease()), SuccessThreshold: m.GetSuccessThreshold(),
		MaxKeys: m.GetMaxKeys(), MaxKeysPerTenant: m.GetMaxKeysPerTenant(), MaxTenants: m.GetMaxTenants(), DecayAfter: span(m.GetDecayAfter()),
		Tenant: sourcesFile(m.GetTenant()), Metric: sourcesFile(m.GetMetric()), User: sourcesFile(m.GetUser()), RequireTenant: m.GetRequireTenant(),
	}
}

func sourcesFile(in []*policyv1.KeySource) (out []snapshot.SourceOne) {
	for _, s := range in {
		one := snapshot.SourceOne{Header: s.GetHeader(), QueryParameter: s.GetQueryParameter()}
		if seg := s.GetPathSegment(); seg != nil {
			one.PathSegment = &snapshot.PathSegment{Index: seg.GetIndex()}
		}
		if s.GetGrpcMethod() != nil {
			one.GrpcMethod = &snapshot.GrpcMethod{}
		}
		out = append(out, one)
	}
	return out
}

// span converts a duration whose bounds are checked later; what does not fit
// becomes the longest, which no bound allows.
func span(d *durationpb.Duration) snapshot.Duration {
	return snapshot.Duration(d.AsDuration()) // saturates
}
