package xds

import (
	"fmt"
	"strconv"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/quadnine/quadnine/bench/proc"
)

const (
	versionHeader = "x-config" // which version of its route answered
	probePath     = "/probe/q"
	firstPath     = "/svc-00000/q"
	lastPath      = "/svc-09999/q"
	tableName     = "routes"
)

// world is the configuration of one node. A change replaces the messages that it
// touches: those of earlier snapshots are never written to.
type world struct {
	backends  [2]string
	clusters  []types.Resource // the first one is the probe's
	endpoints []types.Resource // likewise
	routes    []*routev3.Route // likewise
	changed   map[types.ResponseType]bool
	parts     map[types.ResponseType]cache.Resources
	versions  int    // of snapshots
	route     int    // version of the probe's route
	cluster   string // the probe's
	backend   int    // the probe's
	options   map[string]*anypb.Any
}

// newWorld returns a configuration whose listener is at addr.
func newWorld(s size, addr string, backends [2]string) (*world, error) {
	w := &world{
		backends: backends, cluster: "probe", parts: make(map[types.ResponseType]cache.Resources),
		changed: map[types.ResponseType]bool{types.Cluster: true, types.Endpoint: true, types.Route: true},
	}
	options, err := anypb.New(&httpv3.HttpProtocolOptions{UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
		ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: new(corev3.Http2ProtocolOptions)},
		},
	}})
	if err != nil {
		return nil, err
	}
	w.options = map[string]*anypb.Any{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options}
	add := func(name string) {
		w.clusters, w.endpoints = append(w.clusters, w.newCluster(name)), append(w.endpoints, w.assignment(name, 0))
	}
	add(w.cluster)
	for i := range s.clusters - 1 {
		add(service(i))
	}
	w.routes = append(w.routes, w.probe())
	for i := range s.routes {
		w.routes = append(w.routes, &routev3.Route{
			Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: fmt.Sprintf("/svc-%05d/", i)}},
			Action: to(service(i % (s.clusters - 1))),
		})
	}
	l, err := listener(addr)
	if err != nil {
		return nil, err
	}
	w.parts[types.Listener] = cache.NewResources("1", []types.Resource{l})
	return w, nil
}

// service is the name of a cluster that stays as it is.
func service(i int) string { return fmt.Sprintf("service-%04d", i) }

// done reports whether an answer comes from the newest configuration.
func (w *world) done(a answer) bool {
	return a.version == strconv.Itoa(w.route) && a.backend == strconv.Itoa(w.backend)
}

// snapshot returns the newest configuration; parts that did not change keep
// their versions.
func (w *world) snapshot() *cache.Snapshot {
	w.versions++
	for kind := range w.changed {
		var all []types.Resource
		switch kind {
		case types.Cluster:
			all = w.clusters
		case types.Endpoint:
			all = w.endpoints
		default:
			all = []types.Resource{&routev3.RouteConfiguration{Name: tableName, VirtualHosts: []*routev3.VirtualHost{{Name: "all", Domains: []string{"*"}, Routes: w.routes}}}}
		}
		w.parts[kind] = cache.NewResources(strconv.Itoa(w.versions), all)
	}
	clear(w.changed)
	s := new(cache.Snapshot)
	for kind, part := range w.parts {
		s.Resources[kind] = part
	}
	return s
}

// probe is the route of the sequential client.
func (w *world) probe() *routev3.Route {
	return &routev3.Route{
		Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/probe/"}},
		Action: to(w.cluster),
		ResponseHeadersToAdd: []*corev3.HeaderValueOption{{
			Header:       &corev3.HeaderValue{Key: versionHeader, Value: strconv.Itoa(w.route)},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		}},
	}
}

// to is the action that forwards to a cluster.
func to(cluster string) *routev3.Route_Route {
	return &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster}}}
}

// newCluster returns an EDS cluster that speaks HTTP/2.
func (w *world) newCluster(name string) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads()},
		ConnectTimeout:       durationpb.New(5 * time.Second),
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections: wrap(4096), MaxPendingRequests: wrap(4096), MaxRequests: wrap(4096), // never the limit
		}}},
		TypedExtensionProtocolOptions: w.options,
	}
}

// assignment says which backend a cluster has.
func (w *world) assignment(name string, backend int) *endpointv3.ClusterLoadAssignment {
	return &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{
		LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{
			Endpoint: &endpointv3.Endpoint{Address: socket(w.backends[backend])},
		}}},
	}}}
}

// listener takes everything at addr to the table.
func listener(addr string) (*listenerv3.Listener, error) {
	router, err := anypb.New(new(routerv3.Router))
	if err != nil {
		return nil, err
	}
	hcm, err := anypb.New(&hcmv3.HttpConnectionManager{
		StatPrefix:     "in",
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{RouteConfigName: tableName, ConfigSource: ads()}},
		HttpFilters:    []*hcmv3.HttpFilter{{Name: "envoy.filters.http.router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: router}}},
	})
	if err != nil {
		return nil, err
	}
	return &listenerv3.Listener{Name: "in", Address: socket(addr), FilterChains: []*listenerv3.FilterChain{{
		Filters: []*listenerv3.Filter{{Name: "envoy.filters.network.http_connection_manager", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: hcm}}},
	}}}, nil
}

// ads says that a resource comes over the same stream.
func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{ResourceApiVersion: corev3.ApiVersion_V3, ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: new(corev3.AggregatedConfigSource)}}
}

// socket is a loopback address.
func socket(addr string) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(proc.Port(addr))},
	}}}
}
