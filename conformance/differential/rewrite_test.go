package differential

import "testing"

// names is a STRICT_DNS cluster with a hostname of its own for its endpoints.
const names = `{name: names$seq, type: STRICT_DNS, dns_lookup_family: V4_ONLY, connect_timeout: 5s, typed_extension_protocol_options: {` + h2Options + `}, load_assignment: {cluster_name: names$seq, endpoints: [{lb_endpoints: [{endpoint: {hostname: app.internal, address: {socket_address: {address: localhost, port_value: "${b4}"}}}}]}]}}`

// resolved is one whose endpoints have no hostname but their address.
const resolved = `{name: resolved$seq, type: STRICT_DNS, dns_lookup_family: V4_ONLY, connect_timeout: 5s, typed_extension_protocol_options: {` + h2Options + `}, load_assignment: {cluster_name: resolved$seq, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: localhost, port_value: "${b5}"}}}}]}]}}`

var rewriteTrials = []trial{
	one("prefix rewrite", part{routes: `[
 {match: {prefix: /api/v2/}, route: {cluster: b0, prefix_rewrite: /v3}},
 {match: {prefix: /a}, route: {cluster: b0, prefix_rewrite: /}},
 {match: {path: /exact}, route: {cluster: b0, prefix_rewrite: /other}},
 {match: {path_separated_prefix: /sep}, route: {cluster: b0, prefix_rewrite: /s}},
 {match: {prefix: /Case, case_sensitive: false}, route: {cluster: b0, prefix_rewrite: /c}},
 {match: {safe_regex: {regex: "/re/.*"}}, route: {cluster: b0, prefix_rewrite: /whole}},
 {match: {prefix: /}, route: {cluster: b1}}]`},
		get("/api/v2/q").is("200 b0"), get("/api/v2/?x=1").is("200 b0"), get("/a/b?c").is("200 b0"), get("/ab").is("200 b0"), get("/a").is("200 b0"), get("/exact?q").is("200 b0"), get("/sep").is("200 b0"), get("/sep/x?y").is("200 b0"), get("/CASE/X").is("200 b0"), get("/re/x?q").is("200 b0"), get("/none").is("200 b1"), get("/none").h("x-envoy-original-path", "/forged").is("200 b1"), get("/a/b").h("x-envoy-original-path", "/forged")),
	one("regex rewrite", part{routes: `[
 {match: {prefix: /m}, route: {cluster: b0, regex_rewrite: {pattern: {regex: "^/m/([^/]+)/(.*)$"}, substitution: '/\2/\1'}}},
 {match: {prefix: /g}, route: {cluster: b0, regex_rewrite: {pattern: {regex: "o"}, substitution: "0"}}},
 {match: {prefix: /d}, route: {cluster: b0, regex_rewrite: {pattern: {regex: "/d"}, substitution: '/$1\\x\0'}}},
 {match: {prefix: /e}, route: {cluster: b0, regex_rewrite: {pattern: {regex: "x+"}, substitution: "-"}}}]`},
		get("/m/one/two?three").is("200 b0"), get("/m/one").is("200 b0"), get("/go/oo?oo").is("200 b0"), get("/d/d").is("200 b0"), get("/exxy").is("200 b0")),
	one("host rewrite", part{clusters: []string{names, resolved}, routes: `[
 {match: {prefix: /lit}, route: {cluster: b0, host_rewrite_literal: l.example}},
 {match: {prefix: /xlit}, route: {cluster: b0, host_rewrite_literal: l.example, append_x_forwarded_host: true}},
 {match: {prefix: /auto}, route: {cluster: names$seq, auto_host_rewrite: true}},
 {match: {prefix: /res}, route: {cluster: resolved$seq, auto_host_rewrite: true}},
 {match: {prefix: /xauto}, route: {cluster: names$seq, auto_host_rewrite: true, append_x_forwarded_host: true}},
 {match: {prefix: /static}, route: {cluster: b0, auto_host_rewrite: true}},
 {match: {prefix: /head}, route: {cluster: b0, host_rewrite_header: x-host}},
 {match: {prefix: /xhead}, route: {cluster: b0, host_rewrite_header: x-host, append_x_forwarded_host: true}},
 {match: {prefix: /none}, route: {cluster: b0, append_x_forwarded_host: true}},
 {match: {prefix: /path}, route: {cluster: b0, host_rewrite_path_regex: {pattern: {regex: "^/path/([a-z.]+)/.*$"}, substitution: '\1'}}}]`},
		get("/lit").is("200 b0"), get("/lit").one().is("200 b0"), get("/xlit").is("200 b0"), get("/xlit").h("x-forwarded-host", "was.example").is("200 b0"), get("/auto").is("200 b4"), get("/res").is("200 b5"), get("/xauto").is("200 b4"), get("/static").is("200 b0"), get("/head").h("x-host", "h.example").is("200 b0"), get("/head").is("200 b0"), get("/head").h("x-host", ""), get("/xhead").h("x-host", "h.example"), get("/none").is("200 b0"), get("/path/a.b/c?d").is("200 b0"), get("/path/9/x").is("200 b0"), get("/lit").on("q.example:99")),
}

const addAll = `
  - {header: {key: x-app, value: %[1]s}, append_action: APPEND_IF_EXISTS_OR_ADD}
  - {header: {key: x-abs, value: %[1]s}, append_action: ADD_IF_ABSENT}
  - {header: {key: x-set, value: %[1]s}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}
  - {header: {key: x-if, value: %[1]s}, append_action: OVERWRITE_IF_EXISTS}
`

var mutationTrials = []trial{
	one("header append actions", part{table: `
virtual_hosts:
- name: v
  domains: ["*"]
  routes: [{match: {prefix: /}, route: {cluster: b0}}]
  request_headers_to_add:` + sprintf(addAll, "v") + `  response_headers_to_add:` + sprintf(addAll, "w")},
		get("/").is("200 b0"), get("/").h("x-app", "c").h("x-abs", "c").h("x-set", "c").h("x-if", "c").is("200 b0"), get("/").h("x-app", "c").h("x-app", "d").h("x-set", "c").h("x-set", "d").h("x-if", "c").h("x-if", "d").one().is("200 b0"),
		get("/").h("q-set", "X-App=s").h("q-set", "X-Abs=s").h("q-set", "X-Set=s").h("q-set", "X-If=s").is("200 b0"), get("/").h("x-abs", "").h("x-if", "")),
	one("header mutation levels", part{table: `
request_headers_to_add: [{header: {key: x-o, value: table}}, {header: {key: x-s, value: table}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}, {header: {key: x-a, value: table}, append_action: ADD_IF_ABSENT}]
request_headers_to_remove: [x-rt]
response_headers_to_add: [{header: {key: x-o, value: table}}, {header: {key: x-s, value: table}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}]
response_headers_to_remove: [x-rt]
virtual_hosts:
- name: v
  domains: ["*"]
  request_headers_to_add: [{header: {key: x-o, value: host}}, {header: {key: x-s, value: host}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}, {header: {key: x-a, value: host}, append_action: ADD_IF_ABSENT}]
  request_headers_to_remove: [x-rh]
  response_headers_to_add: [{header: {key: x-o, value: host}}, {header: {key: x-s, value: host}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}]
  response_headers_to_remove: [x-rh, x-o2]
  routes:
  - match: {prefix: /}
    route: {cluster: b0}
    request_headers_to_add: [{header: {key: x-o, value: route}}, {header: {key: x-s, value: route}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}, {header: {key: x-a, value: route}, append_action: ADD_IF_ABSENT}]
    request_headers_to_remove: [x-rr, x-o2]
    response_headers_to_add: [{header: {key: x-o, value: route}}, {header: {key: x-o2, value: route}}, {header: {key: x-s, value: route}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}]
    response_headers_to_remove: [x-rr]
`}, levelRequests()...),
	one("most specific wins", part{table: `
most_specific_header_mutations_wins: true
request_headers_to_add: [{header: {key: x-o, value: table}}, {header: {key: x-s, value: table}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}]
response_headers_to_add: [{header: {key: x-o, value: table}}, {header: {key: x-s, value: table}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}]
response_headers_to_remove: [x-rt]
virtual_hosts:
- name: v
  domains: ["*"]
  routes:
  - match: {prefix: /}
    route: {cluster: b0}
    request_headers_to_add: [{header: {key: x-o, value: route}}, {header: {key: x-s, value: route}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}]
    response_headers_to_add: [{header: {key: x-o, value: route}}, {header: {key: x-s, value: route}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}, {header: {key: x-rt, value: back}}]
`}, levelRequests()...),
	one("header values", part{routes: `[{match: {prefix: /}, route: {cluster: b0}, request_headers_to_add: [
 {header: {key: x-req, value: "%REQ(x-in)%"}}, {header: {key: x-alt, value: "a%REQ(x-none?:path)%b"}}, {header: {key: x-pct, value: "100%%"}}, {header: {key: x-proto, value: "%PROTOCOL%"}}, {header: {key: x-peer, value: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}},
 {header: {key: x-empty, value: ""}}, {header: {key: x-kept, value: ""}, keep_empty_value: true}, {header: {key: x-cut, value: "%REQ(:path):4%"}}, {header: {key: x-gone, value: "%REQ(x-none)%"}}, {header: {key: X-Upper, value: "Mixed Case"}}],
 response_headers_to_add: [{header: {key: x-cl, value: "%UPSTREAM_CLUSTER%"}}, {header: {key: x-code, value: "%RESPONSE_CODE%"}}, {header: {key: x-resp, value: "%RESP(x-backend)%"}}, {header: {key: x-req, value: "%REQ(:METHOD)%"}}, {header: {key: x-rn, value: "%ROUTE_NAME%"}}], name: route-name}]`},
		get("/abcdef?x").h("x-in", "value").is("200 b0"), get("/").is("200 b0"), get("/").one().is("200 b0"), post("/", "x").h("q-status", "418").is("418 b0")),
	one("local reply headers", part{routes: `[{match: {prefix: /}, route: {cluster: none}, response_headers_to_add: [{header: {key: x-l, value: "%RESPONSE_CODE%"}}]}]`}, get("/").is("503")),
	one("host header mutation", part{routes: `[{match: {prefix: /}, route: {cluster: b0}, request_headers_to_add: [{header: {key: x-host, value: "%REQ(:AUTHORITY)%"}}, {header: {key: x-path, value: "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"}}]}]`},
		get("/x?y").is("200 b0"), get("/x?y").one().is("200 b0")),
}

func levelRequests() []*request {
	return []*request{
		get("/").is("200 b0"),
		get("/").h("x-o", "c").h("x-s", "c").h("x-a", "c").h("x-rt", "1").h("x-rh", "1").h("x-rr", "1").h("x-o2", "1").is("200 b0"),
		get("/").h("q-set", "X-O=s").h("q-set", "X-S=s").h("q-set", "X-Rt=1").h("q-set", "X-Rh=1").h("q-set", "X-Rr=1").h("q-set", "X-O2=s").is("200 b0"),
	}
}

var timeoutTrials = []trial{
	one("route timeout", part{routes: `[{match: {prefix: /short}, route: {cluster: b0, timeout: 0.3s}}, {match: {prefix: /none}, route: {cluster: b0, timeout: 0s}}, {match: {prefix: /idle}, route: {cluster: b0, timeout: 0s, idle_timeout: 0.3s}}, {match: {prefix: /noidle}, route: {cluster: b0, timeout: 0s, idle_timeout: 0s}}, {match: {prefix: /}, route: {cluster: b0}}]`},
		get("/short").h("q-delay", "2s").is("504"), get("/short").h("q-delay", "2s").one().is("504"), get("/short").is("200 b0"), post("/short", "body").h("q-delay", "2s").is("504"),
		get("/none").h("q-delay", "500ms").is("200 b0"), get("/idle").h("q-delay", "2s"), get("/idle").h("q-delay", "2s").one(), get("/idle").h("q-stall", "2s"), get("/noidle").h("q-delay", "400ms").is("200 b0"),
		get("/short").h("q-stall", "2s"),
		get("/").h("x-envoy-upstream-rq-timeout-ms", "200").h("q-delay", "500ms").is("200 b0"), get("/").h("x-forwarded-for", "10.0.0.1").h("x-envoy-upstream-rq-timeout-ms", "200").h("q-delay", "400ms").is("200 b0"), get("/short").h("x-forwarded-for", "10.0.0.1").h("x-envoy-upstream-rq-timeout-ms", "0").h("q-delay", "500ms"), get("/").h("x-envoy-upstream-rq-timeout-ms", "x").is("200 b0"), get("/short").h("x-forwarded-for", "10.0.0.1").h("x-envoy-upstream-rq-timeout-ms", "2000").h("q-delay", "600ms"), get("/").h("x-forwarded-for", "10.0.0.1").h("x-envoy-upstream-rq-timeout-ms", "x").is("200 b0"), get("/").h("x-envoy-expected-rq-timeout-ms", "77").is("200 b0")),
	one("stream idle timeout", part{hcm: "stream_idle_timeout: 0.3s", routes: `[{match: {prefix: /own}, route: {cluster: b0, timeout: 0s, idle_timeout: 0s}}, {match: {prefix: /}, route: {cluster: b0, timeout: 0s}}]`},
		get("/").h("q-delay", "2s"), get("/").h("q-stall", "2s"), get("/own").h("q-delay", "600ms").is("200 b0"), get("/").is("200 b0")),
	one("suppressed fields", part{hcm: `http_filters: [{name: envoy.filters.http.router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router, suppress_envoy_headers: true}}]`, routes: `[{match: {prefix: /}, route: {cluster: b0, prefix_rewrite: /x/}}, {match: {prefix: /}, route: {cluster: none}}]`},
		get("/").is("200 b0"), get("/a").h("x-envoy-upstream-rq-timeout-ms", "5000")),
}

func TestRouting(t *testing.T) {
	s := newStand(t, "DELTA_GRPC")
	s.run(t, domainTrials)
	s.run(t, clusterChoiceTrials)
	s.run(t, answerTrials)
	s.run(t, rewriteTrials)
	s.run(t, mutationTrials)
	s.run(t, timeoutTrials)
}
