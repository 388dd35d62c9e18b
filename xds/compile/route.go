package compile

import (
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/quadnine/quadnine/snapshot"
)

// routeTimeout is RouteAction.timeout's default.
const routeTimeout = 15 * time.Second

// route compiles one route; limit bounds the body of a direct response.
func (r *review) route(m *routev3.Route, p *at, limit int) *snapshot.Route {
	out := &snapshot.Route{
		Name:      m.GetName(),
		Match:     r.routeMatch(m.GetMatch(), p.f("match")),
		Mutations: r.mutations(m, p),
		Policies:  r.policies(m.GetTypedPerFilterConfig(), m.GetMetadata(), p),
	}
	switch do := m.GetAction().(type) {
	case *routev3.Route_Route:
		out.Forward = r.forward(do.Route, p.f("route"))
	case *routev3.Route_Redirect:
		out.Redirect = r.redirect(do.Redirect, p.f("redirect"))
	case *routev3.Route_DirectResponse:
		out.Direct = &snapshot.DirectResponse{Status: int(do.DirectResponse.GetStatus()), Body: source(do.DirectResponse.GetBody())}
		if len(out.Direct.Body) > limit {
			r.fail(p.f("direct_response").f("body"), "raise max_direct_response_body_size_bytes of the route table", "response body size is %d bytes; maximum is %d", len(out.Direct.Body), limit)
		}
	}
	return out
}

func (r *review) forward(m *routev3.RouteAction, p *at) *snapshot.Forward {
	out := &snapshot.Forward{
		NotFoundStatus: 503,
		PrefixRewrite:  m.GetPrefixRewrite(),
		RegexRewrite:   r.rewrite(m.GetRegexRewrite(), p.f("regex_rewrite")),
		AppendXFH:      m.GetAppendXForwardedHost(),
		Timeout:        r.duration(m.GetTimeout(), p.f("timeout"), routeTimeout),
		Idle:           r.duration(m.GetIdleTimeout(), p.f("idle_timeout"), 0),
		HasIdle:        m.GetIdleTimeout() != nil,
		MaxGRPC:        r.duration(m.GetMaxGrpcTimeout(), p.f("max_grpc_timeout"), 0),
		HasMaxGRPC:     m.GetMaxGrpcTimeout() != nil,
		Retry:          r.retry(m.GetRetryPolicy(), p.f("retry_policy")),
	}
	for i, u := range m.GetUpgradeConfigs() {
		out.Upgrades = r.upgrade(out.Upgrades, u, p.i("upgrade_configs", i))
	}
	if m.GetPrefixRewrite() != "" && m.GetRegexRewrite() != nil {
		r.fail(p.f("regex_rewrite"), "", "specify only one of prefix_rewrite, regex_rewrite or path_rewrite_policy")
	}
	switch m.GetClusterNotFoundResponseCode() {
	case routev3.RouteAction_NOT_FOUND:
		out.NotFoundStatus = 404
	case routev3.RouteAction_INTERNAL_SERVER_ERROR:
		out.NotFoundStatus = 500
	}
	if m.GetPriority() == corev3.RoutingPriority_HIGH {
		out.Priority = snapshot.PriorityHigh
	}
	switch to := m.GetClusterSpecifier().(type) {
	case *routev3.RouteAction_Cluster:
		out.Cluster = to.Cluster
	case *routev3.RouteAction_ClusterHeader:
		out.ClusterHeader = strings.ToLower(to.ClusterHeader)
	case *routev3.RouteAction_WeightedClusters:
		out.Weighted, out.TotalWeight = r.weighted(to.WeightedClusters, p.f("weighted_clusters"))
	}
	switch host := m.GetHostRewriteSpecifier().(type) {
	case *routev3.RouteAction_HostRewriteLiteral:
		out.Host.Literal = host.HostRewriteLiteral
	case *routev3.RouteAction_AutoHostRewrite:
		out.Host.Auto = host.AutoHostRewrite.GetValue()
	case *routev3.RouteAction_HostRewriteHeader:
		out.Host.Header = strings.ToLower(host.HostRewriteHeader)
	case *routev3.RouteAction_HostRewritePathRegex:
		out.Host.Path = r.rewrite(host.HostRewritePathRegex, p.f("host_rewrite_path_regex"))
	}
	return out
}

func (r *review) weighted(m *routev3.WeightedCluster, p *at) ([]snapshot.WeightedCluster, uint32) {
	out := make([]snapshot.WeightedCluster, 0, len(m.GetClusters()))
	var total uint64
	for i, c := range m.GetClusters() {
		at := p.i("clusters", i)
		one := snapshot.WeightedCluster{
			Name: c.GetName(), ClusterHeader: strings.ToLower(c.GetClusterHeader()), Weight: c.GetWeight().GetValue(),
			Host:      c.GetHostRewriteLiteral(),
			Mutations: r.mutations(c, at),
			Policies:  r.policies(c.GetTypedPerFilterConfig(), nil, at),
		}
		if (one.Name == "") == (one.ClusterHeader == "") {
			r.fail(at, "", "must specify one of name and cluster_header")
		}
		total += uint64(one.Weight)
		out = append(out, one)
	}
	switch {
	case total == 0:
		r.fail(p, "give at least one cluster a weight", "Sum of weights in the weighted_cluster must be greater than 0")
	case total > 1<<32-1:
		r.fail(p, "", "The sum of weights of all weighted clusters exceeds %d", uint32(1<<32-1))
	}
	return out, uint32(min(total, 1<<32-1))
}

func (r *review) redirect(m *routev3.RedirectAction, p *at) *snapshot.Redirect {
	out := &snapshot.Redirect{
		Status:        redirectStatus[m.GetResponseCode()],
		HTTPS:         m.GetHttpsRedirect(),
		Scheme:        m.GetSchemeRedirect(),
		Host:          m.GetHostRedirect(),
		Port:          m.GetPortRedirect(),
		Path:          m.GetPathRedirect(),
		PrefixRewrite: m.GetPrefixRewrite(),
		RegexRewrite:  r.rewrite(m.GetRegexRewrite(), p.f("regex_rewrite")),
		StripQuery:    m.GetStripQuery(),
	}
	return out
}

// redirectStatus is by RedirectAction.response_code.
var redirectStatus = [...]int{301, 302, 303, 307, 308}

// appendAction is by HeaderValueOption.append_action.
var appendAction = [...]snapshot.AppendAction{snapshot.AppendOrAdd, snapshot.AddIfAbsent, snapshot.OverwriteOrAdd, snapshot.OverwriteIfExists}

// mutable is what all levels say of header fields.
type mutable interface {
	GetRequestHeadersToAdd() []*corev3.HeaderValueOption
	GetRequestHeadersToRemove() []string
	GetResponseHeadersToAdd() []*corev3.HeaderValueOption
	GetResponseHeadersToRemove() []string
}

func (r *review) mutations(m mutable, p *at) snapshot.Mutations {
	return snapshot.Mutations{
		Request:  r.mutation(m.GetRequestHeadersToAdd(), m.GetRequestHeadersToRemove(), p, "request_headers_to_"),
		Response: r.mutation(m.GetResponseHeadersToAdd(), m.GetResponseHeadersToRemove(), p, "response_headers_to_"),
	}
}

// mutation lists what is removed before what is added, as Envoy does it.
func (r *review) mutation(add []*corev3.HeaderValueOption, remove []string, p *at, field string) (out []snapshot.HeaderMutation) {
	for i, name := range remove {
		if !modifiable(name) {
			r.fail(p.i(field+"remove", i), "", ":-prefixed or host headers may not be removed")
		}
		out = append(out, snapshot.HeaderMutation{Name: strings.ToLower(name), Remove: true})
	}
	for i, o := range add {
		at := p.i(field+"add", i)
		name := o.GetHeader().GetKey()
		if !modifiable(name) {
			r.fail(at.f("header").f("key"), "rewrite the path or the host in the route's action", ":-prefixed or host headers may not be modified")
		}
		value, from := o.GetHeader().GetValue(), "value"
		if value == "" {
			value, from = string(o.GetHeader().GetRawValue()), "raw_value"
		}
		one := snapshot.HeaderMutation{
			Name: strings.ToLower(name), Value: r.format(value, at.f("header").f(from)), KeepEmpty: o.GetKeepEmptyValue(),
			Action: appendAction[o.GetAppendAction()],
		}
		if o.GetAppend() != nil {
			if o.GetAppendAction() != corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD {
				r.fail(at.f("append"), "unset append", "both append and append_action are set and it's not allowed")
			}
			if !o.GetAppend().GetValue() {
				one.Action = snapshot.OverwriteOrAdd
			}
		}
		out = append(out, one)
	}
	return out
}

func modifiable(name string) bool {
	return !strings.HasPrefix(name, ":") && !strings.EqualFold(name, "host")
}
