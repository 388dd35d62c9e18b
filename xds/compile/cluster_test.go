package compile

import (
	"reflect"
	"strings"
	"testing"
	"time"

	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/quadnine/quadnine/snapshot"
)

const httpOptions = `"typedExtensionProtocolOptions":{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":{"@type":"type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",`

func TestCluster(t *testing.T) {
	c := clusterOf(t, cluster(`"type":"EDS","edsClusterConfig":{"edsConfig":{"ads":{},"initialFetchTimeout":"0s","resourceApiVersion":"V3"},"serviceName":"s"},"connectTimeout":"1s","perConnectionBufferLimitBytes":7,
		"lbPolicy":"LEAST_REQUEST","leastRequestLbConfig":{"choiceCount":5},"commonLbConfig":{"healthyPanicThreshold":{"value":12.5},"localityWeightedLbConfig":{}},
		"circuitBreakers":{"thresholds":[{"priority":"HIGH","maxRequests":9},{"maxConnections":1,"maxPendingRequests":2,"maxRequests":3,"maxRetries":4},{"maxConnections":99}]},
		"dnsLookupFamily":"V4_PREFERRED","dnsRefreshRate":"60s","respectDnsTtl":true,"ignoreHealthOnHostRemoval":true,"altStatName":"x",
		"upstreamConnectionOptions":{"tcpKeepalive":{"keepaliveProbes":3,"keepaliveTime":60,"keepaliveInterval":10}},"metadata":{"filterMetadata":{"x":{}}},`+
		httpOptions+`"commonHttpProtocolOptions":{"idleTimeout":"9s","maxRequestsPerConnection":8},"explicitHttpConfig":{"http2ProtocolOptions":{"maxConcurrentStreams":6,"initialStreamWindowSize":65536,"initialConnectionWindowSize":131072}}}}`))
	want := snapshot.ClusterSettings{
		Name: "c0", Discovery: snapshot.EDS, Service: "s", Fetch: 0, ConnectTimeout: time.Second, BufferLimit: 7, DNSRefresh: time.Minute, DNSFamily: snapshot.DNSV4Preferred,
		Balance:  snapshot.Balance{Policy: snapshot.LeastRequest, Choices: 5, Panic: 12.5, ByLocality: true},
		Protocol: snapshot.H2C, IdleTimeout: 9 * time.Second, MaxRequests: 8, MaxStreams: 6, StreamWindow: 65536, ConnWindow: 131072,
		KeepAlive:  snapshot.KeepAlive{On: true, Probes: 3, Time: time.Minute, Interval: 10 * time.Second},
		Thresholds: [2]snapshot.Thresholds{{MaxConnections: 1, MaxPending: 2, MaxRequests: 3, MaxRetries: 4}, {MaxConnections: 1024, MaxPending: 1024, MaxRequests: 9, MaxRetries: 3}},
	}
	if !reflect.DeepEqual(*c, want) {
		t.Errorf("got\n%+v\nwant\n%+v", *c, want)
	}
}

func TestProtocolOfACluster(t *testing.T) {
	for fields, want := range map[string]snapshot.Protocol{
		`"name":"c0"`:               snapshot.H1,
		`"http2ProtocolOptions":{}`: snapshot.H2C,
		`"protocolSelection":"USE_DOWNSTREAM_PROTOCOL"`:                             snapshot.Downstream,
		httpOptions + `"explicitHttpConfig":{"httpProtocolOptions":{}}}}`:           snapshot.H1,
		httpOptions + `"explicitHttpConfig":{"http2ProtocolOptions":{}}}}`:          snapshot.H2C,
		httpOptions + `"useDownstreamProtocolConfig":{"http2ProtocolOptions":{}}}}`: snapshot.Downstream,
	} {
		if got := clusterOf(t, strings.Replace(cluster(fields), `"name":"c0","name":"c0"`, `"name":"c0"`, 1)).Protocol; got != want {
			t.Errorf("%s: got %v, want %v", fields, got, want)
		}
	}
}

// The first policy of the list that is supported is taken, and replaces lb_policy.
func TestBalance(t *testing.T) {
	policy := func(typ, fields string) string {
		return `{"typedExtensionConfig":{"name":"x","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.load_balancing_policies.` + typ + `"` + fields + `}}}`
	}
	for fields, want := range map[string]snapshot.Balance{
		`"lbPolicy":"RANDOM"`: {Policy: snapshot.Random, Panic: 50},
		`"lbPolicy":"LEAST_REQUEST","commonLbConfig":{"healthyPanicThreshold":{}}`:                                                                                                 {Policy: snapshot.LeastRequest, Choices: 2},
		`"lbPolicy":"RANDOM","loadBalancingPolicy":{"policies":[` + policy("round_robin.v3.RoundRobin", `,"localityLbConfig":{"localityWeightedLbConfig":{}}`) + `]}`:              {Policy: snapshot.RoundRobin, Panic: 50, ByLocality: true},
		`"loadBalancingPolicy":{"policies":[` + policy("least_request.v3.LeastRequest", `,"choiceCount":3`) + `,` + policy("random.v3.Random", "") + `]}`:                          {Policy: snapshot.LeastRequest, Choices: 3, Panic: 50},
		`"commonLbConfig":{"localityWeightedLbConfig":{}},"loadBalancingPolicy":{"policies":[` + policy("random.v3.Random", `,"localityLbConfig":{"zoneAwareLbConfig":{}}`) + `]}`: {Policy: snapshot.Random, Panic: 50},
	} {
		if got := clusterOf(t, cluster(fields)).Balance; got != want {
			t.Errorf("%s\ngot  %+v\nwant %+v", fields, got, want)
		}
	}
}

func TestAssignment(t *testing.T) {
	at := func(port, more string) string {
		return `{"endpoint":{"address":{"socketAddress":{"address":"::1","portValue":` + port + `}},"hostname":"h` + port + `"}` + more + `}`
	}
	name, a, _, err := New().Assignment(assignmentWire(t, `{"clusterName":"c0","policy":{"overprovisioningFactor":200},"endpoints":[
		{"locality":{"region":"r","zone":"z","subZone":"s"},"loadBalancingWeight":3,"lbEndpoints":[`+at("1", "")+`,`+at("2", `,"healthStatus":"DEGRADED","loadBalancingWeight":7`)+`,`+at("3", `,"healthStatus":"DRAINING"`)+`]},
		{"priority":2,"lbEndpoints":[`+at("4", `,"healthStatus":"UNHEALTHY"`)+`,`+at("5", `,"healthStatus":"TIMEOUT"`)+`,`+at("6", `,"healthStatus":"HEALTHY"`)+`]}]}`))
	if err != nil || name != "c0" {
		t.Fatal(name, err)
	}
	want := &snapshot.Assignment{
		Overprovisioning: 200, Localities: []snapshot.Locality{{Region: "r", Zone: "z", SubZone: "s", Weight: 3}, {Priority: 2}},
		Endpoints: []snapshot.Endpoint{
			{Address: "[::1]:1", Hostname: "h1", Weight: 1},
			{Address: "[::1]:2", Hostname: "h2", Weight: 7, Health: snapshot.Degraded},
			{Address: "[::1]:3", Hostname: "h3", Weight: 1, Health: snapshot.Unhealthy},
			{Address: "[::1]:4", Hostname: "h4", Weight: 1, Health: snapshot.Unhealthy, Locality: 1},
			{Address: "[::1]:5", Hostname: "h5", Weight: 1, Health: snapshot.Unhealthy, Locality: 1},
			{Address: "[::1]:6", Hostname: "h6", Weight: 1, Locality: 1},
		},
	}
	if !reflect.DeepEqual(a, want) {
		t.Errorf("got\n%+v\nwant\n%+v", a, want)
	}
}

// Clusters and assignments that say the same are the same objects, whatever only
// counts in them; the endpoints of a cluster outlive its other fields.
func TestSameClusterIsTheSame(t *testing.T) {
	c := New()
	endpoints := `"loadAssignment":{"clusterName":"c0","endpoints":[` + endpoints("0", "127.0.0.1", "80") + `]}`
	a, _, _ := c.Cluster(clusterWire(t, cluster(endpoints)))
	b, _, _ := c.Cluster(clusterWire(t, cluster(endpoints+`,"altStatName":"x"`)))
	d, _, _ := c.Cluster(clusterWire(t, cluster(endpoints+`,"connectTimeout":"1s"`)))
	if a == nil || a != b || b == d || b.Static != d.Static {
		t.Errorf("got %p, %p and %p", a, b, d)
	}
	_, e, _, _ := c.Assignment(assignmentWire(t, `{"clusterName":"c0"}`))
	_, f, _, _ := c.Assignment(assignmentWire(t, `{"clusterName":"c0","endpoints":[],"policy":{}}`))
	if e == nil || e != f {
		t.Errorf("got %p and %p", e, f)
	}
	c.ForgetCluster("c0")
	c.ForgetAssignment("c0")
	if len(c.clusters)+len(c.assignments) != 0 {
		t.Error("something is kept")
	}
}

func TestRuntime(t *testing.T) {
	l, _, err := New().Runtime(wire(t, new(runtimev3.Runtime), `{"name":"l","layer":{"a":{"b":50,"c":true},"d":"e","f.g":0.5,"h":{"numerator":5,"denominator":"MILLION"}}}`))
	want := snapshot.RuntimeLayer{Name: "l", Values: map[string]string{"a.b": "50", "a.c": "true", "d": "e", "f.g": "0.5", "h": `{"denominator":"MILLION","numerator":5}`}}
	if err != nil || !reflect.DeepEqual(l, want) {
		t.Errorf("got %+v, %v", l, err)
	}
	half := snapshot.Fraction{Key: "h", Numerator: 50, Denominator: 100}
	if r := snapshot.NewRuntime([]snapshot.RuntimeLayer{l}); !half.Holds(r, 4) || half.Holds(r, 5) {
		t.Error("the share is not a share")
	}
}

// Field numbers that nobody knows are counted, or refused when that is asked for.
func TestUnknownFieldNumbers(t *testing.T) {
	w := protowire.AppendTag(clusterWire(t, `{"name":"c0","commonLbConfig":{}}`), 5000, protowire.VarintType)
	w = protowire.AppendVarint(w, 1)
	if _, notes, err := New().Cluster(w); err != nil || notes.Unknown != 1 {
		t.Errorf("got %+v, %v", notes, err)
	}
	strict := New()
	strict.Strict = true
	if _, _, err := strict.Cluster(w); err == nil || !strings.Contains(err.Error(), "unknown field number 5000") {
		t.Errorf("got %v", err)
	}
	inside := routeWire(t, oneHost(`{"match":{"prefix":"/"},"route":{"cluster":"a"}}`))
	inside = protowire.AppendTag(inside, 5000, protowire.VarintType)
	inside = protowire.AppendVarint(inside, 1)
	if _, notes, err := New().Routes(inside); err != nil || notes.Unknown != 1 {
		t.Errorf("got %+v, %v", notes, err)
	}
}

// A field that only tunes is noted once, however many resources' parts set it.
func TestNotesNameAFieldOnce(t *testing.T) {
	_, notes, err := New().Routes(routeWire(t, oneHost(`{"match":{"prefix":"/1"},"route":{"cluster":"a"},"statPrefix":"x"},{"match":{"prefix":"/2"},"route":{"cluster":"a"},"statPrefix":"y"}`)))
	if err != nil || len(notes.Ignored) != 1 || notes.Ignored[0] != `route table/virtual_hosts[].routes[].stat_prefix (set to "x"): it only counts` {
		t.Errorf("got %q, %v", notes.Ignored, err)
	}
}

func TestNamesLookedUp(t *testing.T) {
	name := `"loadAssignment":{"clusterName":"c0","endpoints":[` + endpoints("0", "foo.local", "80") + `]}`
	extension := func(fields string) string {
		return cluster(`"clusterType":{"name":"envoy.cluster.dns","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster"` + fields + `}},` + name)
	}
	for text, want := range map[string]snapshot.ClusterSettings{
		cluster(`"type":"LOGICAL_DNS",` + name): {Discovery: snapshot.LogicalDNS, DNSRefresh: 5 * time.Second},
		extension(``):                           {Discovery: snapshot.StrictDNS, DNSRefresh: 5 * time.Second},
		extension(`,"dnsLookupFamily":"AUTO"`):  {Discovery: snapshot.StrictDNS, DNSRefresh: 5 * time.Second},
		extension(`,"dnsLookupFamily":"ALL","dnsRefreshRate":"7s","respectDnsTtl":true,"allAddressesInSingleEndpoint":true`): {Discovery: snapshot.LogicalDNS, DNSRefresh: 7 * time.Second, DNSFamily: snapshot.DNSAll},
	} {
		got, _, err := New().Cluster(clusterWire(t, text))
		if err != nil {
			t.Fatal(err)
		}
		if got.Discovery != want.Discovery || got.DNSRefresh != want.DNSRefresh || got.DNSFamily != want.DNSFamily ||
			len(got.Static.Endpoints) != 1 || got.Static.Endpoints[0].Address != "foo.local:80" {
			t.Errorf("%s\ngot %+v", text, got)
		}
	}
}
