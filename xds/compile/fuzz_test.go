package compile

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"

	"github.com/quadnine/quadnine/snapshot"
)

// seeds adds every captured resource of a type.
func seeds(f *testing.F, typ string, blank func() proto.Message) {
	f.Helper()
	for _, server := range []string{"envoy-gateway", "istio-sidecar-delta", "kuma"} {
		for _, c := range captures(f, server) {
			if c.Type == typ {
				f.Add(wire(f, blank(), string(c.Resource)))
			}
		}
	}
	f.Add([]byte{})
}

// result checks what every kind has in common: there is a result or an error that
// names its reasons, and the same bytes give the same object again.
func result[T comparable](t *testing.T, w []byte, compile func([]byte) (T, Notes, error)) {
	t.Helper()
	var none T
	first, _, err := compile(w)
	if (err == nil) == (first == none) {
		t.Fatalf("result %v and error %v", first, err)
	}
	if err != nil {
		for _, e := range Reasons(err) {
			if e.Reason == "" || strings.HasPrefix(e.Reason, crashed) || len(e.Error()) > 4096 {
				t.Fatalf("error of %d bytes: %v", len(e.Error()), e)
			}
		}
		if len(Reasons(err)) > maxReasons+1 {
			t.Fatalf("%d reasons", len(Reasons(err)))
		}
	}
	again, _, other := compile(bytes.Clone(w))
	if again != first || (other == nil) != (err == nil) {
		t.Fatalf("%v and %v of the same bytes: %v, %v", first, again, err, other)
	}
}

func FuzzListener(f *testing.F) {
	seeds(f, "envoy.config.listener.v3.Listener", func() proto.Message { return new(listenerv3.Listener) })
	f.Add(listenerWire(f, withFilters("", `{"name":"b","typedConfig":`+ownBreaker+`},{"name":"m","typedConfig":`+ownModel+`},`)))
	f.Fuzz(func(t *testing.T, w []byte) { result(t, w, New().Listener) })
}

// Routes that follow others are as if they had come first.
func FuzzRoutes(f *testing.F) {
	seeds(f, "envoy.config.route.v3.RouteConfiguration", func() proto.Message { return new(routev3.RouteConfiguration) })
	f.Add(routeWire(f, oneHost(`{"match":{"safeRegex":{"regex":"a|b"}},"redirect":{"responseCode":"SEE_OTHER"}},{"match":{"prefix":"/"},"route":{"cluster":"a"},"typedPerFilterConfig":{"c":`+ownCache+`}}`)))
	f.Add(marshal(f, manyRoutes(f, 40, 4)))
	before := marshal(f, manyRoutes(f, 40, 4))
	f.Fuzz(func(t *testing.T, w []byte) {
		result(t, w, New().Routes)
		c := New()
		if _, _, err := c.Routes(before); err != nil {
			t.Fatal(err)
		}
		after, notes, err := c.Routes(w)
		anew, others, other := New().Routes(w)
		if (err == nil) != (other == nil) || notes.Unknown != others.Unknown {
			t.Fatalf("after another table: %v, anew: %v", err, other)
		}
		if err == nil && !sameTable(after, anew) {
			t.Fatal("the table depends on what came before")
		}
	})
}

func FuzzCluster(f *testing.F) {
	seeds(f, "envoy.config.cluster.v3.Cluster", func() proto.Message { return new(clusterv3.Cluster) })
	f.Fuzz(func(t *testing.T, w []byte) { result(t, w, New().Cluster) })
}

func FuzzAssignment(f *testing.F) {
	seeds(f, "envoy.config.endpoint.v3.ClusterLoadAssignment", func() proto.Message { return new(endpointv3.ClusterLoadAssignment) })
	f.Fuzz(func(t *testing.T, w []byte) {
		c := New()
		result(t, w, func(w []byte) (*snapshot.Assignment, Notes, error) {
			_, a, notes, err := c.Assignment(w)
			return a, notes, err
		})
	})
}

// sameTable compares all but the indexes, which tests of their own compare.
func sameTable(a, b *snapshot.RouteTable) bool {
	if a.Name != b.Name || len(a.Hosts) != len(b.Hosts) || !reflect.DeepEqual(a.Mutations, b.Mutations) || !slices.Equal(a.Clusters, b.Clusters) {
		return false
	}
	for i := range a.Hosts {
		x, y := a.Hosts[i], b.Hosts[i]
		if x.Name != y.Name || !slices.Equal(x.Domains, y.Domains) || !reflect.DeepEqual(x.Routes, y.Routes) || !reflect.DeepEqual(x.Policies, y.Policies) {
			return false
		}
	}
	return true
}
