package xds

import (
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
)

const userAgent = "quadnine"

// features are the client features that are implemented, by the names that
// Envoy's list of them gives.
var features = []string{"xds.config.resource-in-sotw"}

// Node returns node with what identifies this program: name, version and the
// extensions it has, so that a server can tailor what it sends. What else node
// says stays. A version that is not three numbers is given as a word.
func Node(node *corev3.Node, version string, extensions []*corev3.Extension) *corev3.Node {
	n := &corev3.Node{}
	if node != nil {
		n = proto.CloneOf(node)
	}
	n.UserAgentName = userAgent
	n.UserAgentVersionType = &corev3.Node_UserAgentVersion{UserAgentVersion: version}
	if v, ok := semantic(version); ok {
		n.UserAgentVersionType = &corev3.Node_UserAgentBuildVersion{UserAgentBuildVersion: &corev3.BuildVersion{Version: v}}
	}
	n.Extensions = extensions
	n.ClientFeatures = features
	return n
}

func semantic(version string) (*typev3.SemanticVersion, bool) {
	version, _, _ = strings.Cut(strings.TrimPrefix(version, "v"), "-")
	parts := strings.Split(version, ".")
	if len(parts) != 3 {
		return nil, false
	}
	var v [3]uint32
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 32)
		if err != nil {
			return nil, false
		}
		v[i] = uint32(n)
	}
	return &typev3.SemanticVersion{MajorNumber: v[0], MinorNumber: v[1], Patch: v[2]}, true
}

// Extensions lists the extensions of Envoy that quadnine acts on, under the names
// and in the categories that Envoy gives them.
func Extensions() []*corev3.Extension {
	all := make([]*corev3.Extension, 0, len(extensions))
	for _, e := range extensions {
		all = append(all, &corev3.Extension{Name: e.name, Category: e.category, TypeUrls: []string{e.message}})
	}
	return all
}

var extensions = []struct{ category, name, message string }{
	{"envoy.transport_sockets.downstream", "envoy.transport_sockets.tls", "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"},
	{"envoy.transport_sockets.upstream", "envoy.transport_sockets.tls", "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"},
	{"envoy.filters.listener", "envoy.filters.listener.tls_inspector", "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"},
	{"envoy.filters.network", "envoy.filters.network.http_connection_manager", "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"},
	{"envoy.filters.http", "envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router"},
	{"envoy.filters.http", "envoy.filters.http.health_check", "envoy.extensions.filters.http.health_check.v3.HealthCheck"},
	{"envoy.filters.http", "quadnine.policy.tenant_breaker", "quadnine.policy.v1.TenantBreaker"},
	{"envoy.filters.http", "quadnine.policy.response_cache", "quadnine.policy.v1.ResponseCache"},
	{"envoy.filters.http", "quadnine.model.routing", "quadnine.model.v1.ModelRouting"},
	{"envoy.access_loggers", "envoy.access_loggers.file", "envoy.extensions.access_loggers.file.v3.FileAccessLog"},
	{"envoy.http.original_ip_detection", "envoy.http.original_ip_detection.xff", "envoy.extensions.http.original_ip_detection.xff.v3.XffConfig"},
	{"envoy.request_id", "envoy.request_id.uuid", "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig"},
	{"envoy.load_balancing_policies", "envoy.load_balancing_policies.round_robin", "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin"},
	{"envoy.load_balancing_policies", "envoy.load_balancing_policies.least_request", "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest"},
	{"envoy.load_balancing_policies", "envoy.load_balancing_policies.random", "envoy.extensions.load_balancing_policies.random.v3.Random"},
	{"envoy.upstream_options", "envoy.extensions.upstreams.http.v3.HttpProtocolOptions", "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"},
}
