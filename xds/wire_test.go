package xds

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	commondnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/common/dns/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/quadnine/quadnine/xds/compile"
)

// asked is a fake DNS that notes what it is asked.
type asked struct {
	mu    sync.Mutex
	begin time.Time
	notes []string
}

func (a *asked) LookupNetIP(_ context.Context, network, host string) ([]netip.Addr, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.notes = append(a.notes, network+" "+host+" at "+time.Since(a.begin).String())
	if network == "ip6" {
		return []netip.Addr{netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")}, nil
	}
	return []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")}, nil
}

// TestNamesOnTheWire: what a cluster says of DNS is how the server of names is
// asked, and which of its answers are endpoints.
func TestNamesOnTheWire(t *testing.T) {
	dns := func(m *dnsv3.DnsCluster) *clusterv3.Cluster {
		return &clusterv3.Cluster{ClusterDiscoveryType: &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{Name: "envoy.cluster.dns", TypedConfig: wrap(t, m)}}}
	}
	for name, tc := range map[string]struct {
		cluster *clusterv3.Cluster
		asks    string
		served  string
	}{
		"type": {
			&clusterv3.Cluster{ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}, DnsRefreshRate: durationpb.New(7 * time.Second), DnsLookupFamily: clusterv3.Cluster_V6_ONLY},
			"ip6 app at 0s, ip6 app at 7s, ip6 app at 14s", "c([fd00::1]:80,[fd00::2]:80)",
		},
		"logical type": {
			&clusterv3.Cluster{ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_LOGICAL_DNS}, DnsRefreshRate: durationpb.New(time.Minute), DnsLookupFamily: clusterv3.Cluster_V4_ONLY},
			"ip4 app at 0s", "c(10.0.0.1:80)",
		},
		"cluster_type": {
			dns(&dnsv3.DnsCluster{DnsRefreshRate: durationpb.New(6 * time.Second), DnsLookupFamily: commondnsv3.DnsLookupFamily_V4_ONLY}),
			"ip4 app at 0s, ip4 app at 6s, ip4 app at 12s", "c(10.0.0.1:80,10.0.0.2:80)",
		},
		"cluster_type with one endpoint": {
			dns(&dnsv3.DnsCluster{AllAddressesInSingleEndpoint: true, DnsLookupFamily: commondnsv3.DnsLookupFamily_V6_ONLY}),
			"ip6 app at 0s, ip6 app at 5s, ip6 app at 10s, ip6 app at 15s", "c([fd00::1]:80)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			names := new(asked)
			inBubble(t, func(o *ApplierOptions) { o.Compiler, o.Resolver = compile.New(), names }, func(r *rig) {
				names.begin = time.Now()
				c := proto.CloneOf(tc.cluster)
				c.Name, c.LoadAssignment = "c", oneEndpoint("c", "app")
				if why := r.Update(Update{Kind: KindCluster, Variant: VariantDelta, Version: "1", Resources: []Resource{{Name: "c", Version: "1", Body: wireOf(t, c)}}}); why != nil {
					t.Fatalf("rejected: %+v", why)
				}
				time.Sleep(16 * time.Second)
				names.mu.Lock()
				defer names.mu.Unlock()
				if got := strings.Join(names.notes, ", "); got != tc.asks {
					t.Errorf("asked %s\nwant  %s", got, tc.asks)
				}
				if got := r.plane.served(); got != tc.served {
					t.Errorf("served %s, want %s", got, tc.served)
				}
			})
		})
	}
}

// TestSourceThatIsTheSame: self is the stream that the resource came on.
func TestSourceThatIsTheSame(t *testing.T) {
	inBubble(t, func(o *ApplierOptions) { o.Compiler = compile.New() }, func(r *rig) {
		c := edsCluster("c")
		c.EdsClusterConfig.EdsConfig = &corev3.ConfigSource{ConfigSourceSpecifier: &corev3.ConfigSource_Self{Self: new(corev3.SelfConfigSource)}}
		if why := r.Update(Update{Kind: KindCluster, Variant: VariantDelta, Version: "1", Resources: []Resource{{Name: "c", Version: "1", Body: wireOf(t, c)}}}); why != nil {
			t.Fatalf("rejected: %+v", why)
		}
		if got := r.Wanted(KindEndpoints); !slices.Equal(got, []string{"c"}) {
			t.Errorf("the server is asked for %v", got)
		}
	})
}
