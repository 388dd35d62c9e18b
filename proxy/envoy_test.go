package proxy

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// envoyRig is a sidecar with one listener of a management server, whose routes
// all go to "a" unless change says otherwise. The app answers with the head that
// it got.
func envoyRig(t *testing.T, change func(l *snapshot.Listener, h *snapshot.VirtualHost), opts ...func(*Options)) *rig {
	t.Helper()
	r := newManaged(t, opts...)
	r.app("a:80", echoed)
	l := listener("in", "sidecar:80", "a")
	l.Inline.Hosts[0].Routes[0].Name = "all"
	l.HTTP.Envoy, l.HTTP.GenerateRequestID = true, true
	l.HTTP.ServerHeader, l.HTTP.ServerName = snapshot.ServerOverwrite, "envoy"
	if change != nil {
		change(l, l.Inline.Hosts[0])
	}
	fresh := *l.Inline.Hosts[0]
	l.Inline.Hosts[0] = &snapshot.VirtualHost{
		Name: fresh.Name, Domains: fresh.Domains, Routes: fresh.Routes, Mutations: fresh.Mutations, Policies: fresh.Policies,
		AttemptCount: fresh.AttemptCount, AttemptCountResponse: fresh.AttemptCountResponse,
	}
	if err := l.Inline.Finish(nil); err != nil {
		t.Fatal(err)
	}
	r.apply(snapshotOf([]*snapshot.Listener{l}, cluster("a", "a:80"), cluster("dead", "nobody:80"), cluster("empty"), cluster("b", "b:80")))
	return r
}

// echoed answers with the request's head as JSON.
func echoed(w http.ResponseWriter, req *http.Request) {
	h := req.Header.Clone()
	h.Set("path", req.RequestURI)
	h.Set("host", req.Host)
	w.Header().Set("x-up", "u")
	_, _ = io.Copy(io.Discard, req.Body)
	if d := req.URL.Query().Get("wait"); d != "" {
		d, _ := time.ParseDuration(d)
		select {
		case <-time.After(d):
		case <-req.Context().Done():
			return
		}
	}
	_ = json.NewEncoder(w).Encode(h)
}

// seen is the head that the app got.
func (r reply) seen(t *testing.T) http.Header {
	t.Helper()
	h := make(http.Header)
	if err := json.Unmarshal([]byte(r.body), &h); err != nil {
		t.Fatalf("%d %q: %v", r.StatusCode, r.body, err)
	}
	return h
}

func wantField(t *testing.T, h http.Header, name, want string) {
	t.Helper()
	if got := strings.Join(h.Values(name), "|"); got != want {
		t.Errorf("%s: %q, want %q", name, got, want)
	}
}

func format(t *testing.T, s string) snapshot.Format {
	t.Helper()
	f, err := snapshot.ParseFormat(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func add(t *testing.T, name, value string) snapshot.HeaderMutation {
	t.Helper()
	return snapshot.HeaderMutation{Name: name, Value: format(t, value)}
}

// TestCallersHead is what the connection manager does to a request's head. The
// values are Envoy 1.40's.
func TestCallersHead(t *testing.T) {
	for _, tc := range []struct {
		name  string
		http  func(h *snapshot.HTTP)
		send  []string
		want  map[string]string
		reqID string // "" is generated
	}{
		{
			"as it comes", nil,
			[]string{"x-forwarded-for", "1.2.3.4, 5.6.7.8", "x-request-id", "foo", "x-envoy-retry-on", "5xx", "x-envoy-internal", "true", "x-envoy-original-path", "z", "referer", "a b", "x-forwarded-client-cert", "c"},
			map[string]string{"x-forwarded-for": "1.2.3.4, 5.6.7.8", "x-forwarded-proto": "http", "x-envoy-retry-on": "", "x-envoy-internal": "", "x-envoy-external-address": "", "x-envoy-original-path": "z", "referer": "", "x-forwarded-client-cert": ""},
			"foo",
		},
		{
			"empty", func(h *snapshot.HTTP) { h.PreserveRequestID = true },
			[]string{"x-request-id", ""},
			nil,
			"",
		},
		{
			"edge", func(h *snapshot.HTTP) { h.UseRemoteAddress = true },
			[]string{"x-forwarded-for", "1.2.3.4", "x-request-id", "foo", "x-forwarded-proto", "https", "x-envoy-original-path", "z"},
			map[string]string{"x-forwarded-for": "1.2.3.4,192.0.2.1", "x-forwarded-proto": "http", "x-envoy-external-address": "192.0.2.1", "x-envoy-original-path": "", "x-envoy-expected-rq-timeout-ms": "15000"},
			"",
		},
		{
			"edge behind one", func(h *snapshot.HTTP) { h.UseRemoteAddress, h.TrustedHops = true, 1 },
			[]string{"x-forwarded-for", "1.2.3.4,5.6.7.8", "x-forwarded-proto", "https"},
			map[string]string{"x-forwarded-for": "1.2.3.4,5.6.7.8,192.0.2.1", "x-forwarded-proto": "https", "x-envoy-external-address": "5.6.7.8"},
			"",
		},
		{
			"nothing appended", func(h *snapshot.HTTP) { h.UseRemoteAddress, h.SkipAppend, h.PreserveRequestID = true, true, true },
			[]string{"x-request-id", "foo"},
			map[string]string{"x-forwarded-for": "", "x-envoy-external-address": "192.0.2.1"},
			"foo",
		},
		{
			"detected", func(h *snapshot.HTTP) { h.DetectXFF, h.DetectHops = true, 1 },
			[]string{"x-forwarded-for", "1.2.3.4, 5.6.7.8"},
			map[string]string{"x-forwarded-for": "1.2.3.4, 5.6.7.8,192.0.2.1"},
			"",
		},
		{
			"internal", func(h *snapshot.HTTP) {
				h.UseRemoteAddress, h.Internal = true, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
			},
			[]string{"x-envoy-upstream-rq-timeout-ms", "100", "x-request-id", "foo"},
			map[string]string{"x-envoy-internal": "true", "x-envoy-upstream-rq-timeout-ms": "", "x-envoy-expected-rq-timeout-ms": "100", "x-envoy-external-address": ""},
			"foo",
		},
		{
			"underscores dropped", func(h *snapshot.HTTP) { h.Underscores = snapshot.DropUnderscores },
			[]string{"x_tenant", "forged", "x-tenant", "a", "_", "b"},
			map[string]string{"x_tenant": "", "x-tenant": "a", "_": ""},
			"",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := envoyRig(t, func(l *snapshot.Listener, _ *snapshot.VirtualHost) {
					if tc.http != nil {
						tc.http(&l.HTTP)
					}
				})
				got := r.get("/x", tc.send...).want(t, 200, "")
				got.header(t, "server", "envoy").header(t, "x-envoy-upstream-service-time", "0")
				h := got.seen(t)
				for name, want := range tc.want {
					wantField(t, h, name, want)
				}
				id := h.Get("x-request-id")
				if tc.reqID != "" && id != tc.reqID || tc.reqID == "" && (len(id) != 36 || id[14] != '4') {
					t.Errorf("x-request-id: %q", id)
				}
				r.settled()
			})
		})
	}
}

// TestUnderscoresRejected: Envoy answers so over HTTP/1.1; over HTTP/2 it resets the
// stream without a word.
func TestUnderscoresRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := envoyRig(t, func(l *snapshot.Listener, _ *snapshot.VirtualHost) { l.HTTP.Underscores = snapshot.RejectUnderscores })
		for _, p := range []testkit.Protocol{testkit.H2, testkit.H1} {
			r.client = r.newClient(p)
			r.get("/", "x_u", "1").want(t, 400, "Bad Request")
			r.get("/", "x-u", "1").want(t, 200, "")
		}
		r.settled()
	})
}

// TestRouteActions covers what routes do to a request besides forwarding it.
func TestRouteActions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		route := func(prefix string, f snapshot.Forward) *snapshot.Route {
			f.NotFoundStatus = max(f.NotFoundStatus, 404)
			if f.Cluster == "" && f.ClusterHeader == "" && f.Weighted == nil {
				f.Cluster = "a"
			}
			return &snapshot.Route{Name: prefix, Match: snapshot.RouteMatch{Path: prefix}, Forward: &f}
		}
		redirect := func(prefix string, d snapshot.Redirect) *snapshot.Route {
			return &snapshot.Route{Match: snapshot.RouteMatch{Path: prefix}, Redirect: &d}
		}
		mutated := route("/mut", snapshot.Forward{})
		mutated.Request = []snapshot.HeaderMutation{
			add(t, "x-a", "1"),
			{Name: "x-b", Value: format(t, "2"), Action: snapshot.AddIfAbsent},
			{Name: "x-c", Value: format(t, "3"), Action: snapshot.OverwriteOrAdd},
			{Name: "x-d", Value: format(t, "4"), Action: snapshot.OverwriteIfExists},
			add(t, "x-e", "%REQ(x-none)%"),
			{Name: "x-f", Value: format(t, "%REQ(x-none)%"), KeepEmpty: true},
			add(t, "x-g", "%PROTOCOL%|%REQ(x-a)%|%ROUTE_NAME%|%DOWNSTREAM_REMOTE_ADDRESS%"), add(t, "user-agent", "ua2"),
			{Name: "x-rm", Remove: true},
		}
		mutated.Response = []snapshot.HeaderMutation{add(t, "x-r", "%RESP(x-up)%|%RESPONSE_CODE%|%UPSTREAM_HOST%|%REQ(x-a)%"), {Name: "x-up", Remove: true}}
		weighted := route("/weighted", snapshot.Forward{TotalWeight: 1, Weighted: []snapshot.WeightedCluster{{
			Name: "a", Weight: 1, Host: "w.example", Mutations: snapshot.Mutations{Request: []snapshot.HeaderMutation{add(t, "x-o", "w")}},
		}}})
		weighted.Request = []snapshot.HeaderMutation{add(t, "x-o", "r")}
		r := envoyRig(t, func(l *snapshot.Listener, h *snapshot.VirtualHost) {
			h.AttemptCount, h.AttemptCountResponse = true, true
			h.Request = []snapshot.HeaderMutation{add(t, "x-o", "v")}
			l.Inline.Request = []snapshot.HeaderMutation{add(t, "x-o", "t")}
			h.Routes = []*snapshot.Route{
				route("/api/v2/", snapshot.Forward{PrefixRewrite: "/v3"}), route("/host", snapshot.Forward{Host: snapshot.HostRewrite{Literal: "lit"}, AppendXFH: true}),
				route("/byheader", snapshot.Forward{Host: snapshot.HostRewrite{Header: "x-host"}}),
				mutated, weighted, route("/header", snapshot.Forward{ClusterHeader: "x-cluster"}), route("/gone", snapshot.Forward{Cluster: "nope", NotFoundStatus: 404}),
				route("/dead", snapshot.Forward{Cluster: "dead"}), route("/empty", snapshot.Forward{Cluster: "empty"}),
				{Match: snapshot.RouteMatch{Path: "/created"}, Direct: &snapshot.DirectResponse{Status: 201}},
				{Match: snapshot.RouteMatch{Path: "/direct"}, Direct: &snapshot.DirectResponse{Status: 418, Body: []byte("teapot")}},
				redirect("/https", snapshot.Redirect{Status: 301, HTTPS: true}), redirect("/port", snapshot.Redirect{Status: 307, Port: 8443}),
				redirect("/path", snapshot.Redirect{Status: 302, Path: "/np"}), redirect("/prefix", snapshot.Redirect{Status: 303, PrefixRewrite: "/pp", StripQuery: true}),
			}
		})
		r.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

		h := r.get("/api/v2/q?a=b").want(t, 200, "").header(t, "x-envoy-attempt-count", "1").seen(t)
		wantField(t, h, "path", "/v3q?a=b")
		wantField(t, h, "x-envoy-original-path", "/api/v2/q?a=b")
		wantField(t, h, "x-envoy-attempt-count", "1")
		wantField(t, h, "x-o", "v|t")
		h = r.get("/host").seen(t)
		wantField(t, h, "host", "lit")
		wantField(t, h, "x-envoy-original-host", "sidecar:80")
		wantField(t, h, "x-forwarded-host", "sidecar:80")
		wantField(t, r.get("/byheader", "x-host", "q").seen(t), "host", "q")
		wantField(t, r.get("/byheader").seen(t), "host", "sidecar:80")
		got := r.get("/mut", "x-a", "0", "x-b", "0", "x-c", "0", "x-d", "0", "x-rm", "1", "user-agent", "q")
		h = got.want(t, 200, "").header(t, "x-r", "|200|a:80|0").header(t, "x-up", "").seen(t)
		for name, want := range map[string]string{"x-a": "0|1", "x-b": "0", "x-c": "3", "x-d": "4", "x-e": "", "x-g": "HTTP/2|0|/mut|192.0.2.1:4000", "x-rm": "", "user-agent": "q,ua2"} {
			wantField(t, h, name, want)
		}
		if _, ok := h["X-F"]; !ok {
			t.Error("a field that keeps its empty value is missing")
		}
		h = r.get("/weighted").seen(t)
		wantField(t, h, "x-o", "w|r|v|t")
		wantField(t, h, "host", "w.example")
		r.get("/header", "x-cluster", "a").want(t, 200, "")
		for path, want := range map[string]struct {
			status int
			body   string
		}{
			"/header": {404, ""}, "/gone": {404, ""}, "/empty": {503, "no healthy upstream"}, "/none": {404, ""}, "/direct": {418, "teapot"},
			"/dead": {503, "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure"},
		} {
			if got := r.get(path); got.StatusCode != want.status || got.body != want.body || got.Header.Get("server") != "envoy" || got.Header.Get("date") == "" {
				t.Errorf("%s: %d %q %v, want %d %q", path, got.StatusCode, got.body, got.Header, want.status, want.body)
			}
		}
		for path, want := range map[string]string{
			"/created": "201 http://sidecar:80/created", "/direct": "418 ",
			"/https?a=b": "301 https://sidecar/https?a=b", "/port": "307 http://sidecar:8443/port", "/path/x?y": "302 http://sidecar:80/np?y", "/prefix/a?b": "303 http://sidecar:80/pp/a",
		} {
			got := r.get(path)
			if s := got.Status[:3] + " " + got.Header.Get("location"); s != want {
				t.Errorf("%s: %s, want %s", path, s, want)
			}
		}
		rpc := r.get("/dead", "content-type", "application/grpc").want(t, 200, "")
		rpc.header(t, "grpc-status", "14").header(t, "grpc-message", "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure")
		r.settled()
	})
}

// TestManagedTimeouts: each time-out ends a request when it is due, with Envoy's
// reply.
func TestManagedTimeouts(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(l *snapshot.Listener, f *snapshot.Forward)
		path   string
		open   bool // the request's body never ends
		status int
		text   string
		after  time.Duration
	}{
		{"route", func(_ *snapshot.Listener, f *snapshot.Forward) { f.Timeout = 100 * time.Millisecond }, "/?wait=10s", false, 504, "upstream request timeout", 100 * time.Millisecond},
		{"no route time-out", func(_ *snapshot.Listener, f *snapshot.Forward) { f.Timeout = 0 }, "/?wait=60s", false, 200, "{", time.Minute},
		{"idle stream", func(l *snapshot.Listener, _ *snapshot.Forward) { l.HTTP.StreamIdleTimeout = 300 * time.Millisecond }, "/?wait=10s", false, 504, "stream timeout", 300 * time.Millisecond},
		{"route's idle", func(l *snapshot.Listener, f *snapshot.Forward) {
			l.HTTP.StreamIdleTimeout, f.Idle, f.HasIdle = time.Millisecond, 400*time.Millisecond, true
		}, "/?wait=10s", false, 504, "stream timeout", 400 * time.Millisecond},
		{"no router", func(l *snapshot.Listener, _ *snapshot.Forward) {
			l.HTTP.Unanswered, l.HTTP.StreamIdleTimeout = true, 300*time.Millisecond
		}, "/", false, 504, "stream timeout", 300 * time.Millisecond},
		{"no router, no end", func(l *snapshot.Listener, _ *snapshot.Forward) {
			l.HTTP.Unanswered, l.HTTP.StreamIdleTimeout = true, 300*time.Millisecond
		}, "/slow", true, 408, "stream timeout", 300 * time.Millisecond},
		{"idle caller", func(l *snapshot.Listener, _ *snapshot.Forward) { l.HTTP.StreamIdleTimeout = 300 * time.Millisecond }, "/slow", true, 408, "stream timeout", 300 * time.Millisecond},
		{"whole request", func(l *snapshot.Listener, _ *snapshot.Forward) { l.HTTP.RequestTimeout = 200 * time.Millisecond }, "/slow", true, 408, "request timeout", 200 * time.Millisecond},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := envoyRig(t, func(l *snapshot.Listener, h *snapshot.VirtualHost) { tc.change(l, h.Routes[0].Forward) })
				begin := time.Now()
				if tc.open {
					nc, err := r.net.Dial(t.Context(), "sidecar:80")
					if err != nil {
						t.Fatal(err)
					}
					_, _ = io.WriteString(nc, "POST "+tc.path+" HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nx")
					b, _ := io.ReadAll(nc)
					if got := string(b); !strings.HasPrefix(got, "HTTP/1.1 "+strconv.Itoa(tc.status)) || !strings.HasSuffix(got, tc.text) || !strings.Contains(got, "connection: close") {
						t.Errorf("got %q", got)
					}
					_ = nc.Close()
				} else if got := r.get(tc.path).want(t, tc.status, tc.text); tc.status != 200 && got.body != tc.text {
					t.Errorf("body %q", got.body)
				}
				if d := time.Since(begin); d < tc.after || d > tc.after+20*time.Millisecond {
					t.Errorf("after %v, want %v", d, tc.after)
				}
				r.settled()
			})
		})
	}
}

// TestHeadMustCome: request_headers_timeout, on HTTP/1.1.
func TestHeadMustCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := envoyRig(t, func(l *snapshot.Listener, _ *snapshot.VirtualHost) { l.HTTP.HeadersTimeout = 300 * time.Millisecond })
		nc, err := r.net.Dial(t.Context(), "sidecar:80")
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		_, _ = io.WriteString(nc, "GET / HTTP/1.1\r\nhost")
		b, _ := io.ReadAll(nc)
		if d := time.Since(begin); !strings.HasPrefix(string(b), "HTTP/1.1 408") || d < 300*time.Millisecond || d > 320*time.Millisecond {
			t.Errorf("got %q after %v", b, d)
		}
		_ = nc.Close()
	})
}

// TestHealthCheckFilter covers both modes, the cache and /healthcheck/fail.
func TestHealthCheckFilter(t *testing.T) {
	check := func(c snapshot.HealthCheck) func(*snapshot.Listener, *snapshot.VirtualHost) {
		c.Headers = []snapshot.HeaderMatcher{{Name: ":path", String: &snapshot.StringMatcher{Value: "/healthz"}}}
		return func(l *snapshot.Listener, _ *snapshot.VirtualHost) {
			l.HTTP.Filters = []snapshot.Filter{{Name: "hc", HealthCheck: &c}}
		}
	}
	service := func(o *Options) { o.Service = "svc" }
	const name = "x-envoy-upstream-healthchecked-cluster"
	t.Run("answered here", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := envoyRig(t, check(snapshot.HealthCheck{}), service)
			r.get("/healthz").want(t, 200, "").header(t, name, "svc")
			r.get("/other").want(t, 200, "{").header(t, name, "")
			r.server.FailHealth(true)
			r.get("/healthz").want(t, 503, "").header(t, "x-envoy-immediate-health-check-fail", "true")
			r.get("/other").want(t, 200, "{").header(t, "x-envoy-immediate-health-check-fail", "true")
			r.server.FailHealth(false)
			r.get("/healthz").want(t, 200, "").header(t, "x-envoy-immediate-health-check-fail", "")
			r.settled()
		})
	})
	t.Run("as the clusters are", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := envoyRig(t, check(snapshot.HealthCheck{MinHealthy: []snapshot.ClusterMin{{Cluster: "a", Percent: 50}}}), service)
			r.get("/healthz").want(t, 200, "")
		})
		synctest.Test(t, func(t *testing.T) {
			r := envoyRig(t, check(snapshot.HealthCheck{MinHealthy: []snapshot.ClusterMin{{Cluster: "a", Percent: 50}, {Cluster: "empty", Percent: 1}}}), service)
			r.get("/healthz").want(t, 503, "").header(t, name, "svc")
		})
	})
	t.Run("passed through and kept", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := envoyRig(t, check(snapshot.HealthCheck{PassThrough: true, CacheFor: 2 * time.Second}), service)
			r.get("/healthz").want(t, 200, "{").header(t, name, "svc")
			if got := r.get("/healthz").want(t, 200, ""); got.body != "" {
				t.Errorf("asked again: %q", got.body)
			}
			time.Sleep(1500 * time.Millisecond)
			if got := r.get("/healthz").want(t, 200, ""); got.body != "" {
				t.Errorf("asked again: %q", got.body)
			}
			time.Sleep(500 * time.Millisecond) // asking did not keep it any longer
			r.get("/healthz").want(t, 200, "{")
			r.server.FailHealth(true)
			r.get("/healthz").want(t, 503, "")
			time.Sleep(2 * time.Second)
			r.get("/healthz").want(t, 503, "")
			r.server.FailHealth(false)
			r.get("/healthz").want(t, 200, "{") // the refusal is not kept
			r.settled()
		})
	})
}

// TestAccessLogs: the default line, JSON and the response_flag filter.
func TestAccessLogs(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := envoyRig(t, func(l *snapshot.Listener, h *snapshot.VirtualHost) {
			l.HTTP.AccessLogs = []*snapshot.AccessLog{
				{Path: filepath.Join(dir, "text"), Format: format(t, snapshot.DefaultAccessLogFormat)},
				{Path: filepath.Join(dir, "nr"), Format: format(t, "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n"), Flags: []string{"NR"}},
				{Path: filepath.Join(dir, "json"), JSON: []snapshot.JSONField{{Name: "code", Value: format(t, "%RESPONSE_CODE%")}, {Name: "none", Value: format(t, "%REQ(x-none)%")}, {Name: "from", Value: format(t, "%UPSTREAM_LOCAL_ADDRESS%")}, {Name: "q", Value: format(t, `a"%REQ(x-none)%`)}}},
			}
			h.Routes = []*snapshot.Route{{Match: snapshot.RouteMatch{Path: "/a"}, Forward: &snapshot.Forward{Cluster: "a", NotFoundStatus: 503, PrefixRewrite: "/z"}}}
		})
		r.do(r.request(http.MethodPost, "/a?wait=25ms", strings.NewReader("hello"), "user-agent", "t", "x-request-id", "id")).want(t, 200, "")
		r.get("/none", "user-agent", "t", "x-request-id", "id").want(t, 404, "")
		r.settled()
		r.server.Close()
	})
	lines := func(name string) []string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	}
	text := lines("text")
	if len(text) != 2 || !strings.HasPrefix(text[0], `[2000-01-01T00:00:0`) || !strings.Contains(text[0], `Z] "POST /a?wait=25ms HTTP/2" 200 - 5 `) ||
		!strings.HasSuffix(text[0], ` 25 24 "-" "t" "id" "sidecar:80" "a:80"`) || !strings.HasSuffix(text[1], `"GET /none HTTP/2" 404 NR 0 0 0 - "-" "t" "id" "sidecar:80" "-"`) {
		t.Errorf("text: %q", text)
	}
	if got := lines("nr"); len(got) != 1 || got[0] != "NR route_not_found" {
		t.Errorf("response_flag filter: %q", got)
	}
	if got := lines("json"); len(got) != 2 || got[0] != `{"code":200,"none":null,"from":"192.0.2.1:4000","q":"a\"-"}` {
		t.Errorf("json: %q", got)
	}
}

// TestAccessLogThatCannotBeWritten: the listener is refused; where it is applied
// nevertheless requests do not notice, and drops are counted.
func TestAccessLogThatCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newManaged(t)
		r.app("a:80", named("a"))
		r.apply(snapshotOf([]*snapshot.Listener{listener("in", "sidecar:80", "a")}, cluster("a", "a:80")))
		l := listener("in", "sidecar:80", "a")
		path := filepath.Join(t.TempDir(), "no", "such")
		l.HTTP.AccessLogs = []*snapshot.AccessLog{{Path: path, Format: format(t, "x\n")}}
		err := r.server.Listen(l)
		if _, ok := errors.AsType[*fs.PathError](err); !ok || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
			t.Errorf("error %v, want one with %s", err, path)
		}
		if err := r.server.Apply(snapshotOf([]*snapshot.Listener{l}, cluster("a", "a:80"))); err != nil {
			t.Fatal(err)
		}
		r.get("/").want(t, 200, "")
		r.server.Close()
		if n := r.reg.Total(telemetry.AccessLogDrops); n != 1 {
			t.Errorf("%d drops counted", n)
		}
	})
}

// TestUnusedAccessLogIsClosed: a log whose listener came to nothing is not kept
// open, and one that a listener names is, from Listen on.
func TestUnusedAccessLogIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newManaged(t)
		r.app("a:80", named("a"))
		dir := t.TempDir()
		logged := func(name string) *snapshot.Listener {
			l := listener("in", "sidecar:80", "a")
			l.HTTP.AccessLogs = []*snapshot.AccessLog{{Path: filepath.Join(dir, name), Format: format(t, "%RESPONSE_CODE%\n")}}
			return l
		}
		if err := r.server.Listen(logged("refused")); err != nil {
			t.Fatal(err)
		}
		r.apply(snapshotOf([]*snapshot.Listener{logged("served")}, cluster("a", "a:80")))
		r.server.files.mu.Lock()
		if n := len(r.server.files.files); n != 1 {
			t.Errorf("%d files are open", n)
		}
		r.server.files.mu.Unlock()
		if err := os.Rename(filepath.Join(dir, "served"), filepath.Join(dir, "moved")); err != nil {
			t.Fatal(err)
		}
		r.get("/").want(t, 200, "a")
		r.settled()
		r.server.Close()
		if b, err := os.ReadFile(filepath.Join(dir, "moved")); string(b) != "200\n" {
			t.Errorf("the log has %q, %v", b, err)
		}
	})
}

// TestSuppressedFields: suppress_envoy_headers.
func TestSuppressedFields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := envoyRig(t, func(l *snapshot.Listener, h *snapshot.VirtualHost) {
			l.HTTP.SuppressEnvoy = true
			h.Routes = []*snapshot.Route{{Forward: &snapshot.Forward{
				Cluster: "a", NotFoundStatus: 503, Timeout: time.Second, PrefixRewrite: "/x/", Host: snapshot.HostRewrite{Literal: "lit"},
			}}}
		})
		got := r.get("/a").want(t, 200, "")
		got.header(t, "x-envoy-upstream-service-time", "")
		h := got.seen(t)
		wantField(t, h, "path", "/x//a")
		wantField(t, h, "host", "lit")
		for _, name := range []string{"x-envoy-original-path", "x-envoy-original-host", "x-envoy-expected-rq-timeout-ms"} {
			wantField(t, h, name, "")
		}
	})
}

// TestUpstreamEndsAsInEnvoy: PROTOCOL_ERROR is told apart from other resets, as in Envoy; a reply
// that stalls once its head is sent ends with INTERNAL_ERROR.
func TestUpstreamEndsAsInEnvoy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := envoyRig(t, func(_ *snapshot.Listener, h *snapshot.VirtualHost) {
			h.Routes = []*snapshot.Route{{Forward: &snapshot.Forward{Cluster: "b", NotFoundStatus: 503, Timeout: time.Second}}}
		})
		r.frameApp("b:80", func(w *wire) {
			w.until("HEADERS 1")
			w.do(func(fr *http2.Framer) error { return fr.WriteRSTStream(1, http2.ErrCodeProtocol) })
			w.until("HEADERS 3")
			w.headers(3, false, ":status", "200")
		})
		r.get("/").want(t, 502, "reset reason: protocol error")
		w := r.caller()
		w.ask(1, true, "GET", "/")
		w.until("HEADERS 1 end=false :status=200")
		w.until("RST_STREAM 1 INTERNAL_ERROR")
		r.settled()
	})
}

// TestPoliciesOfRoutes: a route's breaker and cache take the place of the
// listener's, and Disabled takes them away.
func TestPoliciesOfRoutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		strict := policy.DefaultBreakerConfig()
		strict.FailureThreshold = 1
		r := envoyRig(t, func(l *snapshot.Listener, h *snapshot.VirtualHost) {
			l.Breaker = &snapshot.Breaker{Scope: "listener/in", Config: policy.DefaultBreakerConfig()}
			l.Keys = snapshot.DefaultKeys()
			to := func(prefix string, b *snapshot.Breaker) *snapshot.Route {
				return &snapshot.Route{Match: snapshot.RouteMatch{Path: prefix}, Forward: &snapshot.Forward{Cluster: "b", NotFoundStatus: 503, Timeout: time.Second}, Policies: snapshot.Policies{Breaker: b}}
			}
			h.Routes = []*snapshot.Route{to("/strict", &snapshot.Breaker{Scope: "override/1", Config: strict}), to("/off", &snapshot.Breaker{Scope: "override/2", Disabled: true}), to("/", nil)}
		})
		r.app("b:80", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
		for range 2 {
			r.get("/strict?tenant=a&metric=m")
		}
		r.get("/strict?tenant=a&metric=m").want(t, 503, "breaker").header(t, "x-quadnine-reason", "breaker-open")
		r.get("/?tenant=a&metric=m").want(t, 500, "") // another table
		for range 20 {
			r.get("/off?tenant=a&metric=m").want(t, 500, "")
		}
		r.settled()
	})
}

// TestModelRoutingOfRoutes: a route's mode takes the manifest's place.
func TestModelRoutingOfRoutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{model: &Model{Name: "score"}, active: routedVersion(1), canary: routedVersion(2)}
		r := envoyRig(t, func(_ *snapshot.Listener, h *snapshot.VirtualHost) {
			to := func(prefix string, m *snapshot.ModelRouting) *snapshot.Route {
				return &snapshot.Route{Match: snapshot.RouteMatch{Path: prefix}, Forward: &snapshot.Forward{Cluster: "a", NotFoundStatus: 503}, Policies: snapshot.Policies{Model: m}}
			}
			h.Routes = []*snapshot.Route{
				to("/off", &snapshot.ModelRouting{Mode: snapshot.ModelOff}), to("/canary", &snapshot.ModelRouting{Model: "score", HasWeight: true, Weight: 100}),
				to("/other", &snapshot.ModelRouting{Model: "none"}), to("/embedded", &snapshot.ModelRouting{Mode: snapshot.ModelEmbedded}), to("/", nil),
			}
		}, s.with)
		wantField(t, r.get("/").seen(t), "x-model-version", "score@1")
		wantField(t, r.get("/canary").seen(t), "x-model-version", "score@2")
		wantField(t, r.get("/off").seen(t), "x-model-version", "")
		wantField(t, r.get("/other").seen(t), "x-model-version", "")
		r.get("/embedded").want(t, 503, "").header(t, "x-quadnine-reason", policy.ModelMissing.String())
		r.settled()
		if n := s.leases.Load(); n != 0 {
			t.Errorf("%d leases are out", n)
		}
	})
}

// TestConnectionLimits: what the listener says of connections holds for new ones.
func TestConnectionLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := envoyRig(t, func(l *snapshot.Listener, _ *snapshot.VirtualHost) {
			l.HTTP.MaxHeaders, l.HTTP.MaxStreams, l.HTTP.StreamWindow = 10, 7, 100_000
		})
		for _, p := range []testkit.Protocol{testkit.H2, testkit.H1} {
			r.client = r.newClient(p)
			many := make([]string, 0, 40)
			for range 20 {
				many = append(many, "x-many", "1")
			}
			r.get("/", many...).want(t, 431, "Request Header Fields Too Large")
		}
		nc, err := r.net.Dial(t.Context(), "sidecar:80")
		if err != nil {
			t.Fatal(err)
		}
		fr := http2.NewFramer(nc, nc)
		go func() { _, _ = io.WriteString(nc, http2.ClientPreface) }()
		f, err := fr.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		settings, _ := f.(*http2.SettingsFrame)
		for id, want := range map[http2.SettingID]uint32{http2.SettingMaxConcurrentStreams: 7, http2.SettingInitialWindowSize: 100_000} {
			if got, _ := settings.Value(id); got != want {
				t.Errorf("%v: %d, want %d", id, got, want)
			}
		}
		_ = nc.Close()
	})
}
