package compile

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// After any edits a table names the clusters that its routes name.
func TestEditedTablesNameTheClustersOfTheirRoutes(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	c, m := New(), manyRoutes(t, 40, 4)
	to := func() *routev3.RouteAction_Cluster {
		return &routev3.RouteAction_Cluster{Cluster: fmt.Sprintf("edited-%d", random.IntN(6))}
	}
	for step := range 300 {
		h := m.VirtualHosts[random.IntN(len(m.VirtualHosts))]
		switch i := random.IntN(len(h.Routes)); random.IntN(6) {
		case 0:
			h.Routes[i].GetRoute().ClusterSpecifier = to()
		case 1:
			if len(h.Routes) > 2 {
				h.Routes = slices.Delete(h.Routes, i, i+1)
			}
		case 2:
			more := &routev3.Route{Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: fmt.Sprintf("/more-%d", step)}}}
			more.Action = &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: to()}}
			h.Routes = slices.Insert(h.Routes, i, more)
		case 3:
			random.Shuffle(len(m.VirtualHosts), func(i, j int) {
				m.VirtualHosts[i], m.VirtualHosts[j] = m.VirtualHosts[j], m.VirtualHosts[i]
			})
		case 4:
			h.Routes[0], h.Routes[i] = h.Routes[i], h.Routes[0]
		default: // refused, which must leave no trace
			was := h.Routes[i].Match
			h.Routes[i].Match = nil
			spec := h.Routes[0].GetRoute().ClusterSpecifier
			h.Routes[0].GetRoute().ClusterSpecifier = to()
			if _, _, err := c.Routes(marshal(t, m)); err == nil {
				t.Fatal("a route without a match is taken")
			}
			h.Routes[i].Match = was
			h.Routes[0].GetRoute().ClusterSpecifier = spec
		}
		table, _, err := c.Routes(marshal(t, m))
		if err != nil {
			t.Fatal(err)
		}
		named := make(map[string]bool)
		for _, h := range m.VirtualHosts {
			for _, route := range h.Routes {
				named[route.GetRoute().GetCluster()] = true
			}
		}
		if want := slices.Sorted(maps.Keys(named)); !slices.Equal(table.Clusters, want) {
			t.Fatalf("step %d: clusters are %q, want %q", step, table.Clusters, want)
		}
	}
}
