package compile

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// manyRoutes is a table of n routes in hosts virtual hosts.
func manyRoutes(t testing.TB, n, hosts int) *routev3.RouteConfiguration {
	t.Helper()
	m := &routev3.RouteConfiguration{Name: "r0"}
	for h := range hosts {
		v := &routev3.VirtualHost{Name: fmt.Sprintf("v%d", h), Domains: []string{fmt.Sprintf("h%d.example.com", h)}}
		for i := range n / hosts {
			r := new(routev3.Route)
			text := fmt.Sprintf(`{"name":"route-%d","match":{"prefix":"/tenant-%d/api"},"route":{"cluster":"cluster-%d","timeout":"15s"}}`, i, i, i%1000)
			if err := protojson.Unmarshal([]byte(text), r); err != nil {
				t.Fatal(err)
			}
			v.Routes = append(v.Routes, r)
		}
		m.VirtualHosts = append(m.VirtualHosts, v)
	}
	return m
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	out, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A changed route costs that route: the others, and the virtual hosts without
// it, are the same objects as before.
func TestOneChangedRouteLeavesTheOthersAsTheyAre(t *testing.T) {
	c, m := New(), manyRoutes(t, 100, 4)
	before, _, err := c.Routes(marshal(t, m))
	if err != nil {
		t.Fatal(err)
	}
	m.VirtualHosts[1].Routes[7].GetRoute().ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: "other"}
	after, _, err := c.Routes(marshal(t, m))
	if err != nil {
		t.Fatal(err)
	}
	if after == before {
		t.Fatal("the table did not change")
	}
	for h := range after.Hosts {
		if same := after.Hosts[h] == before.Hosts[h]; same != (h != 1) {
			t.Errorf("virtual host %d is the same: %v", h, same)
		}
		for i := range after.Hosts[h].Routes {
			if same := after.Hosts[h].Routes[i] == before.Hosts[h].Routes[i]; same != (h != 1 || i != 7) {
				t.Errorf("route %d of virtual host %d is the same: %v", i, h, same)
			}
		}
	}
	if got := after.Hosts[1].Routes[7].Forward.Cluster; got != "other" {
		t.Errorf("the changed route goes to %q", got)
	}
	if !slices.Contains(after.Clusters, "other") || slices.Contains(before.Clusters, "other") {
		t.Errorf("clusters are %v", after.Clusters)
	}
}

// Routes are found again wherever they went: inserted before, moved, taken away.
func TestRoutesAreFoundAgainInAnotherPlace(t *testing.T) {
	c, m := New(), manyRoutes(t, 20, 1)
	before, _, err := c.Routes(marshal(t, m))
	if err != nil {
		t.Fatal(err)
	}
	v := m.VirtualHosts[0]
	slices.Reverse(v.Routes)
	v.Routes = slices.Delete(v.Routes, 3, 5)
	after, _, err := c.Routes(marshal(t, m))
	if err != nil {
		t.Fatal(err)
	}
	want := slices.Clone(before.Hosts[0].Routes)
	slices.Reverse(want)
	want = slices.Delete(want, 3, 5)
	if !slices.Equal(after.Hosts[0].Routes, want) {
		t.Error("routes were compiled again")
	}
}

// A table that says the same in another order of its maps is the same object, and
// so is one whose bytes are the same.
func TestSameRoutesInOtherBytesAreTheSameTable(t *testing.T) {
	text := oneHost(`{"match":{"prefix":"/a"},"route":{"cluster":"a"},"metadata":{"filterMetadata":{"x":{"k":1},"y":{"k":2},"z":{"k":3},"q":{}}}},
		{"match":{"prefix":"/b"},"route":{"cluster":"b"}}`)
	m := new(routev3.RouteConfiguration)
	first := wire(t, m, text)
	c := New()
	before, _, err := c.Routes(first)
	if err != nil {
		t.Fatal(err)
	}
	other := first
	for range 1000 { // maps are written in random order
		if other = marshal(t, m); !bytes.Equal(other, first) {
			break
		}
	}
	if bytes.Equal(other, first) {
		t.Fatal("no other order in 1,000 tries")
	}
	after, _, err := c.Routes(other)
	if err != nil {
		t.Fatal(err)
	}
	if after != before {
		t.Error("the table changed")
	}
	if after, _, _ = c.Routes(first); after != before {
		t.Error("the table changed when the first bytes came again")
	}
}

// A table that is not taken leaves what is kept as it was.
func TestBadTableLeavesTheLastOneKept(t *testing.T) {
	c := New()
	good := routeWire(t, oneHost(`{"match":{"prefix":"/a"},"route":{"cluster":"a"}}`))
	before, _, err := c.Routes(good)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Routes(routeWire(t, oneHost(`{"match":{"safeRegex":{"regex":"("}},"route":{"cluster":"a"}}`))); err == nil {
		t.Fatal("a bad pattern was taken")
	}
	if after, _, _ := c.Routes(good); after != before {
		t.Error("the table was compiled again")
	}
	if c.Forget("r0"); len(c.tables) != 0 {
		t.Error("Forget kept the table")
	}
}

// What a table says of all of its virtual hosts reaches those whose bytes did not
// change.
func TestPoliciesOfATableReachUnchangedHosts(t *testing.T) {
	c := New()
	hosts := `"virtualHosts":[{"name":"v","domains":["*"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":"a"}}]}]`
	first, _, err := c.Routes(routeWire(t, `{"name":"r0",`+hosts+`}`))
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := c.Routes(routeWire(t, `{"name":"r0","typedPerFilterConfig":{"quadnine.response_cache":{"@type":"type.googleapis.com/quadnine.policy.v1.ResponseCache","ttl":"7s"}},`+hosts+`}`))
	if err != nil {
		t.Fatal(err)
	}
	if first.Hosts[0].Cache != nil || second.Hosts[0].Cache == nil || second.Hosts[0].Cache.Config.TTL.Seconds() != 7 {
		t.Errorf("the virtual host's cache is %+v", second.Hosts[0].Cache)
	}
	if first.Hosts[0].Routes[0] != second.Hosts[0].Routes[0] {
		t.Error("the route was compiled again")
	}
}

// Changed bytes of a table that is inside of a listener leave the rest alone.
func TestRoutesInsideAListenerSwapWithoutTheRest(t *testing.T) {
	inline := func(cluster string) string {
		return withManager(`"routeConfig":` + strings.Replace(oneHost(`{"match":{"prefix":"/a"},"route":{"cluster":"a"}},{"match":{"prefix":"/"},"route":{"cluster":"`+cluster+`"}}`), "r0", "inline", 1))
	}
	c := New()
	before, _, err := c.Listener(listenerWire(t, inline("b")))
	if err != nil {
		t.Fatal(err)
	}
	after, _, err := c.Listener(listenerWire(t, inline("c")))
	if err != nil {
		t.Fatal(err)
	}
	if after.Inline == before.Inline || after.Inline.Hosts[0].Routes[0] != before.Inline.Hosts[0].Routes[0] {
		t.Error("want another table with the first route as it was")
	}
	rest := *after
	if rest.Inline = before.Inline; !sameListener(&rest, before) {
		t.Error("the listener changed besides its routes")
	}
}

func BenchmarkRoutes10kOneChanged(b *testing.B) {
	for _, hosts := range []int{1, 100} {
		b.Run(fmt.Sprintf("hosts=%d", hosts), func(b *testing.B) {
			c, m := New(), manyRoutes(b, 10_000, hosts)
			wires := [2][]byte{marshal(b, m)}
			m.VirtualHosts[hosts/2].Routes[50].GetRoute().ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: "cluster-7"}
			wires[1] = marshal(b, m)
			if _, _, err := c.Routes(wires[0]); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for i := 1; b.Loop(); i++ {
				if _, _, err := c.Routes(wires[i%2]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRoutes10kAnew(b *testing.B) {
	w := marshal(b, manyRoutes(b, 10_000, 1))
	for b.Loop() {
		if _, _, err := New().Routes(w); err != nil {
			b.Fatal(err)
		}
	}
}
