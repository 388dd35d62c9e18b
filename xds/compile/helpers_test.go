package compile

import (
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/quadnine/quadnine/snapshot"
)

// wire turns a message in JSON into bytes.
func wire(t testing.TB, m proto.Message, text string) []byte {
	t.Helper()
	if err := protojson.Unmarshal([]byte(text), m); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	out, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func routeWire(t testing.TB, text string) []byte {
	t.Helper()
	return wire(t, new(routev3.RouteConfiguration), text)
}

func listenerWire(t testing.TB, text string) []byte {
	t.Helper()
	return wire(t, new(listenerv3.Listener), text)
}

func clusterWire(t testing.TB, text string) []byte {
	t.Helper()
	return wire(t, new(clusterv3.Cluster), text)
}

func assignmentWire(t testing.TB, text string) []byte {
	t.Helper()
	return wire(t, new(endpointv3.ClusterLoadAssignment), text)
}

// hostOf compiles a route table of one virtual host "*" with these routes.
func hostOf(t *testing.T, routes string) *snapshot.VirtualHost {
	t.Helper()
	table, _, err := New().Routes(routeWire(t, oneHost(routes)))
	if err != nil {
		t.Fatal(err)
	}
	return table.Hosts[0]
}

// oneHost is a route table of one virtual host.
func oneHost(routes string) string {
	return `{"name":"r0","virtualHosts":[{"name":"v","domains":["*"],"routes":[` + routes + `]}]}`
}

// withManager is a listener whose connection manager says fields besides what it
// must.
func withManager(fields string) string { return withFilters(fields, "") }

// withFilters is a listener with HTTP filters, each followed by a comma, before
// the router.
func withFilters(fields, filters string) string {
	if fields != "" {
		fields += ","
	}
	if !strings.Contains(fields, `"rds"`) && !strings.Contains(fields, `"routeConfig"`) {
		fields += `"rds":{"configSource":{"ads":{}},"routeConfigName":"r0"},`
	}
	return `{"name":"l0","address":{"socketAddress":{"address":"127.0.0.1","portValue":8080}},"filterChains":[{"filters":[{"name":"hcm","typedConfig":{
		"@type":"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager","statPrefix":"x",` + fields + `
		"httpFilters":[` + filters + `{"name":"envoy.filters.http.router","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}]}`
}

// listenerOf compiles a listener.
func listenerOf(t *testing.T, text string) *snapshot.Listener {
	t.Helper()
	l, _, err := New().Listener(listenerWire(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// clusterOf compiles a cluster.
func clusterOf(t *testing.T, text string) *snapshot.ClusterSettings {
	t.Helper()
	c, _, err := New().Cluster(clusterWire(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// take compiles a resource of a kind, in JSON.
func take(t testing.TB, kind, text string) (err error) {
	t.Helper()
	c := New()
	switch kind {
	case "listener":
		_, _, err = c.Listener(listenerWire(t, text))
	case "table":
		_, _, err = c.Routes(routeWire(t, text))
	case "cluster":
		_, _, err = c.Cluster(clusterWire(t, text))
	case "assignment":
		_, _, _, err = c.Assignment(assignmentWire(t, text))
	default:
		_, _, err = c.Runtime(wire(t, new(runtimev3.Runtime), text))
	}
	return err
}
