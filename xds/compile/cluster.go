package compile

import (
	"maps"
	"slices"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	caresv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/cares/v3"
	getaddrinfov3 "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/getaddrinfo/v3"
	upstreamsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/quadnine/quadnine/snapshot"
)

// Envoy's defaults of a cluster.
const (
	connectTimeout = 5 * time.Second
	upstreamIdle   = time.Hour
	dnsRefresh     = 5 * time.Second
)

func (r *review) cluster(m *clusterv3.Cluster) *snapshot.ClusterSettings {
	var p *at
	out := &snapshot.ClusterSettings{
		Name:           m.GetName(),
		Protocol:       snapshot.H1,
		ConnectTimeout: r.duration(m.GetConnectTimeout(), p.f("connect_timeout"), connectTimeout),
		IdleTimeout:    upstreamIdle,
		MaxRequests:    m.GetMaxRequestsPerConnection().GetValue(),
		BufferLimit:    m.GetPerConnectionBufferLimitBytes().GetValue(),
		DNSRefresh:     r.duration(m.GetDnsRefreshRate(), p.f("dns_refresh_rate"), dnsRefresh),
		DNSFamily:      dnsFamily[m.GetDnsLookupFamily()],
		Balance:        r.balance(m),
		Thresholds:     thresholds(m.GetCircuitBreakers()),
		Model:          r.clusterModel(m),
	}
	if k := m.GetUpstreamConnectionOptions().GetTcpKeepalive(); k != nil {
		out.KeepAlive = snapshot.KeepAlive{
			On: true, Probes: int(k.GetKeepaliveProbes().GetValue()),
			Time: time.Duration(k.GetKeepaliveTime().GetValue()) * time.Second, Interval: time.Duration(k.GetKeepaliveInterval().GetValue()) * time.Second,
		}
	}
	r.discovery(m, out)
	r.resolver(m.GetTypedDnsResolverConfig(), p.f("typed_dns_resolver_config"))
	out.TLS = r.socket(m.GetTransportSocket(), upstreamTLS, p.f("transport_socket"))
	// What stood in the cluster before HttpProtocolOptions took its place.
	if m.GetHttp2ProtocolOptions() != nil {
		out.Protocol = snapshot.H2C
		windows(out, m.GetHttp2ProtocolOptions())
	}
	if m.GetProtocolSelection() == clusterv3.Cluster_USE_DOWNSTREAM_PROTOCOL {
		out.Protocol = snapshot.Downstream
	}
	r.commonHTTP(out, m.GetCommonHttpProtocolOptions(), p.f("common_http_protocol_options"))
	options := m.GetTypedExtensionProtocolOptions()
	for _, key := range slices.Sorted(maps.Keys(options)) {
		at := p.k("typed_extension_protocol_options", key)
		x, ok := r.open(options[key], at)
		if !ok {
			continue
		}
		if x.name != "envoy.extensions.upstreams.http.v3.HttpProtocolOptions" {
			r.refuse(at, x.name, "only HttpProtocolOptions are known")
			continue
		}
		o := new(upstreamsv3.HttpProtocolOptions)
		if r.into(x, o, at) {
			r.protocol(out, o, at)
		}
	}
	return out
}

// resolver takes those that ask as the system does.
func (r *review) resolver(e *corev3.TypedExtensionConfig, p *at) {
	if e == nil {
		return
	}
	at := p.f("typed_config")
	x, ok := r.open(e.GetTypedConfig(), at)
	if !ok {
		return
	}
	switch x.name {
	case "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig":
		r.into(x, new(caresv3.CaresDnsResolverConfig), at)
	case "envoy.extensions.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig":
		r.into(x, new(getaddrinfov3.GetAddrInfoDnsResolverConfig), at)
	default:
		r.refuse(p, nameOf(e.GetName(), x), "names are resolved as the system does: unset it")
	}
}

// dnsFamily is by Cluster.dns_lookup_family.
var dnsFamily = [...]snapshot.DNSFamily{snapshot.DNSAuto, snapshot.DNSV4Only, snapshot.DNSV6Only, snapshot.DNSV4Preferred, snapshot.DNSAll}

// discovery compiles how endpoints are found.
func (r *review) discovery(m *clusterv3.Cluster, out *snapshot.ClusterSettings) {
	var p *at
	if m.GetClusterType() != nil {
		if r.custom(m, out, p.f("cluster_type")) {
			r.static(m, out)
		}
		return
	}
	switch m.GetType() {
	case clusterv3.Cluster_STATIC:
		out.Discovery = snapshot.Static
	case clusterv3.Cluster_STRICT_DNS:
		out.Discovery = snapshot.StrictDNS
	case clusterv3.Cluster_LOGICAL_DNS:
		out.Discovery = snapshot.LogicalDNS
	case clusterv3.Cluster_EDS:
		out.Discovery = snapshot.EDS
		out.Service = m.GetEdsClusterConfig().GetServiceName()
		if out.Service == "" {
			out.Service = m.GetName()
		}
		out.Fetch = r.fetch(m.GetEdsClusterConfig().GetEdsConfig(), p.f("eds_cluster_config").f("eds_config"))
		if m.GetLoadAssignment() != nil {
			r.fail(p.f("load_assignment"), "unset it", "an EDS cluster gets its endpoints by name")
		}
		return
	default:
		r.refuse(p.f("type"), m.GetType().String(), "use STATIC, STRICT_DNS, LOGICAL_DNS or EDS")
		return
	}
	r.static(m, out)
}

// custom compiles cluster_type, which says how names are looked up; other types
// are not known.
func (r *review) custom(m *clusterv3.Cluster, out *snapshot.ClusterSettings, p *at) bool {
	x, ok := r.open(m.GetClusterType().GetTypedConfig(), p.f("typed_config"))
	if !ok {
		return false
	}
	d := new(dnsv3.DnsCluster)
	if x.name != string(d.ProtoReflect().Descriptor().FullName()) {
		r.refuse(p, nameOf(m.GetClusterType().GetName(), x), "use envoy.cluster.dns, or type STATIC, STRICT_DNS, LOGICAL_DNS or EDS")
		return false
	}
	if !r.into(x, d, p.f("typed_config")) {
		return false
	}
	p = p.f("typed_config")
	out.Discovery = snapshot.StrictDNS
	if d.GetAllAddressesInSingleEndpoint() {
		out.Discovery = snapshot.LogicalDNS
	}
	out.DNSRefresh = r.duration(d.GetDnsRefreshRate(), p.f("dns_refresh_rate"), dnsRefresh)
	if family := max(d.GetDnsLookupFamily()-1, 0); int(family) < len(dnsFamily) { // 0 is AUTO too
		out.DNSFamily = dnsFamily[family]
	} else {
		r.fail(p.f("dns_lookup_family"), "use AUTO, V4_ONLY, V6_ONLY, V4_PREFERRED or ALL", "%d is no value of it", d.GetDnsLookupFamily())
	}
	r.resolver(d.GetTypedDnsResolverConfig(), p.f("typed_dns_resolver_config"))
	return true
}

// static compiles the endpoints that stand in the cluster.
func (r *review) static(m *clusterv3.Cluster, out *snapshot.ClusterSettings) {
	var p *at
	if m.GetEdsClusterConfig() != nil {
		r.fail(p.f("eds_cluster_config"), "unset it", "eds_cluster_config set in a non-EDS cluster")
	}
	out.Static = &snapshot.Assignment{Overprovisioning: overprovisioning}
	if m.GetLoadAssignment() != nil {
		out.Static = r.assignment(m.GetLoadAssignment(), p.f("load_assignment"), out.Discovery != snapshot.Static)
	}
	if out.Discovery == snapshot.LogicalDNS && len(out.Static.Endpoints) != 1 {
		r.fail(p.f("load_assignment"), "use type STRICT_DNS", "LOGICAL_DNS clusters must have a single locality_lb_endpoint and a single lb_endpoint")
	}
}

func thresholds(m *clusterv3.CircuitBreakers) [2]snapshot.Thresholds {
	out := [2]snapshot.Thresholds{snapshot.DefaultThresholds, snapshot.DefaultThresholds}
	var seen [2]bool
	for _, t := range m.GetThresholds() {
		to := snapshot.PriorityDefault
		if t.GetPriority() == corev3.RoutingPriority_HIGH {
			to = snapshot.PriorityHigh
		}
		if seen[to] { // the first counts, as in Envoy
			continue
		}
		seen[to] = true
		limit := func(dst *uint32, v *wrapperspb.UInt32Value) {
			if v != nil {
				*dst = v.GetValue()
			}
		}
		limit(&out[to].MaxConnections, t.GetMaxConnections())
		limit(&out[to].MaxPending, t.GetMaxPendingRequests())
		limit(&out[to].MaxRequests, t.GetMaxRequests())
		limit(&out[to].MaxRetries, t.GetMaxRetries())
		retryBudget(&out[to], t.GetRetryBudget())
	}
	return out
}

// protocol compiles HttpProtocolOptions.
func (r *review) protocol(out *snapshot.ClusterSettings, o *upstreamsv3.HttpProtocolOptions, p *at) {
	switch by := o.GetUpstreamProtocolOptions().(type) {
	case *upstreamsv3.HttpProtocolOptions_ExplicitHttpConfig_:
		out.Protocol = snapshot.H1
		if h2 := by.ExplicitHttpConfig.GetHttp2ProtocolOptions(); h2 != nil {
			out.Protocol = snapshot.H2C
			windows(out, h2)
		}
	case *upstreamsv3.HttpProtocolOptions_AutoConfig:
		out.Protocol = snapshot.Auto
		windows(out, by.AutoConfig.GetHttp2ProtocolOptions())
		if out.TLS == nil {
			r.fail(p.f("auto_config"), "use explicit_http_config", "ALPN configured for cluster %s which has a non-ALPN transport socket", r.name)
		}
	case *upstreamsv3.HttpProtocolOptions_UseDownstreamProtocolConfig:
		out.Protocol = snapshot.Downstream
		windows(out, by.UseDownstreamProtocolConfig.GetHttp2ProtocolOptions())
	}
	if h := o.GetUpstreamHttpProtocolOptions(); h != nil {
		if at := p.f("upstream_http_protocol_options"); out.TLS == nil {
			r.ignore(at, "{…}", noTLS)
		} else if h.GetAutoSni() || h.GetAutoSanValidation() || h.GetOverrideAutoSniHeader() != "" {
			r.refuse(at, "{…}", "requests of one connection can be for many hosts: use sni or auto_host_sni, and auto_sni_san_validation")
		}
	}
	r.commonHTTP(out, o.GetCommonHttpProtocolOptions(), p.f("common_http_protocol_options"))
	for i, f := range o.GetHttpFilters() {
		r.codec(f, p.i("http_filters", i))
	}
}

// codec takes the filter that is always there.
func (r *review) codec(f *hcmv3.HttpFilter, p *at) {
	if x, ok := r.open(f.GetTypedConfig(), p); ok && x.name != "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec" {
		r.refuse(p, nameOf(f.GetName(), x), "upstream filters are not supported: unset it")
	}
}

// commonHTTP compiles what both protocols share.
func (r *review) commonHTTP(out *snapshot.ClusterSettings, m *corev3.HttpProtocolOptions, p *at) {
	if m == nil {
		return
	}
	out.IdleTimeout = r.duration(m.GetIdleTimeout(), p.f("idle_timeout"), upstreamIdle)
	if v := m.GetMaxRequestsPerConnection(); v != nil {
		out.MaxRequests = v.GetValue()
	}
}

func windows(out *snapshot.ClusterSettings, m *corev3.Http2ProtocolOptions) {
	out.MaxStreams = m.GetMaxConcurrentStreams().GetValue()
	out.StreamWindow = m.GetInitialStreamWindowSize().GetValue()
	out.ConnWindow = m.GetInitialConnectionWindowSize().GetValue()
}

// clusterModel compiles the model routing that a cluster's metadata may hold.
func (r *review) clusterModel(m *clusterv3.Cluster) *snapshot.ModelRouting {
	own := r.metadata(m.GetMetadata(), nil, nil)
	if own.Breaker != nil || own.Cache != nil {
		r.fail((*at)(nil).f("metadata").f("typed_filter_metadata"), "put it on the listener or a route", "a cluster takes only %s", modelRouting)
	}
	return own.Model
}
