package differential

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	_ "github.com/cncf/xds/go/udpa/type/v1"
	_ "github.com/cncf/xds/go/xds/type/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	// The types that configurations in YAML name.
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/health_check/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/http/original_ip_detection/xff/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/least_request/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/random/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/round_robin/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/request_id/uuid/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	_ "github.com/quadnine/quadnine/xds/api/quadnine/policy/v1"
)

// config is the resources of one node.
type config struct {
	clusters  []types.Resource
	endpoints []types.Resource
	listeners []types.Resource
	routes    []types.Resource
	runtime   []types.Resource
	secrets   []types.Resource
}

func (c *config) byKind() map[types.ResponseType][]types.Resource {
	return map[types.ResponseType][]types.Resource{
		types.Cluster: c.clusters, types.Endpoint: c.endpoints, types.Listener: c.listeners,
		types.Route: c.routes, types.Runtime: c.runtime, types.Secret: c.secrets,
	}
}

// plain turns YAML into what JSON would decode to; "" is an empty mapping.
func plain(t *testing.T, text string) map[string]any {
	t.Helper()
	out := make(map[string]any)
	if err := yaml.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return out
}

// fill makes a message of what plain returned.
func fill[M proto.Message](t *testing.T, m M, v any) M {
	t.Helper()
	js, err := json.Marshal(v)
	if err == nil {
		err = protojson.Unmarshal(js, m)
	}
	if err != nil {
		t.Fatalf("%v in\n%s", err, js)
	}
	return m
}

// expand replaces ${name} by the port of that backend, and $seq by the case's
// number: names that no other case uses keep cases apart.
func (s *stand) expand(text string) string {
	for _, b := range s.backends {
		text = strings.ReplaceAll(text, "${"+b.id+"}", b.port())
	}
	text = strings.ReplaceAll(text, "${nobody}", s.nobody)
	if s.papers != nil {
		text = s.papers.print(text)
	}
	return strings.ReplaceAll(text, "$seq", strconv.Itoa(s.seq))
}

const h2Options = `"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {"@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {http2_protocol_options: {}}}`

// oneBackend is a cluster of one backend, by whose id it is named.
func oneBackend(id string) string {
	return fmt.Sprintf(`{name: %s, type: STATIC, connect_timeout: 5s, typed_extension_protocol_options: {%s}, load_assignment: {cluster_name: %s, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: "${%s}"}}}}]}]}}`, id, h2Options, id, id)
}

// lb is an endpoint in YAML: backend, then more fields of LbEndpoint.
func lb(id, more string) string {
	if more != "" {
		more = ", " + more
	}
	return fmt.Sprintf(`{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: "${%s}"}}}%s}`, id, more)
}

// edsCluster is an EDS cluster that speaks HTTP/2.
func edsCluster(name, more string) string {
	if more != "" {
		more = ", " + more
	}
	return fmt.Sprintf(`{name: %s, type: EDS, connect_timeout: 5s, eds_cluster_config: {eds_config: {ads: {}, resource_api_version: V3}}, typed_extension_protocol_options: {%s}%s}`, name, h2Options, more)
}

// assign is a ClusterLoadAssignment of one locality.
func assign(name string, lbs ...string) string {
	return fmt.Sprintf(`{cluster_name: %s, endpoints: [{locality: {region: r}, lb_endpoints: [%s]}]}`, name, strings.Join(lbs, ", "))
}

// part is what a case configures, in YAML.
type part struct {
	routes    string   // a list, below one virtual host for "*"; or
	table     string   // the fields of a RouteConfiguration
	noTable   bool     // the server does not have the table
	noProbe   bool     // the table in use cannot be asked
	hcm       string   // fields of the HttpConnectionManager, over the default ones
	listener  string   // fields of the Listener, over the default ones
	clusters  []string // besides one of each backend
	endpoints []string
	secrets   []string
	runtime   string // the fields of layer "rt"
	change    func(c *config)
}

// build makes a node's resources. All nodes get the same but for the address.
func (s *stand) build(t *testing.T, p part, addr string) *config {
	t.Helper()
	c := new(config)
	var clusters []string
	for _, b := range s.backends {
		clusters = append(clusters, oneBackend(b.id))
	}
	for _, text := range append(clusters, p.clusters...) {
		c.clusters = append(c.clusters, fill(t, new(clusterv3.Cluster), plain(t, s.expand(text))))
	}
	for _, text := range p.endpoints {
		c.endpoints = append(c.endpoints, fill(t, new(endpointv3.ClusterLoadAssignment), plain(t, s.expand(text))))
	}
	for _, text := range p.secrets {
		c.secrets = append(c.secrets, s.secretOf(t, text))
	}
	c.runtime = append(c.runtime, fill(t, new(runtimev3.Runtime), map[string]any{"name": "rt", "layer": plain(t, p.runtime)}))
	name := "r" + strconv.Itoa(s.seq)
	if !p.noTable {
		c.routes = append(c.routes, s.tableOf(t, p, name))
	}
	c.listeners = append(c.listeners, s.listenerOf(t, p, name, addr))
	if p.change != nil {
		p.change(c)
	}
	return c
}

func (s *stand) tableOf(t *testing.T, p part, name string) *routev3.RouteConfiguration {
	t.Helper()
	table := plain(t, s.expand(p.table))
	if p.table == "" {
		table = plain(t, s.expand("virtual_hosts: [{name: v, domains: ['*'], routes: "+p.routes+"}]"))
	}
	table["name"] = name
	m := fill(t, new(routev3.RouteConfiguration), table)
	// Whoever asks this authority learns which version of the table is in use.
	m.VirtualHosts = append(m.VirtualHosts, fill(t, new(routev3.VirtualHost), plain(t, fmt.Sprintf(
		`{name: probe, domains: [%s], routes: [{match: {prefix: /}, direct_response: {status: 200, body: {inline_string: "version %d"}}}]}`, probeHost, s.version))))
	return m
}

func (s *stand) listenerOf(t *testing.T, p part, table, addr string) *listenerv3.Listener {
	t.Helper()
	hcm := plain(t, s.expand(fmt.Sprintf(`
"@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
stat_prefix: d
rds: {route_config_name: %s, config_source: {ads: {}, resource_api_version: V3}}
http_filters: [%s]`, table, routerFilter)))
	maps.Copy(hcm, plain(t, s.expand(p.hcm)))
	host, port, _ := strings.Cut(addr, ":")
	listener := map[string]any{
		"name":          "l" + strconv.Itoa(s.seq),
		"address":       map[string]any{"socket_address": map[string]any{"address": host, "port_value": port}},
		"filter_chains": []any{map[string]any{"filters": []any{map[string]any{"name": "envoy.filters.network.http_connection_manager", "typed_config": hcm}}}},
	}
	maps.Copy(listener, plain(t, s.expand(p.listener)))
	return fill(t, new(listenerv3.Listener), listener)
}

const (
	probeHost    = "probe.invalid"
	routerFilter = `{name: envoy.filters.http.router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}`
)

// wants returns the keys of what a node will say something of: what it asks for.
func wants(keys []resourceKey, c *config) []resourceKey {
	asked := make(map[string]bool)
	for _, r := range c.clusters {
		if cl, ok := r.(*clusterv3.Cluster); ok && cl.GetType() == clusterv3.Cluster_EDS {
			asked[cl.GetName()], asked[cl.GetEdsClusterConfig().GetServiceName()] = true, true
		}
	}
	return slices.DeleteFunc(slices.Clone(keys), func(k resourceKey) bool {
		return strings.HasSuffix(k.typeURL, ".ClusterLoadAssignment") && !asked[k.name]
	})
}
