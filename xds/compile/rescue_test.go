package compile

import (
	"strings"
	"testing"

	"github.com/quadnine/quadnine/snapshot"
)

// TestLookupFamilyThatIsNone: proto3 takes any number for an enum.
func TestLookupFamilyThatIsNone(t *testing.T) {
	for family, want := range map[string]string{"5": "", "6": "typed_config.dns_lookup_family: 6 is no value", "-1": "", "2147483647": "is no value"} {
		err := take(t, "cluster", `{"name":"a","clusterType":{"name":"d","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster","dnsLookupFamily":`+family+`}},
			"loadAssignment":{"clusterName":"a","endpoints":[{"lbEndpoints":[{"endpoint":{"address":{"socketAddress":{"address":"a.example","portValue":80}}}}]}]}}`)
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), crashed)) {
			t.Errorf("family %s: %v, want %q", family, err, want)
		}
	}
}

// TestPanicIsARefusal: a mistake of the compiler's costs one resource, and nothing
// that was kept of it is used again.
func TestPanicIsARefusal(t *testing.T) {
	c, wire := New(), clusterWire(t, `{"name":"a","type":"EDS","edsClusterConfig":{"edsConfig":{"ads":{}}}}`)
	c.clusters["a"] = &kept[*snapshot.ClusterSettings]{wire: []byte{0}}
	out, _, err := c.Cluster(wire)
	if out != nil || err == nil || !strings.Contains(err.Error(), `cluster "a": internal error at compiler.go:`) || len(Reasons(err)) != 1 {
		t.Fatalf("%v, %v", out, err)
	}
	if out, _, err = c.Cluster(wire); out == nil || err != nil {
		t.Fatalf("and then %v, %v", out, err)
	}
}
