package snapshot

import (
	"net/netip"
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
		r := s.Match([]byte(path))
		if r == nil {
			t.Errorf("%q: no route", path)
			continue
		}
		if r.Prefix != want || r.Degrade != (want != "") {
			t.Errorf("%q: route %q (degrade %v), want %q", path, r.Prefix, r.Degrade, want)
		}
		if r.Cluster != s.Local || r.Timeout != 5*time.Second || r.Idle != time.Minute {
			t.Errorf("%q: route without its cluster or times: %+v", path, r)
		}
	}
}

// TestEveryTargetHasARoute: whatever is configured, "*" included.
func TestEveryTargetHasARoute(t *testing.T) {
	for _, degrade := range [][]string{nil, {"/"}, {"/", "/x"}, {"/x"}} {
		s := compiled(t, degrade...)
		for _, path := range []string{"/", "*", "/x", "/y?z"} {
			if s.Match([]byte(path)) == nil {
				t.Errorf("--degrade %q: no route for %q", degrade, path)
			}
		}
	}
	if r := compiled(t, "/").Match([]byte("/any")); r.Prefix != "/" || !r.Degrade {
		t.Errorf("--degrade / does not cover /any: %+v", r)
	}
	if r := new(Snapshot).Match([]byte("/")); r != nil {
		t.Errorf("no routes, yet %+v", r)
	}
}

func TestMatchAllocatesNothing(t *testing.T) {
	s := compiled(t, "/api", "/api/v2/metrics")
	path := []byte("/api/v2/metrics/query?metric=cpu")
	if n := testing.AllocsPerRun(100, func() { s.Match(path) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
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
		if got := s.Listener.Trusts(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s trusted: %v, want %v", addr, got, want)
		}
	}
	if s.Listener.Trusts(netip.Addr{}) {
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
