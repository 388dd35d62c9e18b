package captures

import (
	"strconv"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/quadnine/quadnine/bench/proc"
)

// What the tests add to a capture, so that a resource that is taken carries
// traffic even when what leads to it is not.
const (
	clusterHeader = "q-cluster"  // of a listener that forwards to the cluster it names
	probeListener = "q-clusters" // that listener
	tablePrefix   = "q-table-"   // a listener for each table
	edsPrefix     = "q-eds-"     // a cluster for each assignment
)

// probe is an added listener.
func probe(t *testing.T, name, addr string, h *hcmv3.HttpConnectionManager) *listenerv3.Listener {
	t.Helper()
	h.StatPrefix = name
	h.HttpFilters = []*hcmv3.HttpFilter{{Name: "envoy.filters.http.router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: packed(t, new(routerv3.Router))}}}
	return &listenerv3.Listener{
		Name: name,
		Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(proc.Port(addr))},
		}}},
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name: "envoy.filters.network.http_connection_manager", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: packed(t, h)},
		}}}},
	}
}

// toClusters is the listener that forwards to the cluster that a request names.
func toClusters(t *testing.T, addr string) *listenerv3.Listener {
	t.Helper()
	return probe(t, probeListener, addr, &hcmv3.HttpConnectionManager{RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
		Name: probeListener,
		VirtualHosts: []*routev3.VirtualHost{{Name: "all", Domains: []string{"*"}, Routes: []*routev3.Route{{
			Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_ClusterHeader{ClusterHeader: clusterHeader}}},
		}}}},
	}}})
}

// toTable is a listener for a table that the management server has.
func toTable(t *testing.T, i int, addr, table string) *listenerv3.Listener {
	t.Helper()
	return probe(t, tablePrefix+strconv.Itoa(i), addr, &hcmv3.HttpConnectionManager{RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{RouteConfigName: table, ConfigSource: ads()}}})
}

// ofAssignment is a cluster for an assignment.
func ofAssignment(i int, name string) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name: edsPrefix + strconv.Itoa(i), ConnectTimeout: durationpb.New(5 * time.Second),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads(), ServiceName: name},
	}
}

// ads says that a resource comes over the same stream.
func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{ResourceApiVersion: corev3.ApiVersion_V3, ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: new(corev3.AggregatedConfigSource)}}
}

// packed is m in an Any.
func packed(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
