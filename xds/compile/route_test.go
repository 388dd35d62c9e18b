package compile

import (
	"reflect"
	"testing"
	"time"

	"github.com/quadnine/quadnine/snapshot"
)

// Every kind of match becomes its own.
func TestMatches(t *testing.T) {
	yes, no := true, false
	text := func(kind snapshot.StringKind, v string) *snapshot.StringMatcher {
		return &snapshot.StringMatcher{Kind: kind, Value: v}
	}
	for in, want := range map[string]snapshot.RouteMatch{
		`{"prefix":"/a"}`:                     {Kind: snapshot.PathPrefix, Path: "/a"},
		`{"path":"/a","caseSensitive":false}`: {Kind: snapshot.PathExact, Path: "/a", IgnoreCase: true},
		`{"path":"/a","caseSensitive":true}`:  {Kind: snapshot.PathExact, Path: "/a"},
		`{"pathSeparatedPrefix":"/a/b"}`:      {Kind: snapshot.PathSegmentPrefix, Path: "/a/b"},
		`{"prefix":"/","runtimeFraction":{"defaultValue":{"numerator":3,"denominator":"MILLION"},"runtimeKey":"k"}}`: {
			Path: "/", Fraction: &snapshot.Fraction{Key: "k", Numerator: 3, Denominator: 1_000_000},
		},
		`{"prefix":"/","headers":[{"name":"X-A"},{"name":"x-b","presentMatch":false},{"name":"x-c","exactMatch":"v"},{"name":"x-d","prefixMatch":"v"},{"name":"x-e","suffixMatch":"v"},
			{"name":"x-f","containsMatch":"v"},{"name":"x-g","rangeMatch":{"start":"-3","end":"9"},"invertMatch":true},{"name":"x-h","stringMatch":{"exact":"V","ignoreCase":true},"treatMissingHeaderAsEmpty":true}]}`: {
			Path: "/", Headers: []snapshot.HeaderMatcher{
				{Name: "x-a", Present: &yes},
				{Name: "x-b", Present: &no},
				{Name: "x-c", String: text(snapshot.StringExact, "v")},
				{Name: "x-d", String: text(snapshot.StringPrefix, "v")},
				{Name: "x-e", String: text(snapshot.StringSuffix, "v")},
				{Name: "x-f", String: text(snapshot.StringContains, "v")},
				{Name: "x-g", Range: &snapshot.Range{Start: -3, End: 9}, Invert: true},
				{Name: "x-h", String: &snapshot.StringMatcher{Value: "v", IgnoreCase: true}, MissingAsEmpty: true},
			},
		},
		`{"prefix":"/","queryParameters":[{"name":"A"},{"name":"b","presentMatch":false},{"name":"c","stringMatch":{"prefix":"v"}}]}`: {
			Path: "/", Query: []snapshot.QueryMatcher{{Name: "A", Present: &yes}, {Name: "b", Present: &no}, {Name: "c", String: text(snapshot.StringPrefix, "v")}},
		},
	} {
		if got := hostOf(t, `{"match":`+in+`,"route":{"cluster":"a"}}`).Routes[0].Match; !reflect.DeepEqual(got, want) {
			t.Errorf("%s\ngot  %+v\nwant %+v", in, got, want)
		}
	}
}

// A pattern has to match the whole of a path, of a field and of a parameter.
func TestPatternsMatchTheWhole(t *testing.T) {
	m := hostOf(t, `{"match":{"safeRegex":{"regex":"/a|/b"},"headers":[{"name":"x","safeRegexMatch":{"regex":"c.*"}},{"name":"y","stringMatch":{"safeRegex":{"regex":"d"}}}]},"route":{"cluster":"a"}}`).Routes[0].Match
	for text, want := range map[string]bool{"/a": true, "/b": true, "/ab": false, "x/a": false, "/a\n": false} {
		if m.Kind != snapshot.PathRegex || m.Regex.MatchString(text) != want {
			t.Errorf("%q matches: %v", text, !want)
		}
	}
	if r := m.Headers[0].String; r.Kind != snapshot.StringRegex || !r.Regex.MatchString("cc") || r.Regex.MatchString("bc") {
		t.Errorf("safe_regex_match is %v", r.Regex)
	}
	if r := m.Headers[1].String; r.Kind != snapshot.StringRegex || r.Regex.MatchString("dd") {
		t.Errorf("safe_regex is %v", r.Regex)
	}
}

func TestForward(t *testing.T) {
	for in, want := range map[string]snapshot.Forward{
		`{"cluster":"a","clusterNotFoundResponseCode":"NOT_FOUND","timeout":"1.5s","idleTimeout":"2s","priority":"HIGH","prefixRewrite":"/x","appendXForwardedHost":true,"hostRewriteLiteral":"h"}`: {
			Cluster: "a", NotFoundStatus: 404, Timeout: 1500 * time.Millisecond, Idle: 2 * time.Second, HasIdle: true, Priority: snapshot.PriorityHigh,
			PrefixRewrite: "/x", AppendXFH: true, Host: snapshot.HostRewrite{Literal: "h"},
		},
		`{"clusterHeader":"X-Cluster","clusterNotFoundResponseCode":"INTERNAL_SERVER_ERROR","autoHostRewrite":true}`: {
			ClusterHeader: "x-cluster", NotFoundStatus: 500, Timeout: routeTimeout, Host: snapshot.HostRewrite{Auto: true},
		},
		`{"weightedClusters":{"clusters":[{"name":"a","weight":90,"hostRewriteLiteral":"h","requestHeadersToRemove":["X-R"]},{"clusterHeader":"X-C","weight":10},{"name":"z"}]},"hostRewriteHeader":"X-H"}`: {
			NotFoundStatus: 503, Timeout: routeTimeout, Host: snapshot.HostRewrite{Header: "x-h"}, TotalWeight: 100,
			Weighted: []snapshot.WeightedCluster{
				{Name: "a", Weight: 90, Host: "h", Mutations: snapshot.Mutations{Request: []snapshot.HeaderMutation{{Name: "x-r", Remove: true}}}},
				{ClusterHeader: "x-c", Weight: 10},
				{Name: "z"},
			},
		},
	} {
		if got := hostOf(t, `{"match":{"prefix":"/"},"route":`+in+`}`).Routes[0].Forward; !reflect.DeepEqual(*got, want) {
			t.Errorf("%s\ngot  %+v\nwant %+v", in, *got, want)
		}
	}
}

func TestRewritesByPattern(t *testing.T) {
	f := hostOf(t, `{"match":{"prefix":"/"},"route":{"cluster":"a","regexRewrite":{"pattern":{"regex":"^/(\\w+)"},"substitution":"/x\\1$"},"hostRewritePathRegex":{"pattern":{"regex":"^/(.+)/.*"},"substitution":"\\1"}}}`).Routes[0].Forward
	if got := string(f.RegexRewrite.Apply(nil, []byte("/a/b"))); got != "/xa$/b" {
		t.Errorf("the path becomes %q", got)
	}
	if got := string(f.Host.Path.Apply(nil, []byte("/h/b"))); got != "h" {
		t.Errorf("the host becomes %q", got)
	}
}

func TestRedirectAndDirectResponse(t *testing.T) {
	v := hostOf(t, `{"match":{"path":"/0"},"redirect":{}},
		{"match":{"path":"/1"},"redirect":{"httpsRedirect":true,"hostRedirect":"h","portRedirect":8443,"pathRedirect":"/p?q=1","responseCode":"PERMANENT_REDIRECT","stripQuery":true}},
		{"match":{"path":"/2"},"redirect":{"schemeRedirect":"x","prefixRewrite":"/y","responseCode":"SEE_OTHER"}},
		{"match":{"path":"/3"},"directResponse":{"status":418,"body":{"inlineBytes":"aGk="}}}`)
	for i, want := range []snapshot.Redirect{
		{Status: 301},
		{Status: 308, HTTPS: true, Host: "h", Port: 8443, Path: "/p?q=1", StripQuery: true},
		{Status: 303, Scheme: "x", PrefixRewrite: "/y"},
	} {
		if got := v.Routes[i].Redirect; !reflect.DeepEqual(*got, want) {
			t.Errorf("redirect %d is %+v", i, *got)
		}
	}
	if d := v.Routes[3].Direct; d.Status != 418 || string(d.Body) != "hi" {
		t.Errorf("direct response is %+v", d)
	}
}

// Fields are removed before others are added, and each says how it is added.
func TestMutations(t *testing.T) {
	const add = `[{"header":{"key":"X-A","value":"1"}},{"header":{"key":"b","value":"2"},"appendAction":"ADD_IF_ABSENT"},{"header":{"key":"c","value":"3"},"appendAction":"OVERWRITE_IF_EXISTS_OR_ADD","keepEmptyValue":true},
		{"header":{"key":"d","value":"4"},"appendAction":"OVERWRITE_IF_EXISTS"},{"header":{"key":"e","value":"5"},"append":false},{"header":{"key":"f","rawValue":"Ng=="},"append":true}]`
	want := []snapshot.HeaderMutation{
		{Name: "x-z", Remove: true},
		{Name: "x-a"},
		{Name: "b", Action: snapshot.AddIfAbsent},
		{Name: "c", Action: snapshot.OverwriteOrAdd, KeepEmpty: true},
		{Name: "d", Action: snapshot.OverwriteIfExists},
		{Name: "e", Action: snapshot.OverwriteOrAdd},
		{Name: "f"},
	}
	r := hostOf(t, `{"match":{"prefix":"/"},"route":{"cluster":"a"},"requestHeadersToAdd":`+add+`,"requestHeadersToRemove":["X-Z"],"responseHeadersToAdd":`+add+`,"responseHeadersToRemove":["X-Z"]}`).Routes[0]
	for side, got := range map[string][]snapshot.HeaderMutation{"request": r.Request, "response": r.Response} {
		for i := range got {
			if value := got[i].Value; i > 0 && (len(value) != 1 || value[0].Literal != string(rune('0'+i))) {
				t.Errorf("%s: value %d is %+v", side, i, value)
			}
			got[i].Value = nil
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v", side, got)
		}
	}
}

// A table holds what is true for all of its routes, and which clusters they name.
func TestTable(t *testing.T) {
	c := New()
	table, _, err := c.Routes(routeWire(t, `{"name":"r0","ignorePortInHostMatching":true,"mostSpecificHeaderMutationsWins":true,"validateClusters":true,"requestHeadersToRemove":["x-kuma-tags"],
		"virtualHosts":[{"name":"v","domains":["a.com","*.b.com"],"includeRequestAttemptCount":true,"includeAttemptCountInResponse":true,"responseHeadersToRemove":["x"],"routes":[
		{"name":"one","match":{"prefix":"/1"},"route":{"cluster":"z"}},{"match":{"prefix":"/2"},"route":{"weightedClusters":{"clusters":[{"name":"b","weight":1},{"name":"a","weight":1}]}}},{"match":{"prefix":"/3"},"route":{"cluster":"a"}}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if !table.IgnorePort || !table.SpecificWins || !table.Validate || len(table.Request) != 1 || !reflect.DeepEqual(table.Clusters, []string{"a", "b", "z"}) {
		t.Errorf("table is %+v", table)
	}
	if v := table.Hosts[0]; !v.AttemptCount || !v.AttemptCountResponse || len(v.Response) != 1 || v.Routes[0].Name != "one" || !reflect.DeepEqual(v.Domains, []string{"a.com", "*.b.com"}) {
		t.Errorf("virtual host is %+v", v)
	}
	if table.Host([]byte("x.b.com")) != table.Hosts[0] {
		t.Error("the table has no index")
	}
}

func TestUpgradesAndTimeoutsOfRoutes(t *testing.T) {
	f := hostOf(t, `{"match":{"prefix":"/"},"route":{"cluster":"a","maxGrpcTimeout":"2s","upgradeConfigs":[{"upgradeType":"websocket","enabled":false}]}}`).Routes[0].Forward
	if on, ok := f.Upgrades["websocket"]; on || !ok || f.MaxGRPC != 2*time.Second || !f.HasMaxGRPC {
		t.Errorf("got %+v", f)
	}
	if f := hostOf(t, `{"match":{"prefix":"/"},"route":{"cluster":"a"}}`).Routes[0].Forward; f.HasMaxGRPC || f.Upgrades != nil {
		t.Errorf("got %+v", f)
	}
}
