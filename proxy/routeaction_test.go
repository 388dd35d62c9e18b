package proxy

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/snapshot"
)

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
