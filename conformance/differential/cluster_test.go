package differential

import (
	"fmt"
	"strings"
	"testing"
)

// toEDS routes everything to the case's EDS cluster.
const toEDS = `[{match: {prefix: /}, route: {cluster: e$seq}}]`

// eds is a case's EDS cluster with fields and an assignment.
func eds(more string, lbs ...string) part {
	return part{routes: toEDS, clusters: []string{edsCluster("e$seq", more)}, endpoints: []string{assign("e$seq", lbs...)}}
}

// levels is an assignment with endpoints per priority.
func levels(more string, priorities ...[]string) string {
	var b strings.Builder
	for i, lbs := range priorities {
		fmt.Fprintf(&b, "{priority: %d, locality: {region: r%d}, lb_endpoints: [%s]},", i, i, strings.Join(lbs, ", "))
	}
	return "{cluster_name: e$seq, endpoints: [" + b.String() + "]" + more + "}"
}

func edsLevels(more, policy string, priorities ...[]string) part {
	return part{routes: toEDS, clusters: []string{edsCluster("e$seq", more)}, endpoints: []string{levels(policy, priorities...)}}
}

const (
	sick     = "health_status: UNHEALTHY"
	draining = "health_status: DRAINING"
	timedOut = "health_status: TIMEOUT"
	degraded = "health_status: DEGRADED"
	noPanic  = "common_lb_config: {healthy_panic_threshold: {value: 0}}"
	byPlace  = "common_lb_config: {healthy_panic_threshold: {value: 0}, locality_weighted_lb_config: {}}"
)

var endpointTrials = []trial{
	one("eds health statuses", eds(noPanic, lb("b0", sick), lb("b1", draining), lb("b2", timedOut), lb("b3", "health_status: HEALTHY"), lb("b4", "")), get("/").many(200)),
	one("eds degraded", eds(noPanic, lb("b0", degraded), lb("b1", "")), get("/").many(soakTimes)),
	one("eds degraded only", eds(noPanic, lb("b0", degraded), lb("b1", sick)), get("/").is("200 b0")),
	one("eds no healthy", eds(noPanic, lb("b0", sick), lb("b1", draining)), get("/").is("503"), get("/").one().is("503"), post("/", "x").is("503")),
	one("eds panic", eds("", lb("b0", sick), lb("b1", sick), lb("b2", "")), get("/").many(300)),
	one("eds empty", part{routes: toEDS, clusters: []string{edsCluster("e$seq", "")}, endpoints: []string{"{cluster_name: e$seq}"}}, get("/").is("503"), get("/").one().is("503")),
	one("eds weights", eds("", lb("b0", "load_balancing_weight: 3"), lb("b1", "load_balancing_weight: 1")), get("/").many(soakTimes)),
	one("eds random", eds("load_balancing_policy: {policies: [{typed_extension_config: {name: r, typed_config: {'@type': type.googleapis.com/envoy.extensions.load_balancing_policies.random.v3.Random}}}]}", lb("b0", ""), lb("b1", ""), lb("b2", "")), get("/").many(soakTimes)),
	one("eds round robin", eds("lb_policy: ROUND_ROBIN", lb("b0", ""), lb("b1", ""), lb("b2", "")), get("/").many(300)),
	one("eds least request", eds("lb_policy: LEAST_REQUEST, least_request_lb_config: {choice_count: 2}", lb("b0", ""), lb("b1", ""), lb("b2", "")), get("/").many(soakTimes)),
	one("eds service name", part{routes: `[{match: {prefix: /}, route: {cluster: s$seq}}]`, clusters: []string{`{name: s$seq, type: EDS, connect_timeout: 5s, eds_cluster_config: {service_name: e$seq, eds_config: {ads: {}, resource_api_version: V3}}, typed_extension_protocol_options: {` + h2Options + `}}`}, endpoints: []string{assign("e$seq", lb("b2", ""))}}, get("/").is("200 b2")),
	one("eds refused", eds("", `{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: "${nobody}"}}}}`), get("/").is("503"), get("/").one().is("503")),
	one("eds over http1", part{routes: toEDS, clusters: []string{`{name: e$seq, type: EDS, connect_timeout: 5s, eds_cluster_config: {eds_config: {ads: {}, resource_api_version: V3}}}`}, endpoints: []string{assign("e$seq", lb("b2", ""))}}, get("/").is("200 b2"), get("/").one().is("200 b2"), post("/", "x").is("200 b2"), get("/").h("q-abort", "1").is("503"), get("/").h("q-trailer", "x-t=1")),
	one("downstream protocol", part{routes: toEDS, clusters: []string{`{name: e$seq, type: EDS, connect_timeout: 5s, eds_cluster_config: {eds_config: {ads: {}, resource_api_version: V3}}, typed_extension_protocol_options: {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {"@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, use_downstream_protocol_config: {http2_protocol_options: {}}}}}`}, endpoints: []string{assign("e$seq", lb("b2", ""))}}, get("/").is("200 b2"), get("/").one().is("200 b2")),
	one("priority first", edsLevels("", "", []string{lb("b0", "")}, []string{lb("b1", "")}), get("/").many(100)),
	one("priority over 72 percent", edsLevels(noPanic, "", []string{lb("b0", ""), lb("b1", ""), lb("b2", ""), lb("b3", sick)}, []string{lb("b4", "")}), get("/").many(200)),
	one("priority spill", edsLevels(noPanic, "", []string{lb("b0", ""), lb("b1", sick)}, []string{lb("b4", "")}), get("/").many(soakTimes)),
	one("priority overprovisioning", edsLevels(noPanic, ", policy: {overprovisioning_factor: 100}", []string{lb("b0", ""), lb("b1", ""), lb("b2", ""), lb("b3", sick)}, []string{lb("b4", "")}), get("/").many(soakTimes)),
	one("priority lost", edsLevels(noPanic, "", []string{lb("b0", sick)}, []string{lb("b1", sick)}, []string{lb("b2", "")}), get("/").is("200 b2"), get("/").many(100)),
	one("priority gap", part{routes: toEDS, clusters: []string{edsCluster("e$seq", noPanic)}, endpoints: []string{`{cluster_name: e$seq, endpoints: [{priority: 0, lb_endpoints: [` + lb("b0", sick) + `]}, {priority: 2, lb_endpoints: [` + lb("b1", "") + `]}]}`}}, get("/").is("200 b1")),
	one("priority panic", edsLevels("", "", []string{lb("b0", sick)}, []string{lb("b1", sick)}), get("/").many(200)),
	one("priority low sum panic", edsLevels("", "", []string{lb("b0", ""), lb("b1", sick), lb("b2", sick), lb("b3", sick)}, []string{lb("b4", sick)}), get("/").many(soakTimes)),
	one("priority degraded", edsLevels(noPanic, "", []string{lb("b0", degraded), lb("b1", sick)}, []string{lb("b4", ""), lb("b5", sick)}), get("/").many(soakTimes)),
	one("locality weights", part{routes: toEDS, clusters: []string{edsCluster("e$seq", byPlace)}, endpoints: []string{`{cluster_name: e$seq, endpoints: [{locality: {zone: a}, load_balancing_weight: 1, lb_endpoints: [` + lb("b0", "") + `]}, {locality: {zone: b}, load_balancing_weight: 3, lb_endpoints: [` + lb("b1", "") + `,` + lb("b2", "") + `]}]}`}}, get("/").many(soakTimes)),
	one("locality weights ill", part{routes: toEDS, clusters: []string{edsCluster("e$seq", byPlace)}, endpoints: []string{`{cluster_name: e$seq, endpoints: [{locality: {zone: a}, load_balancing_weight: 1, lb_endpoints: [` + lb("b0", "") + `]}, {locality: {zone: b}, load_balancing_weight: 1, lb_endpoints: [` + lb("b1", "") + `,` + lb("b2", sick) + `,` + lb("b3", sick) + `]}]}`}}, get("/").many(soakTimes)),
	one("locality without weight", part{routes: toEDS, clusters: []string{edsCluster("e$seq", byPlace)}, endpoints: []string{`{cluster_name: e$seq, endpoints: [{locality: {zone: a}, lb_endpoints: [` + lb("b0", "") + `]}, {locality: {zone: b}, load_balancing_weight: 3, lb_endpoints: [` + lb("b1", "") + `]}]}`}}, get("/").is("200 b1"), get("/").many(100)),
	one("locality policy", part{routes: toEDS, clusters: []string{edsCluster("e$seq", "load_balancing_policy: {policies: [{typed_extension_config: {name: r, typed_config: {'@type': type.googleapis.com/envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin, locality_lb_config: {locality_weighted_lb_config: {}}}}}]}")}, endpoints: []string{`{cluster_name: e$seq, endpoints: [{locality: {zone: a}, load_balancing_weight: 1, lb_endpoints: [` + lb("b0", "") + `]}, {locality: {zone: b}, load_balancing_weight: 4, lb_endpoints: [` + lb("b1", "") + `]}]}`}}, get("/").many(soakTimes)),
	one("locality unweighted mode", part{routes: toEDS, clusters: []string{edsCluster("e$seq", "")}, endpoints: []string{`{cluster_name: e$seq, endpoints: [{locality: {zone: a}, load_balancing_weight: 1, lb_endpoints: [` + lb("b0", "") + `]}, {locality: {zone: b}, load_balancing_weight: 9, lb_endpoints: [` + lb("b1", "") + `]}]}`}}, get("/").many(soakTimes)),
	{"endpoints move", []step{
		{part: eds("", lb("b0", "")), requests: []*request{get("/").is("200 b0")}},
		{part: eds("", lb("b1", "")), requests: []*request{get("/").is("200 b1")}},
		{part: eds("", lb("b1", ""), lb("b2", "")), requests: []*request{get("/").many(200)}},
		{part: part{routes: toEDS, clusters: []string{edsCluster("e$seq", "")}, endpoints: []string{"{cluster_name: e$seq}"}}, requests: []*request{get("/").is("503")}},
		{part: eds("", lb("b3", "")), requests: []*request{get("/").is("200 b3")}},
	}},
	{"cluster changes", []step{
		{part: eds("", lb("b0", "")), requests: []*request{get("/").is("200 b0")}},
		{part: eds("circuit_breakers: {thresholds: [{max_requests: 5}]}", lb("b0", "")), requests: []*request{get("/").is("200 b0")}},
		{part: part{routes: `[{match: {prefix: /}, route: {cluster: e$seq}}]`}, requests: []*request{}},
	}},
}

func TestEndpoints(t *testing.T) {
	s := newStand(t, "DELTA_GRPC")
	s.run(t, endpointTrials)
	s.run(t, breakerTrials)
}

// breakers are thresholds of both priorities.
func breakers(thresholds string) part {
	p := eds("circuit_breakers: {thresholds: ["+thresholds+"]}", lb("b0", ""))
	p.routes = `[{match: {prefix: /high}, route: {cluster: e$seq, priority: HIGH}}, {match: {prefix: /}, route: {cluster: e$seq}}]`
	return p
}

// http1 speaks HTTP/1.1 upstream, so that each request has a connection.
func http1(p part) part {
	p.clusters = []string{strings.Replace(p.clusters[0], "http2_protocol_options", "http_protocol_options", 1)}
	return p
}

// crowd sends requests that are held upstream: held of them must arrive, and
// what becomes of the others is compared.
func crowd(path string, held, more int) func(t *testing.T, s *stand) {
	return func(t *testing.T, s *stand) {
		t.Helper()
		var over [2][]answer
		for i, x := range s.both() {
			key := fmt.Sprintf("%s-%s-%d", t.Name(), x.node, held)
			b := s.backends[0]
			done := make(chan answer, held)
			for range held {
				go func() { done <- x.send(t, get(path).h("q-hold", key)) }()
				select { // one after the other: a new connection counts as pending
				case <-b.holding(key).arrived:
				case a := <-done:
					t.Errorf("%s: one of %d that fit was answered %s %q %s", x.node, held, a.brief(), a.body, a.err)
					b.release(key)
					return
				case <-deadline(t, within).Done():
					t.Fatalf("%s: %d requests did not arrive upstream", x.node, held)
				}
			}
			for range more {
				over[i] = append(over[i], x.send(t, get(path).h("x-over", "1")))
			}
			b.release(key)
			for range held {
				if a := <-done; a.status != 200 {
					t.Errorf("%s: a held request ended %s", x.node, a.brief())
				}
			}
			if a := x.send(t, get(path)); a.status != 200 {
				t.Errorf("%s: after the crowd: %s %q", x.node, a.brief(), a.body)
			}
		}
		for i := range over[0] {
			if over[0][i].brief() != "503" {
				t.Errorf("Envoy answers %s to one too many", over[0][i].brief())
			}
			report(t, s.name, "one too many", diff(get(path), over[0][i], over[1][i]))
		}
	}
}

var breakerTrials = []trial{
	{"breaker max requests", []step{{part: breakers("{max_requests: 3}, {priority: HIGH, max_requests: 1}"), do: func(t *testing.T, s *stand) {
		t.Helper()
		crowd("/", 3, 2)(t, s)
		crowd("/high", 1, 1)(t, s)
	}}}},
	{"breaker max pending", []step{{part: http1(breakers("{max_connections: 2, max_pending_requests: 1}")), do: overflow}}},
	{"breaker max connections", []step{{part: http1(breakers("{max_connections: 2, max_pending_requests: 100}")), do: func(t *testing.T, s *stand) {
		t.Helper()
		queue(t, s, 2, 5)
	}}}},
}

// overflow sends two requests that are held, one that may wait, and two more.
func overflow(t *testing.T, s *stand) {
	t.Helper()
	var over [2][]answer
	for i, x := range s.both() {
		b, key := s.backends[0], t.Name()+x.node
		held, more := make(chan answer, 2), make(chan answer, 3)
		for range 2 {
			go func() { held <- x.send(t, get("/").h("q-hold", key)) }()
			select {
			case <-b.holding(key).arrived:
			case a := <-held:
				t.Fatalf("%s: one of 2 that fit was answered %s %q", x.node, a.brief(), a.body)
			}
		}
		for range 3 {
			go func() { more <- x.send(t, get("/")) }()
		}
		for range 2 {
			over[i] = append(over[i], <-more)
		}
		b.release(key)
		for _, a := range []answer{<-held, <-held, <-more} {
			if a.status != 200 {
				t.Errorf("%s: a request that fits, or may wait, ended %s %q", x.node, a.brief(), a.body)
			}
		}
	}
	for i := range over[0] {
		report(t, s.name, "one too many", diff(get("/"), over[0][i], over[1][i]))
	}
}

// queue checks that of n requests at once only so many reach the backend, and
// the others wait and are answered.
func queue(t *testing.T, s *stand, connections, n int) {
	t.Helper()
	for _, x := range s.both() {
		b, key := s.backends[0], t.Name()+x.node
		done := make(chan answer, n)
		for range n {
			go func() { done <- x.send(t, get("/").h("q-hold", key)) }()
		}
		for range connections {
			select {
			case <-b.holding(key).arrived:
			case <-deadline(t, within).Done():
				t.Fatalf("%s: %d requests did not arrive upstream", x.node, connections)
			}
		}
		// A third connection would carry this probe within the time that one takes.
		select {
		case <-b.holding(key).arrived:
			t.Errorf("%s opens more than %d connections", x.node, connections)
		case <-deadline(t, 200e6).Done():
		}
		b.release(key)
		for range n {
			if a := <-done; a.status != 200 {
				t.Errorf("%s: a queued request ended %s %q %s", x.node, a.brief(), a.body, a.err)
			}
		}
	}
}
