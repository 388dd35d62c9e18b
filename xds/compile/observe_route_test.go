package compile

import (
	"net/http"
	"testing"
	"time"
)

var observedRoutes = []observed{
	{name: "attempts", table: "virtual_hosts: [{name: v, domains: ['*'], include_request_attempt_count: true, include_attempt_count_in_response: true, routes: " + toA + "}]", observe: func(t *testing.T, s *scene) {
		t.Helper()
		got := s.get("/").is(t, 200)
		same(t, "told to the app", got.seen(t).Header.Get("X-Envoy-Attempt-Count"), "1")
		same(t, "told to the caller", got.Header.Get("X-Envoy-Attempt-Count"), "1")
	}},
	{name: "raw header value", routes: `[{match: {prefix: /}, route: {cluster: a}, request_headers_to_add: [{header: {key: x-raw, raw_value: cmF3}}]}]`, observe: func(t *testing.T, s *scene) {
		t.Helper()
		same(t, "x-raw", s.get("/").seen(t).Header.Get("X-Raw"), "raw")
	}},
	{name: "header append", routes: `[{match: {prefix: /}, route: {cluster: a}, request_headers_to_add: [{header: {key: x-set, value: v}, append: false}, {header: {key: x-add, value: v}, append: true}]}]`, observe: func(t *testing.T, s *scene) {
		t.Helper()
		h := s.get("/", "x-set", "c", "x-add", "c").seen(t).Header
		same(t, "x-set", len(h.Values("X-Set")), 1)
		same(t, "x-set", h.Get("X-Set"), "v")
		same(t, "x-add", len(h.Values("X-Add")), 2)
	}},
	{name: "gRPC timeout", routes: `[{match: {prefix: /}, route: {cluster: a, max_grpc_timeout: 3s}}]`, observe: func(t *testing.T, s *scene) {
		t.Helper()
		told := make(chan string, 1)
		s.a.does(func(_ http.ResponseWriter, req *http.Request) {
			told <- req.Header.Get("Grpc-Timeout")
			<-req.Context().Done()
		})
		same(t, "ends after", after(func() {
			s.ask(s.h2, http.MethodPost, "/", nil, "content-type", "application/grpc", "grpc-timeout", "1M")
		}), 3*time.Second)
		same(t, "the app is told", <-told, "3000m")
	}},
}
