package snapshot

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// compiled returns a snapshot with these --degrade prefixes.
func compiled(t *testing.T, degrade ...string) *Snapshot {
	t.Helper()
	s, err := Compile(Source{
		Role: "inbound", Upstreams: []string{"http://127.0.0.1:8080"}, Degrade: degrade,
		Timeout: 5 * time.Second, Idle: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// match returns the route that a request for target takes.
func match(s *Snapshot, target string) *Route {
	path, query, _ := strings.Cut(target, "?")
	return s.Listeners[0].Inline.Host(nil).Match(&Input{Path: []byte(path), Query: []byte(query), Fields: noFields{}})
}

// noFields is a request without header fields.
type noFields struct{}

func (noFields) Len() int          { return 0 }
func (noFields) Name(int) []byte   { return nil }
func (noFields) Value(int) []byte  { return nil }
func (noFields) Get(string) []byte { return nil }

func TestMatchTakesTheLongestPrefixAtASegment(t *testing.T) {
	s := compiled(t, "/api", "/api/v2/metrics", "/files/", "/api/v2", "/a%20b")
	for path, want := range map[string]string{
		"/api":                        "/api",
		"/api/":                       "/api",
		"/api?x=1":                    "/api",
		"/api/v1":                     "/api",
		"/apix":                       "",
		"/ap":                         "",
		"/api%2fv2":                   "", // not decoded: a slash is a slash
		"/api/v2":                     "/api/v2",
		"/api/v2?metric=/api":         "/api/v2",
		"/api/v20":                    "/api",
		"/api/v2/metrics":             "/api/v2/metrics",
		"/api/v2/metrics/query?m=cpu": "/api/v2/metrics",
		"/api/v2/metricsx":            "/api/v2",
		"/files":                      "", // the prefix says it wants the slash
		"/files/":                     "/files/",
		"/files/a":                    "/files/",
		"/a%20b/c":                    "/a%20b",
		"/":                           "",
		"*":                           "",
		"":                            "",
	} {
		r := match(s, path)
		if r == nil {
			t.Errorf("%q: no route", path)
			continue
		}
		if r.Match.Path != want || (r.Cache != nil) != (want != "") {
			t.Errorf("%q: route %q (degrade %v), want %q", path, r.Match.Path, r.Cache != nil, want)
		}
		if f := r.Forward; f.Cluster != LocalCluster || f.Timeout != 5*time.Second || f.Idle != time.Minute {
			t.Errorf("%q: route without its cluster or times: %+v", path, r)
		}
	}
}

// TestEveryTargetHasARoute: whatever is configured, "*" included.
func TestEveryTargetHasARoute(t *testing.T) {
	for _, degrade := range [][]string{nil, {"/"}, {"/", "/x"}, {"/x"}} {
		s := compiled(t, degrade...)
		for _, path := range []string{"/", "*", "/x", "/y?z"} {
			if match(s, path) == nil {
				t.Errorf("--degrade %q: no route for %q", degrade, path)
			}
		}
	}
	if r := match(compiled(t, "/"), "/any"); r.Match.Path != "/" || r.Cache == nil {
		t.Errorf("--degrade / does not cover /any: %+v", r)
	}
}

func TestTrusts(t *testing.T) {
	s, err := Compile(Source{
		Role: "inbound", Upstreams: []string{"http://app"}, Timeout: 1, Idle: 1,
		Trust: []string{"10.1.2.3/8", "192.0.2.7", "2001:db8::/32"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]bool{
		"10.255.0.1": true, "11.0.0.1": false, "192.0.2.7": true, "192.0.2.8": false,
		"::ffff:10.0.0.1": true, "2001:db8::1": true, "2001:db9::1": false,
	} {
		if got := s.Listeners[0].Trusts(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s trusted: %v, want %v", addr, got, want)
		}
	}
	if s.Listeners[0].Trusts(netip.Addr{}) {
		t.Error("no address is trusted")
	}
}

func TestNamesOfKinds(t *testing.T) {
	for got, want := range map[string]string{
		Inbound.String(): "inbound", Outbound.String(): "outbound",
		Auto.String(): "http", H2C.String(): "h2c", H1.String(): "h1",
		KeySource{Kind: FromHeader, Name: "x-tenant-id"}.String(): "header x-tenant-id",
		KeySource{Kind: FromQuery, Name: "tenant"}.String():       "query parameter tenant",
		KeySource{Kind: FromPathSegment, Index: 0}.String():       "path segment 0",
		KeySource{Kind: FromPathSegment, Index: 63}.String():      "path segment 63",
		KeySource{Kind: FromGRPCMethod}.String():                  "gRPC method",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
