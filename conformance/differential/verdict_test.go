package differential

import (
	"net"
	"strings"
	"testing"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// judged is a resource, and what Envoy says of it.
type judged struct {
	name  string
	about string // its type
	part
	refused bool // by Envoy
}

func ack(name, about string, p part) judged  { return judged{name, about, p, false} }
func nack(name, about string, p part) judged { return judged{name, about, p, true} }

const (
	listenerType = "Listener"
	routeType    = "RouteConfiguration"
	clusterType  = "Cluster"
	edsType      = "ClusterLoadAssignment"
)

func routes(yaml string) part { return part{routes: yaml} }

func cluster(fields string) part {
	return part{routes: all, clusters: []string{"{name: j$seq, connect_timeout: 1s, " + fields + "}"}}
}

func assignment(fields string) part {
	return part{routes: all, clusters: []string{edsCluster("j$seq", "")}, endpoints: []string{"{cluster_name: j$seq, " + fields + "}"}}
}

func httpFilter(fields string) part {
	return part{routes: all, hcm: "http_filters: [{" + fields + "}, " + routerFilter + "]"}
}

const (
	fits      = `type: STATIC, load_assignment: {cluster_name: x, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 1}}}}]}]}`
	own       = `{"@type": type.googleapis.com/quadnine.policy.v1.TenantBreaker, failureThreshold: 7}`
	ownStruct = `{"@type": type.googleapis.com/xds.type.v3.TypedStruct, type_url: type.googleapis.com/quadnine.policy.v1.TenantBreaker, value: {failureThreshold: 7}}`
	foreign   = `{"@type": type.googleapis.com/xds.type.v3.TypedStruct, type_url: type.googleapis.com/nobody.v1.Thing, value: {a: 1}}`
)

func perFilter(config string) part {
	return part{table: `virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: b0}, typed_per_filter_config: {quadnine.breaker: ` + config + `}}]}]`}
}

var measured = []judged{
	ack("unknown cluster", routeType, routes(`[`+to("prefix: /", "none")+`]`)),
	nack("unknown cluster validated", routeType, part{table: `{validate_clusters: true, virtual_hosts: [{name: v, domains: ["*"], routes: [` + to("prefix: /", "none") + `]}]}`}),
	ack("unknown field", routeType, part{routes: all, change: func(c *config) {
		m, ok := c.routes[0].(*routev3.RouteConfiguration)
		if ok {
			m.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 9999, protowire.BytesType), "new"))
		}
	}}),
	ack("priority gap", edsType, assignment(`endpoints: [{priority: 0, lb_endpoints: [`+lb("b0", "")+`]}, {priority: 2, lb_endpoints: [`+lb("b1", "")+`]}]`)),
	nack("name in EDS", edsType, assignment(`endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: foo.local, port_value: 80}}}}]}]`)),
	nack("port 70000", edsType, assignment(`endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 70000}}}}]}]`)),
	nack("priority 200", edsType, assignment(`endpoints: [{priority: 200, lb_endpoints: [`+lb("b0", "")+`]}]`)),
	nack("weight 0 endpoint", edsType, assignment(`endpoints: [{lb_endpoints: [`+lb("b0", "load_balancing_weight: 0")+`]}]`)),
	nack("locality weight 0", edsType, assignment(`endpoints: [{load_balancing_weight: 0, lb_endpoints: [`+lb("b0", "")+`]}]`)),
	ack("endpoint twice", edsType, assignment(`endpoints: [{lb_endpoints: [`+lb("b0", "")+`,`+lb("b0", "")+`]}]`)),
	nack("empty EDS name", edsType, part{routes: all, clusters: []string{edsCluster("j$seq", "")}, change: func(c *config) {
		c.endpoints = append(c.endpoints, &endpointv3.ClusterLoadAssignment{ClusterName: c.name(), Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{}}}}})
	}}),
	nack("no domains", routeType, part{table: `virtual_hosts: [{name: v, routes: ` + all + `}]`}),
	ack("empty domain", routeType, part{table: `virtual_hosts: [{name: v, domains: [""], routes: ` + all + `}]`}),
	nack("two wildcards", routeType, part{table: `virtual_hosts: [{name: v, domains: ["*"]}, {name: w, domains: ["*"]}]`}),
	nack("domain twice", routeType, part{table: `virtual_hosts: [{name: v, domains: ["a"]}, {name: w, domains: ["A"]}]`}),
	ack("host name twice", routeType, part{table: `virtual_hosts: [{name: v, domains: ["a"]}, {name: v, domains: ["b"]}]`}),
	nack("host without name", routeType, part{table: `virtual_hosts: [{domains: ["a"]}]`}),
	ack("odd domain", routeType, part{table: `virtual_hosts: [{name: v, domains: ["a*b", "*x*"]}]`}),
	nack("weights 0", routeType, routes(`[{match: {prefix: /}, route: {weighted_clusters: {clusters: [{name: b0, weight: 0}]}}}]`)),
	nack("weights without clusters", routeType, routes(`[{match: {prefix: /}, route: {weighted_clusters: {}}}]`)),
	nack("weights overflow", routeType, routes(`[{match: {prefix: /}, route: {weighted_clusters: {clusters: [{name: b0, weight: 4294967295}, {name: b1, weight: 4294967295}]}}}]`)),
	nack("bad regex", routeType, routes(`[`+to(`safe_regex: {regex: "["}`, "b0")+`]`)),
	nack("lookahead", routeType, routes(`[`+to(`safe_regex: {regex: "(?=a)"}`, "b0")+`]`)),
	nack("backreference", routeType, routes(`[`+to(`safe_regex: {regex: "(a)\\1"}`, "b0")+`]`)),
	nack("empty regex", routeType, routes(`[`+to(`safe_regex: {regex: ""}`, "b0")+`]`)),
	nack("no match", routeType, routes(`[{route: {cluster: b0}}]`)),
	nack("no path", routeType, routes(`[{match: {}, route: {cluster: b0}}]`)),
	nack("no action", routeType, routes(`[{match: {prefix: /}}]`)),
	nack("no cluster", routeType, routes(`[{match: {prefix: /}, route: {}}]`)),
	nack("separated prefix with slash", routeType, routes(`[`+to(`path_separated_prefix: /a/`, "b0")+`]`)),
	nack("separated prefix relative", routeType, routes(`[`+to(`path_separated_prefix: a`, "b0")+`]`)),
	nack("separated prefix with query", routeType, routes(`[`+to(`path_separated_prefix: "/a?b"`, "b0")+`]`)),
	ack("prefix relative", routeType, routes(`[`+to(`prefix: a`, "b0")+`]`)),
	nack("header without name", routeType, routes(`[`+to(`prefix: /, headers: [{present_match: true}]`, "b0")+`]`)),
	nack("header bad name", routeType, routes(`[`+to(`prefix: /, headers: [{name: "a\nb"}]`, "b0")+`]`)),
	nack("header empty prefix", routeType, routes(`[`+to(`prefix: /, headers: [{name: a, string_match: {prefix: ""}}]`, "b0")+`]`)),
	ack("header range backwards", routeType, routes(`[`+to(`prefix: /, headers: [{name: a, range_match: {start: 5, end: 1}}]`, "b0")+`]`)),
	nack("header matcher without pattern", routeType, routes(`[`+to(`prefix: /, headers: [{name: a, string_match: {}}]`, "b0")+`]`)),
	nack("query without name", routeType, routes(`[`+to(`prefix: /, query_parameters: [{present_match: true}]`, "b0")+`]`)),
	nack("add pseudo header", routeType, routes(`[{match: {prefix: /}, route: {cluster: b0}, request_headers_to_add: [{header: {key: ":path", value: /}}]}]`)),
	nack("add host", routeType, routes(`[{match: {prefix: /}, route: {cluster: b0}, request_headers_to_add: [{header: {key: host, value: h}}]}]`)),
	nack("remove host", routeType, routes(`[{match: {prefix: /}, route: {cluster: b0}, request_headers_to_remove: [host]}]`)),
	nack("remove pseudo header", routeType, routes(`[{match: {prefix: /}, route: {cluster: b0}, request_headers_to_remove: [":method"]}]`)),
	nack("add nothing", routeType, routes(`[{match: {prefix: /}, route: {cluster: b0}, request_headers_to_add: [{}]}]`)),
	nack("add line feed", routeType, routes(`[{match: {prefix: /}, route: {cluster: b0}, request_headers_to_add: [{header: {key: a, value: "b\nc"}}]}]`)),
	nack("add unknown operator", routeType, routes(`[{match: {prefix: /}, route: {cluster: b0}, request_headers_to_add: [{header: {key: a, value: "%NOPE%"}}]}]`)),
	nack("add open operator", routeType, routes(`[{match: {prefix: /}, route: {cluster: b0}, request_headers_to_add: [{header: {key: a, value: "%REQ(x"}}]}]`)),
	nack("add half operator", routeType, routes(`[{match: {prefix: /}, route: {cluster: b0}, request_headers_to_add: [{header: {key: a, value: "50%"}}]}]`)),
	nack("both append", routeType, routes(`[{match: {prefix: /}, route: {cluster: b0}, request_headers_to_add: [{header: {key: a, value: b}, append: true, append_action: ADD_IF_ABSENT}]}]`)),
	nack("status 99", routeType, routes(`[{match: {prefix: /}, direct_response: {status: 99}}]`)),
	nack("status 700", routeType, routes(`[{match: {prefix: /}, direct_response: {status: 700}}]`)),
	nack("body too large", routeType, routes(`[{match: {prefix: /}, direct_response: {status: 200, body: {inline_string: `+strings.Repeat("x", 5000)+`}}}]`)),
	ack("body allowed", routeType, part{table: `{max_direct_response_body_size_bytes: 6000, virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /}, direct_response: {status: 200, body: {inline_string: ` + strings.Repeat("x", 5000) + `}}}]}]}`}),
	nack("redirect twice", routeType, routes(`[{match: {prefix: /}, redirect: {https_redirect: true, response_code: 9}}]`)),
	nack("rewrite line feed", routeType, routes(`[{match: {prefix: /}, route: {cluster: b0, prefix_rewrite: "/a\nb"}}]`)),
	nack("rewrite twice", routeType, routes(`[{match: {prefix: /}, route: {cluster: b0, prefix_rewrite: /a, regex_rewrite: {pattern: {regex: a}, substitution: b}}}]`)),
	ack("substitution group", routeType, routes(`[{match: {prefix: /}, route: {cluster: b0, regex_rewrite: {pattern: {regex: a}, substitution: '\3'}}}]`)),
	ack("substitution escape", routeType, routes(`[{match: {prefix: /}, route: {cluster: b0, regex_rewrite: {pattern: {regex: a}, substitution: 'a\'}}}]`)),
	ack("long timeout", routeType, routes(`[{match: {prefix: /}, route: {cluster: b0, timeout: 9223372035s}}]`)),
	nack("fraction over", routeType, routes(`[{match: {prefix: /, runtime_fraction: {}}, route: {cluster: b0}}]`)),
	ack("fraction 200", routeType, routes(`[{match: {prefix: /, runtime_fraction: {default_value: {numerator: 200}}}, route: {cluster: b0}}]`)),

	nack("cluster without name", clusterType, part{routes: all, clusters: []string{`{connect_timeout: 1s, type: STATIC}`}}),
	nack("cluster zero connect timeout", clusterType, part{routes: all, clusters: []string{`{name: j$seq, connect_timeout: 0s, ` + fits + `}`}}),
	nack("cluster static name", clusterType, cluster(`type: STATIC, load_assignment: {cluster_name: x, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: foo.local, port_value: 80}}}}]}]}`)),
	nack("cluster EDS without source", clusterType, cluster(`type: EDS`)),
	nack("cluster no assignment", clusterType, cluster(`type: STATIC, lb_policy: CLUSTER_PROVIDED`)),
	ack("cluster empty static", clusterType, cluster(`type: STATIC`)),
	nack("cluster both protocols", clusterType, cluster(fits+`, typed_extension_protocol_options: {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {"@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions}}`)),
	nack("cluster panic 150", clusterType, cluster(fits+`, common_lb_config: {healthy_panic_threshold: {value: 150}}`)),
	nack("cluster choice count 1", clusterType, cluster(fits+`, lb_policy: LEAST_REQUEST, least_request_lb_config: {choice_count: 1}`)),
	nack("cluster window", clusterType, cluster(fits+`, typed_extension_protocol_options: {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {"@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {http2_protocol_options: {initial_stream_window_size: 100}}}}`)),
	ack("cluster thresholds", clusterType, cluster(fits+`, circuit_breakers: {thresholds: [{max_requests: 4294967295, max_connections: 4294967295}, {priority: HIGH, max_retries: 4294967295}]}`)),
	ack("cluster tuning", clusterType, cluster(fits+`, alt_stat_name: a, per_connection_buffer_limit_bytes: 1000, dns_lookup_family: V4_ONLY, ignore_health_on_host_removal: true, metadata: {filter_metadata: {a: {b: 1}}}, common_lb_config: {update_merge_window: 0s}`)),
	nack("cluster DNS port", clusterType, cluster(`type: STRICT_DNS, load_assignment: {cluster_name: x, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: localhost, port_value: 70000}}}}]}]}`)),

	nack("listener without chains", listenerType, part{routes: all, listener: "filter_chains: []"}),
	nack("listener without address", listenerType, part{routes: all, change: func(c *config) {
		if l, ok := c.listeners[0].(*listenerv3.Listener); ok {
			l.Address = nil
		}
	}}),
	nack("listener port 70000", listenerType, part{routes: all, listener: "address: {socket_address: {address: 127.0.0.1, port_value: 70000}}"}),
	nack("listener name as address", listenerType, part{routes: all, listener: "address: {socket_address: {address: localhost, port_value: 0}}"}),
	nack("two listeners one address", listenerType, part{routes: all, change: func(c *config) {
		if l, ok := proto.Clone(c.listeners[0]).(*listenerv3.Listener); ok {
			l.Name = "second"
			c.listeners = append(c.listeners, l)
		}
	}}),
	ack("no router", listenerType, part{routes: all, hcm: "http_filters: []"}),
	nack("router not last", listenerType, part{routes: all, hcm: "http_filters: [" + routerFilter + ", " + routerFilter + "]"}),
	nack("no stat prefix", listenerType, part{routes: all, hcm: "stat_prefix: ''"}),
	nack("no routes", listenerType, part{routes: all, hcm: "rds: null"}),
	ack("rds without name", listenerType, part{routes: all, hcm: "rds: {config_source: {ads: {}}}"}),
	nack("unknown network filter", listenerType, part{routes: all, listener: `filter_chains: [{filters: [{name: x, typed_config: ` + foreign + `}]}]`}),
	nack("unknown listener filter", listenerType, part{routes: all, listener: `listener_filters: [{name: x, typed_config: ` + foreign + `}]`}),
	nack("headers kb 0", listenerType, part{routes: all, hcm: "max_request_headers_kb: 0"}),
	nack("streams 0", listenerType, part{routes: all, hcm: "http2_protocol_options: {max_concurrent_streams: 0}"}),
	nack("access log operator", listenerType, part{routes: all, hcm: `access_log: [{name: a, typed_config: {"@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: a.log, log_format: {text_format_source: {inline_string: "%NOPE%"}}}}]`}),
	nack("access log without path", listenerType, part{routes: all, hcm: `access_log: [{name: a, typed_config: {"@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog}}]`}),
	nack("response flag unknown", listenerType, part{routes: all, hcm: `access_log: [{name: a, filter: {response_flag_filter: {flags: [XX]}}, typed_config: {"@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: a.log}}]`}),
	nack("xff extension and remote address", listenerType, part{routes: all, hcm: `{use_remote_address: true, original_ip_detection_extensions: [{name: x, typed_config: {"@type": type.googleapis.com/envoy.extensions.http.original_ip_detection.xff.v3.XffConfig}}]}`}),
	ack("inline table", listenerType, part{routes: all, hcm: `{rds: null, route_config: {name: i, virtual_hosts: [{name: v, domains: ["*"], routes: ` + all + `}]}}`}),
	nack("inline two wildcards", listenerType, part{routes: all, hcm: `{rds: null, route_config: {name: i, virtual_hosts: [{name: v, domains: ["*"]}, {name: w, domains: ["*"]}]}}`}),
	nack("health check cache without pass through", listenerType, part{routes: all, hcm: checked("pass_through_mode: false, cache_time: 1s")}),
	ack("health check pass through with clusters", listenerType, part{routes: all, hcm: checked("pass_through_mode: true, cluster_min_healthy_percentages: {b0: {value: 1}}")}),
	ack("listener tuning", listenerType, part{routes: all, listener: "{per_connection_buffer_limit_bytes: 10000, socket_options: [{level: 1, name: 9, int_value: 1, state: STATE_PREBIND}], max_connections_to_accept_per_socket_event: 3, traffic_direction: INBOUND, stat_prefix: s}"}),
	nack("listener accept 0", listenerType, part{routes: all, listener: "max_connections_to_accept_per_socket_event: 0"}),

	// Configuration of quadnine's own, in all the places it may stand.
	nack("own filter", listenerType, httpFilter(`name: quadnine.breaker, typed_config: `+own)),
	nack("own filter struct", listenerType, httpFilter(`name: quadnine.breaker, typed_config: `+ownStruct)),
	ack("own filter optional", listenerType, httpFilter(`name: quadnine.breaker, is_optional: true, typed_config: `+own)),
	ack("own filter struct optional", listenerType, httpFilter(`name: quadnine.breaker, is_optional: true, typed_config: `+ownStruct)),
	nack("foreign filter", listenerType, httpFilter(`name: nobody, typed_config: `+foreign)),
	ack("foreign filter optional", listenerType, httpFilter(`name: nobody, is_optional: true, typed_config: `+foreign)),
	nack("own filter discovered", listenerType, httpFilter(`name: quadnine.breaker, config_discovery: {config_source: {ads: {}}, type_urls: [type.googleapis.com/quadnine.policy.v1.TenantBreaker]}`)),
	nack("own filter discovered optional", listenerType, httpFilter(`name: quadnine.breaker, is_optional: true, config_discovery: {config_source: {ads: {}}, type_urls: [type.googleapis.com/quadnine.policy.v1.TenantBreaker]}`)),
	nack("own override", routeType, perFilter(own)),
	nack("own override struct", routeType, perFilter(ownStruct)),
	nack("own override wrapped", routeType, perFilter(`{"@type": type.googleapis.com/envoy.config.route.v3.FilterConfig, config: `+own+`}`)),
	ack("own override optional", routeType, perFilter(`{"@type": type.googleapis.com/envoy.config.route.v3.FilterConfig, is_optional: true, config: `+own+`}`)),
	nack("foreign override", routeType, perFilter(foreign)),
	ack("foreign override optional", routeType, perFilter(`{"@type": type.googleapis.com/envoy.config.route.v3.FilterConfig, is_optional: true, config: `+foreign+`}`)),
	ack("metadata on route", routeType, part{table: `{metadata: {typed_filter_metadata: {q: ` + own + `}}, virtual_hosts: [{name: v, domains: ["*"], metadata: {filter_metadata: {q: {a: 1}}}, routes: [{match: {prefix: /}, route: {cluster: b0}, metadata: {filter_metadata: {q: {a: 1}}, typed_filter_metadata: {q: ` + own + `}}}]}]}`}),
	ack("metadata on listener", listenerType, part{routes: all, listener: `metadata: {filter_metadata: {q: {a: 1}}, typed_filter_metadata: {q: ` + own + `}}`}),
	ack("metadata on cluster", clusterType, cluster(fits+`, metadata: {filter_metadata: {q: {a: 1}}, typed_filter_metadata: {q: `+own+`}}`)),
	nack("own protocol options", clusterType, cluster(fits+`, typed_extension_protocol_options: {quadnine.breaker: `+own+`}`)),
	nack("own transport socket", clusterType, cluster(fits+`, transport_socket: {name: q, typed_config: `+own+`}`)),
	ack("own policy first", clusterType, cluster(fits+`, load_balancing_policy: {policies: [{typed_extension_config: {name: q, typed_config: `+own+`}}, {typed_extension_config: {name: r, typed_config: {"@type": type.googleapis.com/envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin}}}]}`)),
	nack("own policy alone", clusterType, cluster(fits+`, load_balancing_policy: {policies: [{typed_extension_config: {name: q, typed_config: `+own+`}}]}`)),
}

// name returns the name of the last cluster.
func (c *config) name() string {
	return c.clusters[len(c.clusters)-1].(interface{ GetName() string }).GetName()
}

// TestVerdicts: what is refused, and what is taken.
func TestVerdicts(t *testing.T) {
	s := newStand(t, "DELTA_GRPC")
	for _, j := range measured {
		t.Run(j.name, func(t *testing.T) { s.judge(t, j) })
	}
	t.Run("busy port", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		s.judge(t, nack("busy port", listenerType, part{routes: all, listener: "address: {socket_address: {address: 127.0.0.1, port_value: " + port + "}}"}))
	})
}

// judge pushes a resource to both and compares what they say of it.
func (s *stand) judge(t *testing.T, j judged) {
	t.Helper()
	s.seq++
	s.version++
	a := addrs(t, 2)
	s.envoy.point(t, a[0])
	s.ours.point(t, a[1])
	var keys []resourceKey
	for _, x := range s.both() {
		c := s.build(t, j.part, x.addr)
		for _, k := range s.cp.set(t, x.node, c) {
			if strings.HasSuffix(k.typeURL, "."+j.about) {
				keys = append(keys, k)
			}
		}
	}
	refused := make(map[string]string) // by node: the reason
	for k, v := range s.cp.settle(t, keys) {
		if !v.ok {
			refused[k.node] = v.text
		}
	}
	if (refused[s.envoy.node] != "") != j.refused {
		t.Errorf("%s: Envoy's verdict is %q", j.name, refused[s.envoy.node])
	}
	say := func(text string) string {
		if text == "" {
			return "ACK"
		}
		return "NACK"
	}
	e, o := refused[s.envoy.node], refused[s.ours.node]
	if say(e) != say(o) {
		report(t, j.name, e+" ‖ "+o, []difference{{"verdict", say(e), say(o)}})
	}
	if !self && (len(o) > 4096 || o != "" && !strings.Contains(o, ":")) {
		t.Errorf("%s: the reason is %d bytes: %.300s", j.name, len(o), o)
	}
	for _, x := range s.both() {
		select {
		case <-x.Done():
			t.Fatalf("%s ended: %s", x.node, tail(x.Output(), 2000))
		default:
		}
	}
}
