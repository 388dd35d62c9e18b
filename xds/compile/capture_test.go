package compile

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	// What the captured servers send, so that it can be read from JSON.
	_ "github.com/cncf/xds/go/xds/type/matcher/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/common/matching/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_web/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/connection_limit/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/input_matchers/ip/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

// captured is one resource that a real management server sent.
type captured struct {
	Type     string          `json:"type"`
	Name     string          `json:"name"`
	Resource json.RawMessage `json:"resource"`
}

// captures reads what one server sent, in order.
func captures(t testing.TB, server string) (out []captured) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "captures", server+".json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// take compiles a captured resource; known is false for types that are not
// compiled here.
func (c captured) take(t testing.TB, to *Compiler) (known bool, err error) {
	t.Helper()
	switch c.Type {
	case "envoy.config.cluster.v3.Cluster":
		_, _, err = to.Cluster(wire(t, new(clusterv3.Cluster), string(c.Resource)))
	case "envoy.config.endpoint.v3.ClusterLoadAssignment":
		_, _, _, err = to.Assignment(wire(t, new(endpointv3.ClusterLoadAssignment), string(c.Resource)))
	case "envoy.config.listener.v3.Listener":
		_, _, err = to.Listener(wire(t, new(listenerv3.Listener), string(c.Resource)))
	case "envoy.config.route.v3.RouteConfiguration":
		_, _, err = to.Routes(wire(t, new(routev3.RouteConfiguration), string(c.Resource)))
	default:
		return false, nil
	}
	return true, err
}

// What Envoy Gateway, Kuma and Istio send is taken, or stands in one list with a
// reason each.
func TestCapturedResourcesAreTakenOrListedWithAReason(t *testing.T) {
	var list strings.Builder
	taken, refused := 0, 0
	for _, server := range []string{"envoy-gateway", "istio-sidecar-delta", "kuma"} {
		c := New()
		seen := make(map[string]bool)
		for _, one := range captures(t, server) {
			known, err := one.take(t, c)
			key := one.Type[strings.LastIndexByte(one.Type, '.')+1:] + " " + one.Name
			if !known || seen[key] && err != nil {
				continue
			}
			seen[key] = true
			if err == nil {
				taken++
				continue
			}
			refused++
			fmt.Fprintf(&list, "%s %s\n", server, key)
			for _, e := range Reasons(err) {
				fmt.Fprintf(&list, "\t%s: %s; %s\n", e.Path, e.Reason, e.Hint)
			}
		}
	}
	text := fmt.Sprintf("# %d resources are taken, %d are not. UPDATE=1 go test ./xds/compile writes this file.\n", taken, refused) + list.String()
	golden(t, filepath.Join("testdata", "captures", "refused.txt"), text)
	t.Logf("%d taken, %d not", taken, refused)
}

// golden compares text with a file, or writes it with UPDATE=1.
func golden(t *testing.T, path, text string) {
	t.Helper()
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != text {
		t.Errorf("%s is not what the compiler says now: run UPDATE=1 go test ./xds/compile and read the difference\n%s", path, text)
	}
}

// A re-push that changes nothing but the order of maps changes no object: no
// connection drains for it.
func TestCapturedResourcesSentAgainAreTheSame(t *testing.T) {
	for _, server := range []string{"envoy-gateway", "istio-sidecar-delta", "kuma"} {
		c := New()
		for _, one := range captures(t, server) {
			var first any
			for n := range 5 {
				got, ok := one.object(t, c)
				if !ok {
					break // not taken: the list above says why
				}
				if n == 0 {
					first = got
				} else if got != first {
					t.Errorf("%s: %s %s changed when it was sent again", server, one.Type, one.Name)
				}
			}
		}
	}
}

// object compiles c from bytes in random order.
func (c captured) object(t *testing.T, to *Compiler) (any, bool) {
	t.Helper()
	switch c.Type {
	case "envoy.config.cluster.v3.Cluster":
		got, _, err := to.Cluster(wire(t, new(clusterv3.Cluster), string(c.Resource)))
		return got, err == nil
	case "envoy.config.endpoint.v3.ClusterLoadAssignment":
		_, got, _, err := to.Assignment(wire(t, new(endpointv3.ClusterLoadAssignment), string(c.Resource)))
		return got, err == nil
	case "envoy.config.listener.v3.Listener":
		w := wire(t, new(listenerv3.Listener), string(c.Resource))
		if got, _, err := to.Listener(w); err != nil {
			return got, false
		}
		got, _, err := to.Listener(shuffled(t, w))
		return got, err == nil
	case "envoy.config.route.v3.RouteConfiguration":
		got, _, err := to.Routes(wire(t, new(routev3.RouteConfiguration), string(c.Resource)))
		return got, err == nil
	default:
		return nil, false
	}
}
