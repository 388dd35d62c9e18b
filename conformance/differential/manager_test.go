package differential

import (
	"net/http"
	"strings"
	"testing"
)

// all routes everything to b0.
const all = `[{match: {prefix: /}, route: {cluster: b0}}]`

// callers are requests with what callers may claim of where they come from.
func callers() []*request {
	return []*request{
		get("/").is("200 b0"), get("/").one().is("200 b0"),
		get("/").h("x-forwarded-for", "1.2.3.4"), get("/").h("x-forwarded-for", "1.2.3.4, 10.0.0.9"), get("/").h("x-forwarded-for", "10.0.0.9"), get("/").h("x-forwarded-for", "1.2.3.4,5.6.7.8 ,9.9.9.9"),
		get("/").h("x-forwarded-for", "junk"), get("/").h("x-forwarded-for", "1.2.3.4").h("x-forwarded-for", "10.0.0.1"), get("/").h("x-forwarded-for", "::1"), get("/").h("x-forwarded-for", ""),
		get("/").h("x-forwarded-proto", "https"), get("/").h("x-forwarded-proto", "https").h("x-forwarded-for", "10.1.1.1"), get("/").h("x-forwarded-host", "h.example"), get("/").h("x-forwarded-port", "99"),
		get("/").h("x-envoy-internal", "true"), get("/").h("x-envoy-external-address", "7.7.7.7"), get("/").h("x-envoy-downstream-service-cluster", "c").h("x-envoy-downstream-service-node", "n"),
		get("/").h("x-envoy-retry-on", "5xx").h("x-envoy-max-retries", "3"), get("/").h("x-envoy-force-trace", "1"), get("/").h("x-envoy-decorator-operation", "op").h("x-envoy-ip-tags", "t").h("x-envoy-hedge-on-per-try-timeout", "true"), get("/").h("x-envoy-retry-on", "5xx").h("x-forwarded-for", "10.0.0.1"),
		get("/").h("via", "1.1 x").h("forwarded", "for=1.1.1.1").h("x-real-ip", "2.2.2.2"),
		get("/").h("x-envoy-attempt-count", "9").h("x-envoy-expected-rq-timeout-ms", "1"), get("/").h("x-envoy-original-path", "/forged"), get("/").h("x-envoy-original-host", "forged"), get("/").h("x-client-trace-id", "t"),
	}
}

var addressTrials = []trial{
	one("xff transparent", part{routes: all}, callers()...),
	one("xff remote address", part{hcm: "use_remote_address: true", routes: all}, callers()...),
	one("xff remote address hops", part{hcm: "{use_remote_address: true, xff_num_trusted_hops: 1}", routes: all}, callers()...),
	one("xff hops", part{hcm: "xff_num_trusted_hops: 1", routes: all}, callers()...),
	one("xff skip append", part{hcm: "{use_remote_address: true, skip_xff_append: true}", routes: all}, callers()...),
	one("xff extension", part{hcm: `original_ip_detection_extensions: [{name: envoy.http.original_ip_detection.xff, typed_config: {"@type": type.googleapis.com/envoy.extensions.http.original_ip_detection.xff.v3.XffConfig, xff_num_trusted_hops: 1}}]`, routes: all}, callers()...),
	one("xff extension append", part{hcm: `original_ip_detection_extensions: [{name: envoy.http.original_ip_detection.xff, typed_config: {"@type": type.googleapis.com/envoy.extensions.http.original_ip_detection.xff.v3.XffConfig, xff_num_trusted_hops: 0, skip_xff_append: false}}]`, routes: all}, callers()...),
}

const someID = "0af76519-16cd-43dd-8448-eb211c80319c"

func ids() []*request {
	return []*request{
		get("/").is("200 b0"), get("/").h("x-request-id", someID).is("200 b0"), get("/").h("x-request-id", "not-a-uuid").is("200 b0"), get("/").h("x-request-id", someID).h("x-forwarded-for", "10.0.0.1"), get("/").h("x-request-id", someID).h("x-forwarded-for", "8.8.8.8"), get("/").h("x-request-id", ""),
		get("/").h("q-set", "X-Request-Id=theirs").is("200 b0"), get("/").h("x-request-id", someID).one().is("200 b0"),
	}
}

var idTrials = []trial{
	one("request id", part{routes: all}, ids()...),
	one("request id edge", part{hcm: "use_remote_address: true", routes: all}, ids()...),
	one("request id preserved", part{hcm: "{use_remote_address: true, preserve_external_request_id: true}", routes: all}, ids()...),
	one("request id none", part{hcm: "generate_request_id: false", routes: all}, ids()...),
	one("request id edge none", part{hcm: "{generate_request_id: false, use_remote_address: true}", routes: all}, ids()...),
	one("request id plain", part{hcm: `request_id_extension: {typed_config: {"@type": type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig, pack_trace_reason: false}}`, routes: all}, ids()...),
}

func paths() (out []*request) {
	for _, p := range []string{"/a/./b", "/a/../b", "/a//b", "//a", "/a%2Fb", "/a%2fb?x=%2F", "/a%5Cb", "/a%5cb", "/a/%2e%2e/b", "/a/%2E/b", "/../x", "/a/b/..", "/a/b/.", "/a\\b", "/%41%7e", "/a%", "/a%zz", "/a?b=/../c", "/a/..;/b", "/a///b//", "/", "/%00", "/a%2F%2Fb", "/%c3%a9", "/a%20b", "/.%2e/x", "/a/b%2F..%2Fc"} {
		out = append(out, get(p), get(p).one())
	}
	return out
}

var normalTrials = []trial{
	one("path as is", part{routes: all}, paths()...),
	one("path normalize", part{hcm: "normalize_path: true", routes: all}, paths()...),
	one("path merge slashes", part{hcm: "merge_slashes: true", routes: all}, paths()...),
	one("path normalize and merge", part{hcm: "{normalize_path: true, merge_slashes: true}", routes: `[` + to("prefix: /b", "b1") + `,` + to("prefix: /a/b", "b2") + `,` + to("prefix: /", "b0") + `]`}, paths()...),
	one("path escaped reject", part{hcm: "{normalize_path: true, path_with_escaped_slashes_action: REJECT_REQUEST}", routes: all}, paths()...),
	one("path escaped redirect", part{hcm: "{normalize_path: true, path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT}", routes: all}, paths()...),
	one("path escaped forward", part{hcm: "{normalize_path: true, merge_slashes: true, path_with_escaped_slashes_action: UNESCAPE_AND_FORWARD}", routes: all}, paths()...),
	one("path escaped keep", part{hcm: "{path_with_escaped_slashes_action: KEEP_UNCHANGED}", routes: all}, paths()...),
}

// servers are requests whose answers do, and do not, name a server themselves.
func servers() []*request {
	return []*request{
		get("/").keeps("server").is("200 b0"), get("/").h("q-set", "Server=app").is("200 b0"), get("/none").is("404"), get("/direct").is("200"), get("/").h("q-set", "Server=app").one().is("200 b0"), get("/gone").is("503"),
	}
}

const serverRoutes = `[{match: {path: /}, route: {cluster: b0}}, {match: {path: /direct}, direct_response: {status: 200}}, {match: {path: /gone}, route: {cluster: none}}]`

var serverTrials = []trial{
	one("server overwrite", part{routes: serverRoutes}, servers()...),
	one("server named", part{hcm: "server_name: mine", routes: serverRoutes}, servers()...),
	one("server append", part{hcm: "{server_name: mine, server_header_transformation: APPEND_IF_ABSENT}", routes: serverRoutes}, servers()...),
	one("server pass through", part{hcm: "{server_name: mine, server_header_transformation: PASS_THROUGH}", routes: serverRoutes}, servers()...),
}

// checked puts a health check filter before the router.
func checked(fields string) string {
	return `http_filters: [{name: envoy.filters.http.health_check, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck, ` + fields + `}}, ` + routerFilter + `]`
}

// fails tells both that their health check fails, or no longer does.
func fails(path string) func(s *stand, x *proxy) {
	return func(_ *stand, x *proxy) { x.askTest(http.MethodPost, path) }
}

var healthTrials = []trial{
	one("health check answered", part{hcm: checked(`pass_through_mode: false, headers: [{name: ":path", string_match: {exact: /healthz}}]`), routes: all},
		get("/healthz").is("200"), get("/healthz?x"), get("/healthz").one().is("200"), get("/other").is("200 b0"),
		withBefore(get("/healthz").is("503"), fails("/healthcheck/fail")), get("/other").is("200 b0"), get("/other").one().is("200 b0"), withBefore(get("/healthz").is("200"), fails("/healthcheck/ok"))),
	one("health check passed through", part{hcm: checked(`pass_through_mode: true, headers: [{name: ":path", string_match: {exact: /healthz}}]`), routes: all},
		get("/healthz").is("200 b0"), get("/healthz").h("q-status", "503").is("503 b0"), withBefore(get("/healthz").is("503"), fails("/healthcheck/fail")), withBefore(get("/healthz").is("200 b0"), fails("/healthcheck/ok"))),
	one("health check cached", part{hcm: checked(`pass_through_mode: true, cache_time: 5s, headers: [{name: ":path", string_match: {exact: /healthz}}, {name: ":method", string_match: {exact: GET}}]`), routes: all},
		get("/healthz").h("q-status", "418").is("418 b0"), get("/healthz").is("418"), post("/healthz", "x").is("200 b0"), get("/").is("200 b0")),
	one("health check of clusters", part{
		hcm: checked(`pass_through_mode: false, cluster_min_healthy_percentages: {half$seq: {value: 50}}, headers: [{name: ":path", string_match: {exact: /healthz}}]`), routes: all,
		clusters: []string{edsCluster("half$seq", "")}, endpoints: []string{assign("half$seq", lb("b0", ""), lb("b1", "health_status: UNHEALTHY"))},
	},
		get("/healthz").is("200")),
	one("health check of sick clusters", part{
		hcm: checked(`pass_through_mode: false, cluster_min_healthy_percentages: {half$seq: {value: 51}}, headers: [{name: ":path", string_match: {exact: /healthz}}]`), routes: all,
		clusters: []string{edsCluster("half$seq", "")}, endpoints: []string{assign("half$seq", lb("b0", ""), lb("b1", "health_status: UNHEALTHY"))},
	},
		get("/healthz").is("503")),
	one("health check of unknown cluster", part{hcm: checked(`pass_through_mode: false, cluster_min_healthy_percentages: {nope: {value: 1}}, headers: [{name: ":path", string_match: {exact: /healthz}}]`), routes: all},
		get("/healthz").is("503")),
}

func withBefore(r *request, f func(s *stand, x *proxy)) *request { r.before = f; return r }

// absolute is a request over HTTP/1.1 whose target names an authority, and whose
// host field names another.
func absolute(target string) *request {
	r := get(target).one()
	r.absolute = true
	return r
}

// many header fields of n bytes in all.
func large(r *request, fields, size int) *request {
	for i := range fields {
		r.h("x-l"+itoa(i), strings.Repeat("v", size))
	}
	return r
}

var limitTrials = []trial{
	one("headers too large", part{hcm: "max_request_headers_kb: 4", routes: all},
		large(get("/"), 1, 3000).is("200 b0"), large(get("/"), 1, 5000).is("error"), large(get("/"), 1, 5000).one().is("431"), large(get("/"), 10, 500).is("error"), large(get("/"), 10, 500).one().is("431"), get("/").is("200 b0")),
	one("headers too many", part{hcm: "common_http_protocol_options: {max_headers_count: 20}", routes: all},
		large(get("/"), 10, 1).is("200 b0"), large(get("/"), 30, 1).is("error"), large(get("/"), 30, 1).one().is("431")),
	one("headers default limit", part{routes: all}, large(get("/"), 1, 40_000).is("200 b0"), large(get("/"), 90, 500).is("200 b0"), large(get("/"), 120, 10).is("error"), large(get("/"), 70, 1000).is("error"), large(get("/"), 70, 1000).one().is("431")),
	one("underscores rejected", part{hcm: "common_http_protocol_options: {headers_with_underscores_action: REJECT_REQUEST}", routes: all}, get("/").h("x_u", "1").one().is("400"), get("/").h("x-u", "1").one().is("200 b0"), get("/").h("x-u", "1").is("200 b0")),
	one("underscores dropped", part{hcm: "common_http_protocol_options: {headers_with_underscores_action: DROP_HEADER}", routes: all}, get("/").h("x_u", "1").h("x-u", "2").one().is("200 b0"), get("/").h("x_u", "1").h("x-u", "2").is("200 b0")),
	one("codec h1 only", part{hcm: "codec_type: HTTP1", routes: all}, get("/").one().is("200 b0")),
	one("codec h2 only", part{hcm: "codec_type: HTTP2", routes: all}, get("/").is("200 b0")),
	one("malformed te", part{routes: all}, get("/").h("te", "gzip").alone()),
	one("unknown expectation", part{routes: all}, get("/").h("expect", "x").one()),
	one("absolute form", part{routes: all}, absolute("//abs.example/abs").is("200 b0"), absolute("//abs.example:99/").is("200 b0"), absolute("//abs.example/?q").is("200 b0")),
	one("odd requests", part{routes: all}, get("/").h("te", "trailers").is("200 b0"), get("/").h("te", "trailers").one(), get("/").h("x-under_score", "1"), get("/").h("connection", "x-hop").h("x-hop", "1").one(), get("/").h("keep-alive", "1").one(), get("/").h("proxy-connection", "x").one(), get("/").h("upgrade", "websocket").h("connection", "upgrade").one(), get("/").h("cookie", "a=1").h("cookie", "b=2"), get("/").h("x-utf", "\u00e9"), get("/").h("user-agent", ""),

		get("/").on(""), get("/").on("bad host"), get("/").on("user@host"), get("/").on("a,b"), &request{method: "PURGE", target: "/", host: "q.example", patience: within, times: 1}, &request{method: "CONNECT", target: "q.example:80", host: "q.example:80", patience: within, times: 1}, &request{method: "TRACE", target: "/", host: "q.example", patience: within, times: 1}, &request{method: "HEAD", target: "/", host: "q.example", patience: within, times: 1}),
	one("odd responses", part{routes: all}, get("/").h("q-trailer", "x-t=1"), get("/").h("q-trailer", "x-t=1").one(), get("/").h("q-status", "204"), get("/").h("q-status", "204").one(), get("/").h("q-status", "304"), get("/").h("q-abort", "1"), get("/").h("q-abort", "1").one(), get("/").h("q-size", "300000"), get("/").h("q-size", "300000").one(), get("/").h("q-size", "0").keeps("content-length"), get("/").h("q-set", "X-Envoy-Overloaded=true"), get("/").h("q-set", "X-Envoy-Upstream-Canary=true").h("q-set", "X-Envoy-Immediate-Health-Check-Fail=1"), get("/").h("q-status", "503"), get("/").h("q-set", "Connection=close"), get("/").h("q-set", "Set-Cookie=a=1").h("q-set", "Set-Cookie=b=2")),
}

func TestManager(t *testing.T) {
	s := newStand(t, "DELTA_GRPC")
	s.run(t, addressTrials)
	s.run(t, idTrials)
	s.run(t, normalTrials)
	s.run(t, serverTrials)
	s.run(t, healthTrials)
	s.run(t, limitTrials)
}
