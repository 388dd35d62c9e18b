package xds

import (
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/quadnine/quadnine/xds/compile"
)

func wireOf(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func edsCluster(name string) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name: name, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{EdsConfig: adsSource()},
	}
}

func oneEndpoint(name, ip string) *endpointv3.ClusterLoadAssignment {
	return &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{
		LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: tcp(ip, 80)}}}},
	}}}
}

func tcp(ip string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: ip, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}

// httpListener is a listener with its routes inside, or in a table of that name.
func httpListener(t testing.TB, name string, inline *routev3.RouteConfiguration, rds string) *listenerv3.Listener {
	t.Helper()
	m := &hcmv3.HttpConnectionManager{StatPrefix: "in", HttpFilters: []*hcmv3.HttpFilter{{
		Name: "envoy.filters.http.router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: wrap(t, new(routerv3.Router))},
	}}}
	if inline != nil {
		m.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: inline}
	} else {
		m.RouteSpecifier = &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{RouteConfigName: rds, ConfigSource: adsSource()}}
	}
	return &listenerv3.Listener{Name: name, Address: tcp("127.0.0.1", 10000), FilterChains: []*listenerv3.FilterChain{{
		Filters: []*listenerv3.Filter{{Name: "http", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: wrap(t, m)}}},
	}}}
}

// manyRoutes has one route to each cluster of those given; edited changes one.
func manyRoutes(name string, n int, clusters []string, edited string) *routev3.RouteConfiguration {
	host := &routev3.VirtualHost{Name: "all", Domains: []string{"*"}}
	for i := range n {
		to := clusters[i%len(clusters)]
		if i == n/2 {
			to = edited
		}
		host.Routes = append(host.Routes, &routev3.Route{
			Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: fmt.Sprintf("/r%d/", i)}},
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: to}}},
		})
	}
	return &routev3.RouteConfiguration{Name: name, VirtualHosts: []*routev3.VirtualHost{host}, ValidateClusters: wrapperspb.Bool(false)}
}

// bigConfig is 1,000 clusters that have their endpoints and 10,000 routes to them.
type bigConfig struct {
	names                 []string
	clusters, assignments []Resource
}

func newBigConfig(b *testing.B) *bigConfig {
	b.Helper()
	c := new(bigConfig)
	for i := range 1000 {
		n := fmt.Sprintf("c%d", i)
		c.names = append(c.names, n)
		c.clusters = append(c.clusters, Resource{Name: n, Body: wireOf(b, edsCluster(n))})
		c.assignments = append(c.assignments, Resource{Name: n, Body: wireOf(b, oneEndpoint(n, "10.0.0.1"))})
	}
	return c
}

// table has the routes of c, one of them to edited.
func (c *bigConfig) table(b *testing.B, edited string) Resource {
	b.Helper()
	return Resource{Name: "r", Body: wireOf(b, manyRoutes("r", 10_000, c.names, edited))}
}

func benchApplier(b *testing.B) (*Applier, *plane) {
	b.Helper()
	p := newPlane()
	a := NewApplier(ApplierOptions{Plane: p, Compiler: compile.New(), Dynamic: Kinds(), Log: slog.New(slog.DiscardHandler)})
	if err := a.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := a.Close(); err != nil {
			b.Error(err)
		}
	})
	return a, p
}

// BenchmarkUpdate is from a response to the data plane's new snapshot, with 1,000
// clusters and 10,000 routes: one change a time.
func BenchmarkUpdate(b *testing.B) {
	config := newBigConfig(b)
	names, clusters, assignments := config.names, config.clusters, config.assignments
	a, p := benchApplier(b)
	send := func(k Kind, res ...Resource) {
		if why := a.Update(Update{Kind: k, Variant: VariantDelta, Resources: res}); why != nil {
			b.Fatal(why)
		}
	}
	send(KindCluster, clusters...)
	send(KindEndpoints, assignments...)
	send(KindListener, Resource{Name: "l", Body: wireOf(b, httpListener(b, "l", nil, "r"))})
	var tables, eps [2]Resource
	for i := range tables {
		tables[i] = config.table(b, names[i])
		eps[i] = Resource{Name: "c7", Body: wireOf(b, oneEndpoint("c7", fmt.Sprintf("10.0.0.%d", i+2)))}
	}
	send(KindRoutes, tables[0])
	if s := p.now(); len(s.Listeners) != 1 || len(s.Table(s.Listeners[0]).Clusters) != len(names) {
		b.Fatal("not served")
	}
	b.Run("endpoints", func(b *testing.B) {
		before, i := p.count(), 0
		for ; b.Loop(); i++ {
			send(KindEndpoints, eps[i%2])
		}
		if p.count()-before != i {
			b.Errorf("%d snapshots of %d updates", p.count()-before, i)
		}
	})
	b.Run("routes", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			send(KindRoutes, tables[(i+1)%2])
		}
	})
	b.Run("unchanged", func(b *testing.B) {
		before := p.count()
		for b.Loop() {
			send(KindCluster, clusters...)
		}
		if p.count() != before {
			b.Error("there was a new snapshot")
		}
	})
}

// BenchmarkSession is from a response's bytes to the bytes of what answers it, the
// data plane's new snapshot included: all but the stream. In "swap" a cluster, its
// endpoints and a route are replaced.
func BenchmarkSession(b *testing.B) {
	for _, d := range []dialect{deltaDialect{}, sotwDialect{}} {
		b.Run(d.name(), func(b *testing.B) { benchSession(b, d) })
	}
}

func benchSession(b *testing.B, d dialect) {
	b.Helper()
	config := newBigConfig(b)
	a, p := benchApplier(b)
	s := &session{dialect: d, node: new(corev3.Node), nodeOnce: true, sink: a, log: quiet, memory: new(memory), timeout: func(Kind) time.Duration { return fetchTimeout }}
	at := time.Now()
	s.start(at)
	var version int
	pack := func(k Kind, all []Resource, changed []int, removed ...string) []byte {
		version++
		anyOf := func(r Resource) *anypb.Any { return &anypb.Any{TypeUrl: k.TypeURL(), Value: r.Body} }
		if d.name() == VariantSotw {
			m := &discoveryv3.DiscoveryResponse{TypeUrl: k.TypeURL(), VersionInfo: strconv.Itoa(version), Nonce: strconv.Itoa(version)}
			for _, r := range all {
				m.Resources = append(m.Resources, anyOf(r))
			}
			return wireOf(b, m)
		}
		m := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: k.TypeURL(), Nonce: strconv.Itoa(version), RemovedResources: removed}
		for _, i := range changed {
			m.Resources = append(m.Resources, &discoveryv3.Resource{Name: all[i].Name, Version: strconv.Itoa(version), Resource: anyOf(all[i])})
		}
		return wireOf(b, m)
	}
	give := func(wire []byte) {
		var m proto.Message = new(discoveryv3.DeltaDiscoveryResponse)
		if d.name() == VariantSotw {
			m = new(discoveryv3.DiscoveryResponse)
		}
		if err := proto.Unmarshal(wire, m); err != nil {
			b.Fatal(err)
		}
		s.receive(at, m)
		for _, out := range s.take() {
			if _, err := proto.Marshal(out); err != nil {
				b.Fatal(err)
			}
		}
	}
	every := make([]int, len(config.names))
	for i := range every {
		every[i] = i
	}
	give(pack(KindCluster, config.clusters, every))
	give(pack(KindEndpoints, config.assignments, every))
	give(pack(KindListener, []Resource{{Name: "l", Body: wireOf(b, httpListener(b, "l", nil, "r"))}}, []int{0}))
	give(pack(KindRoutes, []Resource{config.table(b, "c0")}, []int{0}))
	if s := p.now(); len(s.Listeners) != 1 || len(s.Table(s.Listeners[0]).Clusters) != len(config.names) {
		b.Fatal("not served")
	}

	b.Run("endpoints", func(b *testing.B) {
		var wires [2][]byte
		for i := range wires {
			all := slices.Clone(config.assignments)
			all[7].Body = wireOf(b, oneEndpoint("c7", fmt.Sprintf("10.0.1.%d", i)))
			wires[i] = pack(KindEndpoints, all, []int{7})
		}
		before, i := p.count(), 0
		for ; b.Loop(); i++ {
			give(wires[i%2])
		}
		if p.count()-before != i {
			b.Errorf("%d snapshots of %d updates", p.count()-before, i)
		}
	})

	b.Run("swap", func(b *testing.B) {
		// Two clusters take turns. It ends with the first one.
		var clusters, assignments, tables [2][]byte
		for i := range 2 {
			name, other := fmt.Sprintf("swapped-%d", i), fmt.Sprintf("swapped-%d", 1-i)
			clusters[i] = pack(KindCluster, append(slices.Clone(config.clusters), Resource{Name: name, Body: wireOf(b, edsCluster(name))}), []int{1000}, other)
			assignments[i] = pack(KindEndpoints, append(slices.Clone(config.assignments), Resource{Name: name, Body: wireOf(b, oneEndpoint(name, "10.0.2.1"))}), []int{1000})
			tables[i] = pack(KindRoutes, []Resource{config.table(b, name)}, []int{0})
		}
		i := 0
		for ; b.Loop(); i++ {
			give(clusters[i%2])
			give(assignments[i%2])
			give(tables[i%2])
			if name := fmt.Sprintf("swapped-%d", i%2); !slices.Contains(p.now().Tables["r"].Clusters, name) {
				b.Fatal("the new routes are not in use")
			}
		}
	})
}
