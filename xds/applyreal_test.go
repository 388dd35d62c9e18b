package xds

import (
	"strings"
	"testing"
	"testing/synctest"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"

	"github.com/quadnine/quadnine/xds/compile"
)

// TestWithTheCompiler: the same with messages as servers send them.
func TestWithTheCompiler(t *testing.T) {
	compiler := func(o *ApplierOptions) { o.Compiler = compile.New() }
	send := func(r *rig, k Kind, version string, m ...proto.Message) []Rejected {
		u := Update{Kind: k, Variant: VariantDelta, Version: version}
		for _, m := range m {
			body := wireOf(r, m)
			name, err := nameOf(body)
			must(r.T, err)
			u.Resources = append(u.Resources, Resource{Name: name, Version: version, Body: body})
		}
		return r.Update(u)
	}
	must2 := func(r *rig, why []Rejected) {
		r.Helper()
		if why != nil {
			r.Fatalf("rejected: %+v", why)
		}
	}
	to := func(clusters ...string) *routev3.RouteConfiguration {
		return manyRoutes("r", 2*len(clusters), clusters, clusters[0])
	}

	t.Run("a swap", func(t *testing.T) {
		inBubble(t, compiler, func(r *rig) {
			must2(r, send(r, KindCluster, "1", edsCluster("a")))
			must2(r, send(r, KindEndpoints, "1", oneEndpoint("a", "10.0.0.1")))
			must2(r, send(r, KindListener, "1", httpListener(t, "l", nil, "r")))
			must2(r, send(r, KindRoutes, "1", to("a")))
			must2(r, send(r, KindRoutes, "2", to("b")))
			r.Update(Update{Kind: KindCluster, Variant: VariantDelta, Version: "2", Removed: []string{"a"}})
			if got, want := r.plane.served(), "l127.0.0.1:10000→a a(10.0.0.1:80 retained)"; got != want {
				t.Errorf("in the middle %s, want %s", got, want)
			}
			must2(r, send(r, KindCluster, "3", edsCluster("b")))
			must2(r, send(r, KindEndpoints, "3", oneEndpoint("b", "10.0.0.2")))
			r.events("advance 1s")
			if got, want := r.plane.served(), "l127.0.0.1:10000→b b(10.0.0.2:80)"; got != want {
				t.Errorf("in the end %s, want %s", got, want)
			}
			// The process ends and starts again.
			r.events("advance 5s · restart")
			if got, want := r.plane.served(), "l127.0.0.1:10000→b b(10.0.0.2:80)"; got != want || !r.Ready().Stale {
				t.Errorf("after a restart %s, want %s; %+v", got, want, r.Ready())
			}
		})
	})

	t.Run("an edit of routes inside a listener", func(t *testing.T) {
		inBubble(t, compiler, func(r *rig) {
			must2(r, send(r, KindCluster, "1", edsCluster("a"), edsCluster("b")))
			must2(r, send(r, KindEndpoints, "1", oneEndpoint("a", "10.0.0.1"), oneEndpoint("b", "10.0.0.2")))
			must2(r, send(r, KindListener, "1", httpListener(t, "l", to("a"), "")))
			before := r.plane.now()
			must2(r, send(r, KindListener, "2", httpListener(t, "l", to("a", "b"), "")))
			after := r.plane.now()
			if before.Listeners[0] != after.Listeners[0] {
				t.Error("the listener is another one: its connections would drain")
			}
			if table := after.Table(after.Listeners[0]); table == before.Table(before.Listeners[0]) || len(table.Clusters) != 2 {
				t.Error("the routes are the old ones")
			}
			n := r.plane.count()
			must2(r, send(r, KindListener, "3", httpListener(t, "l", to("a", "b"), "")))
			if r.plane.count() != n {
				t.Error("the same again is applied again")
			}
		})
	})

	t.Run("a rejection", func(t *testing.T) {
		inBubble(t, compiler, func(r *rig) {
			l := httpListener(t, "l", to("a"), "")
			l.FilterChains[0].FilterChainMatch = &listenerv3.FilterChainMatch{SourcePorts: []uint32{80}}
			why := send(r, KindListener, "1", l)
			if len(why) != 1 || why[0].Name != "l" || !strings.HasPrefix(why[0].Path, "filter_chains[0]") {
				t.Errorf("got %+v", why)
			}
			bad := edsCluster("bad")
			bad.LbPolicy = clusterv3.Cluster_MAGLEV
			why = send(r, KindCluster, "1", edsCluster("good"), bad)
			if len(why) != 1 || why[0].Name != "bad" || !strings.Contains(why[0].Path, "lb_policy") {
				t.Errorf("got %+v", why)
			}
			if r.plane.now().Clusters["good"] == nil {
				t.Error("the valid rest is not used")
			}
		})
	})

	t.Run("garbage", func(t *testing.T) {
		inBubble(t, compiler, func(r *rig) {
			for _, k := range Kinds() {
				for _, body := range []string{"", "\xff", "\x0a\x01"} {
					name := map[Kind]string{KindRuntime: "rt"}[k]
					r.Update(Update{Kind: k, Variant: VariantSotw, Resources: []Resource{{Name: name, Body: []byte(body)}}})
				}
			}
			synctest.Wait()
			if s := r.plane.now(); len(s.Listeners)+len(s.Clusters) != 0 {
				t.Errorf("it is in use: %s", r.plane.served())
			}
		})
	})
}
