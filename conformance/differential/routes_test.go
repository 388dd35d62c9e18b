package differential

import "testing"

// to is a route in YAML.
func to(match, cluster string) string {
	return "{match: {" + match + "}, route: {cluster: " + cluster + "}}"
}

var pathTrials = []trial{
	one("prefix order", part{routes: `[` + to("prefix: /a/b", "b0") + `,` + to("prefix: /a", "b1") + `,` + to("prefix: /a/c", "b2") + `,` + to("prefix: /", "b3") + `]`},
		get("/a/b/x").is("200 b0"), get("/a/bc").is("200 b0"), get("/a/c").is("200 b1"), get("/ab").is("200 b1"), get("/").is("200 b3"),
		get("/A/b").is("200 b3"), get("/a/b/x").one().is("200 b0"), post("/a/c", "hello").is("200 b1"), post("/a/c", "hello").one().is("200 b1"), get("/?/a").is("200 b3")),
	one("exact path", part{routes: `[` + to("path: /a", "b0") + `,` + to("path: /a/", "b1") + `,` + to("path: '/q%3Fx'", "b2") + `]`},
		get("/a").is("200 b0"), get("/a?x=1").is("200 b0"), get("/a?").is("200 b0"), get("/a/").is("200 b1"), get("/ab").is("404"), get("/q%3Fx").is("200 b2"), get("/q%3fx").is("404"), get("/a;v=1").is("404"), get("/a").one().is("200 b0"), get("/none").one().is("404")),
	one("path separated prefix", part{routes: `[` + to("path_separated_prefix: /a", "b0") + `,` + to("path_separated_prefix: /B/c, case_sensitive: false", "b2") + `,` + to("prefix: /", "b1") + `]`},
		get("/a").is("200 b0"), get("/a/").is("200 b0"), get("/a/b").is("200 b0"), get("/ab").is("200 b1"), get("/a?x").is("200 b0"), get("/a?/").is("200 b0"), get("/b/C").is("200 b2"), get("/b/C/d").is("200 b2"), get("/b/cd").is("200 b1")),
	one("safe regex", part{routes: `[` + to(`safe_regex: {regex: "/a/[0-9]+"}`, "b0") + `,` + to(`safe_regex: {regex: "/b/.*"}`, "b1") + `,` + to(`safe_regex: {regex: "/c|/d/e"}`, "b2") + `,` + to(`safe_regex: {regex: "(?i)/Up/[a-c]{2,3}$"}`, "b3") + `]`},
		get("/a/12").is("200 b0"), get("/a/12/").is("404"), get("/x/a/12").is("404"), get("/a/12?b=/").is("200 b0"), get("/b/").is("200 b1"), get("/b").is("404"), get("/c").is("200 b2"), get("/d/e").is("200 b2"), get("/c/e").is("404"), get("/uP/AbC").is("200 b3"), get("/up/a").is("404")),
	one("path with fragment", part{routes: `[` + to("prefix: /", "b0") + `]`}, get("/a#b").alone(), get("/a?k=v#x").alone(), get("/a#b").one()),
	one("case insensitive", part{routes: `[` + to("prefix: /Abc, case_sensitive: false", "b0") + `,` + to("path: /X/y, case_sensitive: false", "b1") + `,` + to("prefix: /abd", "b2") + `,` + to(`safe_regex: {regex: "/re/x"}, case_sensitive: false`, "b3") + `]`},
		get("/aBC/d").is("200 b0"), get("/ABCD").is("200 b0"), get("/x/Y").is("200 b1"), get("/x/Y/").is("404"), get("/ABD").is("404"), get("/abd").is("200 b2"), get("/RE/X").is("404"), get("/re/x").is("200 b3")),
}

var headerTrials = []trial{
	one("header string kinds", part{routes: `[` +
		to(`prefix: /, headers: [{name: x-k, string_match: {exact: one}}]`, "b0") + `,` +
		to(`prefix: /, headers: [{name: x-k, string_match: {prefix: two}}]`, "b1") + `,` +
		to(`prefix: /, headers: [{name: x-k, string_match: {suffix: end}}]`, "b2") + `,` +
		to(`prefix: /, headers: [{name: x-k, string_match: {contains: mid}}]`, "b3") + `,` +
		to(`prefix: /, headers: [{name: x-k, string_match: {safe_regex: {regex: "[a-f]+[0-9]"}}}]`, "b4") + `,` +
		to(`prefix: /, headers: [{name: x-k, string_match: {exact: CaSe, ignore_case: true}}]`, "b5") + `]`},
		get("/").h("x-k", "one").is("200 b0"), get("/").h("X-K", "one").one().is("200 b0"), get("/").h("x-k", "One").is("404"), get("/").h("x-k", "two-and").is("200 b1"),
		get("/").h("x-k", "the-end").is("200 b2"), get("/").h("x-k", "amidst").is("200 b3"), get("/").h("x-k", "abc1").is("200 b4"), get("/").h("x-k", "xabc1").is("404"), get("/").h("x-k", "abc12").is("404"),
		get("/").h("x-k", "cAsE").is("200 b5"), get("/").h("x-k", "").is("404"), get("/").is("404")),
	one("header legacy kinds", part{routes: `[` +
		to(`prefix: /, headers: [{name: x-k, exact_match: one}]`, "b0") + `,` +
		to(`prefix: /, headers: [{name: x-k, prefix_match: two}]`, "b1") + `,` +
		to(`prefix: /, headers: [{name: x-k, suffix_match: end}]`, "b2") + `,` +
		to(`prefix: /, headers: [{name: x-k, contains_match: mid}]`, "b3") + `,` +
		to(`prefix: /, headers: [{name: x-k, safe_regex_match: {regex: "[a-f]+[0-9]"}}]`, "b4") + `]`},
		get("/").h("x-k", "one").is("200 b0"), get("/").h("x-k", "two-and").is("200 b1"), get("/").h("x-k", "the-end").is("200 b2"), get("/").h("x-k", "amidst").is("200 b3"), get("/").h("x-k", "abc1").is("200 b4"), get("/").h("x-k", "z").is("404")),
	one("header range and presence", part{routes: `[` +
		to(`prefix: /r, headers: [{name: x-n, range_match: {start: -5, end: 10}}]`, "b0") + `,` +
		to(`prefix: /p, headers: [{name: x-p, present_match: true}]`, "b1") + `,` +
		to(`prefix: /p, headers: [{name: x-q, present_match: false}]`, "b2") + `,` +
		to(`prefix: /only, headers: [{name: x-o}]`, "b3") + `]`},
		get("/r").h("x-n", "-5").is("200 b0"), get("/r").h("x-n", "9").is("200 b0"), get("/r").h("x-n", "10").is("404"), get("/r").h("x-n", "9.5").is("404"), get("/r").h("x-n", "x").is("404"), get("/r").h("x-n", "+3"), get("/r").h("x-n", "007"), get("/r").h("x-n", "99999999999999999999").is("404"),
		get("/p").h("x-p", "").is("200 b1"), get("/p").h("x-p", "1").is("200 b1"), get("/p").is("200 b2"), get("/p").h("x-q", "1").is("404"), get("/only").h("x-o", "").is("200 b3"), get("/only").is("404")),
	one("header invert", part{routes: `[` +
		to(`prefix: /a, headers: [{name: x-k, string_match: {exact: one}, invert_match: true}]`, "b0") + `,` +
		to(`prefix: /b, headers: [{name: x-k, present_match: true, invert_match: true}]`, "b1") + `,` +
		to(`prefix: /c, headers: [{name: x-k, range_match: {start: 0, end: 5}, invert_match: true}]`, "b2") + `,` +
		to(`prefix: /d, headers: [{name: x-k, string_match: {exact: one}, invert_match: true, treat_missing_header_as_empty: true}]`, "b3") + `,` +
		to(`prefix: /e, headers: [{name: x-k, present_match: false, invert_match: true}]`, "b4") + `]`},
		get("/a").h("x-k", "one").is("404"), get("/a").h("x-k", "two").is("200 b0"), get("/a"), get("/b").is("200 b1"), get("/b").h("x-k", "1").is("404"), get("/c").h("x-k", "3").is("404"), get("/c").h("x-k", "7").is("200 b2"), get("/c").h("x-k", "z"), get("/c"), get("/d").is("200 b3"), get("/d").h("x-k", "one").is("404"), get("/e"), get("/e").h("x-k", "1")),
	one("header repeated and missing", part{routes: `[` +
		to(`prefix: /a, headers: [{name: x-k, string_match: {exact: "1,2"}}]`, "b0") + `,` +
		to(`prefix: /b, headers: [{name: x-k, string_match: {exact: "1, 2"}}]`, "b1") + `,` +
		to(`prefix: /c, headers: [{name: x-k, string_match: {contains: "2"}}]`, "b2") + `,` +
		to(`prefix: /d, headers: [{name: x-k, string_match: {safe_regex: {regex: "^$"}}, treat_missing_header_as_empty: true}]`, "b3") + `,` +
		to(`prefix: /e, headers: [{name: x-k, string_match: {safe_regex: {regex: ".*"}}, treat_missing_header_as_empty: true}, {name: x-j, present_match: true}]`, "b4") + `,` +
		to(`prefix: /f, headers: [{name: x-k, string_match: {exact: "2"}}]`, "b5") + `,` +
		to(`prefix: /g, headers: [{name: x-k, string_match: {exact: "1"}, invert_match: true}]`, "b0") + `,` +
		to(`prefix: /h, headers: [{name: x-k, string_match: {safe_regex: {regex: "[0-9]"}}}]`, "b1") + `,` +
		to(`prefix: /i, headers: [{name: x-k, range_match: {start: 1, end: 5}}]`, "b2") + `]`},
		get("/a").h("x-k", "1").h("x-k", "2"), get("/f").h("x-k", "1").h("x-k", "2"), get("/f").h("x-k", "2").h("x-k", "1"), get("/g").h("x-k", "1").h("x-k", "2"), get("/g").h("x-k", "2").h("x-k", "3"), get("/h").h("x-k", "2").h("x-k", "3"), get("/i").h("x-k", "2").h("x-k", "x"), get("/a").h("x-k", "1,2").is("200 b0"), get("/b").h("x-k", "1").h("x-k", "2").is("404"), get("/b").h("x-k", "1, 2").is("200 b1"), get("/c").h("x-k", "1").h("x-k", "2").is("200 b2"),
		get("/a").h("x-k", "1").h("x-k", "2").one(), get("/f").h("x-k", "1").h("x-k", "2").one(), get("/d").is("200 b3"), get("/d").h("x-k", "").is("200 b3"), get("/d").h("x-k", "1").is("404"), get("/e").is("404"), get("/e").h("x-j", "1")),
	one("pseudo header", part{routes: `[` +
		to(`prefix: /, headers: [{name: ":method", string_match: {exact: POST}}]`, "b0") + `,` +
		to(`prefix: /, headers: [{name: ":authority", string_match: {exact: "h.example"}}]`, "b1") + `,` +
		to(`prefix: /, headers: [{name: ":path", string_match: {exact: "/x?y"}}]`, "b2") + `,` +
		to(`prefix: /, headers: [{name: ":scheme", string_match: {exact: http}}, {name: x-s, present_match: true}]`, "b3") + `,` +
		to(`prefix: /, headers: [{name: host, string_match: {exact: "i.example"}}]`, "b4") + `]`},
		post("/", "x").is("200 b0"), get("/").on("h.example").is("200 b1"), get("/").on("h.example").one().is("200 b1"), get("/x?y").is("200 b2"), get("/").h("x-s", "1").is("200 b3"), get("/").h("x-s", "1").one(), get("/").on("i.example"), get("/").on("i.example").one()),
	one("query parameters", part{routes: `[` +
		to(`prefix: /a, query_parameters: [{name: k, string_match: {exact: v}}]`, "b0") + `,` +
		to(`prefix: /b, query_parameters: [{name: k, string_match: {safe_regex: {regex: "[0-9]+"}}}]`, "b1") + `,` +
		to(`prefix: /c, query_parameters: [{name: k, present_match: true}]`, "b2") + `,` +
		to(`prefix: /c, query_parameters: [{name: k, present_match: false}]`, "b3") + `,` +
		to(`prefix: /d, query_parameters: [{name: k}, {name: j, string_match: {prefix: "a b"}}]`, "b4") + `]`},
		get("/a?k=v").is("200 b0"), get("/a?j=1&k=v").is("200 b0"), get("/a?k=w&k=v"), get("/a?k=v&k=w"), get("/a?k=V").is("404"), get("/a?k=%76"), get("/a?k").is("404"), get("/a?K=v").is("404"), get("/a").is("404"), get("/a?").is("404"), get("/a?&&k=v&"), get("/a?k=v=w"),
		get("/b?k=12").is("200 b1"), get("/b?k=12a").is("404"), get("/c?k").is("200 b2"), get("/c?k=").is("200 b2"), get("/c?j").is("200 b3"), get("/c").is("200 b3"), get("/d?k&j=a%20b"), get("/d?k&j=a+b"), get("/d?k=1").is("404"), get("/a?%6b=v"), get("/a?a=1;k=v")),
}

var fractionTrials = []trial{
	{"runtime fraction", []step{
		{
			part:     part{routes: `[{match: {prefix: /, runtime_fraction: {default_value: {numerator: 0}, runtime_key: d.f}}, route: {cluster: b0}}, ` + to("prefix: /", "b1") + `]`},
			requests: []*request{get("/").is("200 b1"), get("/").many(200)},
		},
		{
			part:     part{runtime: "{d.f: 100}", routes: `[{match: {prefix: /, runtime_fraction: {default_value: {numerator: 0}, runtime_key: d.f}}, route: {cluster: b0}}, ` + to("prefix: /", "b1") + `]`},
			requests: []*request{get("/").is("200 b0"), get("/").many(200)},
		},
		{
			part:     part{runtime: "{d.f: 37}", routes: `[{match: {prefix: /, runtime_fraction: {default_value: {numerator: 0}, runtime_key: d.f}}, route: {cluster: b0}}, ` + to("prefix: /", "b1") + `]`},
			requests: []*request{get("/").many(soakTimes)},
		},
		{
			part:     part{routes: `[{match: {prefix: /, runtime_fraction: {default_value: {numerator: 2500, denominator: TEN_THOUSAND}}}, route: {cluster: b0}}, ` + to("prefix: /", "b1") + `]`},
			requests: []*request{get("/").many(soakTimes)},
		},
		{
			part:     part{routes: `[{match: {prefix: /, runtime_fraction: {default_value: {numerator: 100}, runtime_key: d.f}}, route: {cluster: b0}}, ` + to("prefix: /", "b1") + `]`},
			requests: []*request{get("/").is("200 b0")},
		},
	}},
}

// soakTimes is how often a request goes out whose answers are drawn.
var soakTimes = soak(2000, 20_000)

func TestRouteMatch(t *testing.T) {
	s := newStand(t, "DELTA_GRPC")
	s.run(t, pathTrials)
	s.run(t, headerTrials)
	s.run(t, fractionTrials)
}
