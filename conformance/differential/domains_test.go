package differential

import (
	"fmt"
	"strings"
)

// hosts is a route table with a virtual host of each backend's domains.
func hosts(more string, domains ...string) string {
	var b strings.Builder
	b.WriteString(more + "\nvirtual_hosts:\n")
	for i, d := range domains {
		fmt.Fprintf(&b, "- {name: v%d, domains: [%s], routes: [%s]}\n", i, d, to("prefix: /", fmt.Sprintf("b%d", i)))
	}
	return b.String()
}

var domainTrials = []trial{
	one("domain precedence", part{table: hosts("", `"*"`, `a.example`, `"*.example"`, `"*-x.example"`, `"a.*"`, `"a.b.*"`)},
		get("/").on("a.example").is("200 b1"), get("/").on("b.example").is("200 b2"), get("/").on("y-x.example").is("200 b3"), get("/").on("a.b").is("200 b4"), get("/").on("a.b.c").is("200 b5"),
		get("/").on("a.b.example"), get("/").on("example").is("200 b0"), get("/").on(".example"), get("/").on("-x.example"), get("/").on("a."), get("/").on("z").is("200 b0"), get("/").on("a.example.").is("200 b4")),
	one("domain case and port", part{table: hosts("", `"*"`, `Case.Example`, `"p.example:8080"`, `"p.example"`, `"*.port:*"`, `"q.*"`)},
		get("/").on("case.example").is("200 b1"), get("/").on("CASE.EXAMPLE").is("200 b1"), get("/").on("p.example:8080").is("200 b2"), get("/").on("p.example").is("200 b3"), get("/").on("p.example:80"), get("/").on("P.EXAMPLE:8080").is("200 b2"),
		get("/").on("a.port:1"), get("/").on("q.x:1").is("200 b5"), get("/").on("case.example:80").is("200 b0"), get("/").on("CASE.example").one().is("200 b1"), get("/").on("[::1]:80"), get("/").on("127.0.0.1")),
	one("ignore port", part{table: hosts("ignore_port_in_host_matching: true", `"*"`, `p.example`, `"*.suffix"`, `"[::1]"`)},
		get("/").on("p.example:8080").is("200 b1"), get("/").on("p.example").is("200 b1"), get("/").on("a.suffix:1").is("200 b2"), get("/").on("[::1]:80"), get("/").on("[::1]")),
	one("no domain", part{table: hosts("", `only.example`)}, get("/").on("only.example").is("200 b0"), get("/").is("404"), get("/").one().is("404")),
	one("vhost without routes", part{table: "virtual_hosts: [{name: v, domains: ['*']}]"}, get("/").is("404")),
}

var clusterChoiceTrials = []trial{
	one("weighted clusters", part{routes: `[{match: {prefix: /}, route: {weighted_clusters: {clusters: [{name: b0, weight: 90}, {name: b1, weight: 10}, {name: b2, weight: 0}]}}}]`},
		get("/").many(soakTimes), get("/").one().many(soakTimes/4)),
	one("weighted cluster headers", part{routes: `[{match: {prefix: /}, request_headers_to_add: [{header: {key: x-q, value: route}}], response_headers_to_add: [{header: {key: x-r, value: route}}], route: {weighted_clusters: {clusters: [{name: b0, weight: 1, request_headers_to_add: [{header: {key: x-q, value: w}, append_action: APPEND_IF_EXISTS_OR_ADD}], request_headers_to_remove: [x-gone], response_headers_to_add: [{header: {key: x-r, value: w}}], response_headers_to_remove: [x-secret], host_rewrite_literal: w.example}]}}}]`},
		get("/").h("x-gone", "1").h("q-set", "X-Secret=1").is("200 b0"), get("/").h("x-q", "mine").h("q-set", "X-R=app").is("200 b0")),
	one("weighted cluster header", part{routes: `[{match: {prefix: /}, route: {weighted_clusters: {clusters: [{cluster_header: x-c, weight: 1}]}}}]`},
		get("/").h("x-c", "b2").is("200 b2"), get("/").h("x-c", "nope"), get("/")),
	one("cluster header", part{routes: `[{match: {prefix: /404}, route: {cluster_header: x-c, cluster_not_found_response_code: NOT_FOUND}}, {match: {prefix: /500}, route: {cluster_header: x-c, cluster_not_found_response_code: INTERNAL_SERVER_ERROR}}, {match: {prefix: /}, route: {cluster_header: x-c}}]`},
		get("/").h("x-c", "b1").is("200 b1"), get("/").h("x-c", "none").is("503"), get("/").is("503"), get("/404").h("x-c", "none").is("404"), get("/404"), get("/500").h("x-c", "none").is("500"), get("/").h("x-c", "").is("503"), get("/").h("x-c", "b1").h("x-c", "b2"), get("/").h("x-c", "B1").is("503")),
	one("cluster missing", part{table: `{validate_clusters: false, virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /404}, route: {cluster: none, cluster_not_found_response_code: NOT_FOUND}}, {match: {prefix: /500}, route: {cluster: none, cluster_not_found_response_code: INTERNAL_SERVER_ERROR}}, {match: {prefix: /w}, route: {weighted_clusters: {clusters: [{name: none, weight: 1}]}}}, {match: {prefix: /}, route: {cluster: none}}]}]}`},
		get("/").is("503"), get("/").one().is("503"), get("/404").is("404"), get("/500").is("500"), get("/w").is("503"), post("/", "body").is("503")),
}

var answerTrials = []trial{
	one("redirect", part{routes: `[
 {match: {prefix: /https}, redirect: {https_redirect: true}},
 {match: {prefix: /host}, redirect: {host_redirect: new.example}},
 {match: {prefix: /port}, redirect: {port_redirect: 8443}},
 {match: {prefix: /path}, redirect: {path_redirect: /new}},
 {match: {prefix: /qpath}, redirect: {path_redirect: "/new?fixed=1"}},
 {match: {prefix: /prefix}, redirect: {prefix_rewrite: /p}},
 {match: {prefix: /strip}, redirect: {strip_query: true, host_redirect: s.example}},
 {match: {prefix: /307}, redirect: {host_redirect: t.example, response_code: TEMPORARY_REDIRECT}},
 {match: {prefix: /302}, redirect: {host_redirect: t.example, response_code: FOUND}},
 {match: {prefix: /303}, redirect: {host_redirect: t.example, response_code: SEE_OTHER}},
 {match: {prefix: /308}, redirect: {host_redirect: t.example, response_code: PERMANENT_REDIRECT}},
 {match: {prefix: /scheme}, redirect: {scheme_redirect: ftp, host_redirect: f.example, port_redirect: 21}},
 {match: {prefix: /regex}, redirect: {regex_rewrite: {pattern: {regex: "^/regex/([a-z]+)(/.*)?$"}, substitution: '/\1'}}},
 {match: {prefix: /all}, redirect: {https_redirect: true, host_redirect: a.example, port_redirect: 444, path_redirect: /z, strip_query: true, response_code: FOUND}},
 {match: {prefix: /add}, redirect: {host_redirect: h.example}, response_headers_to_add: [{header: {key: x-r, value: v}}], response_headers_to_remove: [server]}]`},
		get("/https/x?q=1").is("301"), get("/https").on("q.example:80").is("301"), get("/https").on("q.example:8080").is("301"), get("/host/a?b").is("301"), get("/host").on("q.example:8080").is("301"), get("/port?x").is("301"), get("/port").on("q.example:80").is("301"), get("/path/x?q=1").is("301"), get("/qpath?x=1").is("301"),
		get("/prefix/x?q").is("301"), get("/prefixed").is("301"), get("/strip/x?q=1").is("301"), get("/307").is("307"), get("/302").is("302"), get("/303").is("303"), get("/308").is("308"), get("/scheme/x").is("301"), get("/regex/abc/d?e").is("301"), get("/regex/9").is("301"), get("/all/x?q").is("302"), get("/add").is("301"), get("/host").one().is("301"), post("/307", "body").is("307"), get("/https").on("[::1]:80").is("301")),
	one("direct response", part{routes: `[
 {match: {prefix: /plain}, direct_response: {status: 200, body: {inline_string: hello}}},
 {match: {prefix: /empty}, direct_response: {status: 404}},
 {match: {prefix: /204}, direct_response: {status: 204}},
 {match: {prefix: /teapot}, direct_response: {status: 418, body: {inline_bytes: "AAEC"}}},
 {match: {prefix: /type}, direct_response: {status: 201, body: {inline_string: "{}"}}, response_headers_to_add: [{header: {key: content-type, value: application/json}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}, {header: {key: x-a, value: b}}]},
 {match: {prefix: /503}, direct_response: {status: 503, body: {inline_string: down}}}]`},
		get("/plain").keeps("content-length").is("200"), get("/plain").one().keeps("content-length").is("200"), get("/empty").is("404"), get("/204").is("204"), get("/204").one().is("204"), get("/teapot").keeps("content-length").is("418"), get("/type").is("201"), get("/503").is("503"), post("/plain", "xyz").is("200"), post("/plain", "xyz").one().is("200"),
		&request{method: "HEAD", target: "/plain", host: "q.example", patience: within, times: 1, want: "200"}, &request{method: "HEAD", target: "/plain", host: "q.example", patience: within, times: 1, h1: true, want: "200"}),
	one("no route", part{routes: `[` + to("path: /only", "b0") + `]`}, get("/").is("404"), get("/").one().is("404"), post("/", "x").is("404"), get("/only").is("200 b0"),
		&request{method: "OPTIONS", target: "*", host: "q.example", patience: within, times: 1}),
}
