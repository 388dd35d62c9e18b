package compile

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// fails has the app answer 503 to the first tries of a request, as many as its
// field "fails" says.
func fails(times int) http.HandlerFunc {
	var asked atomic.Int64
	return func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("X-Timeout-Retry", req.Header.Get("X-Envoy-Is-Timeout-Retry"))
		if int(asked.Add(1)) <= times {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}
}

var observedRetries = []observed{
	{name: "retry back-off", routes: `[{match: {prefix: /}, route: {cluster: a, timeout: 0s, retry_policy: {retry_on: 5xx, num_retries: 64, retry_back_off: {base_interval: 1s, max_interval: 1s}}}}]`, observe: func(t *testing.T, s *scene) {
		t.Helper()
		s.a.does(fails(64))
		begin := time.Now()
		s.get("/").is(t, 200)
		if took := time.Since(begin); took < 16*time.Second || took > 48*time.Second { // 32 s on average; six sigma are 14 s
			t.Errorf("64 waits of less than a second took %v", took)
		}
	}},
	{name: "retry after a time-out", table: "virtual_hosts: [{name: v, domains: ['*'], include_is_timeout_retry_header: true, routes: [{match: {prefix: /}, route: {cluster: a, retry_policy: {retry_on: 5xx, num_retries: 2, per_try_timeout: 1s}}}]}]", observe: func(t *testing.T, s *scene) {
		t.Helper()
		s.a.does(fails(1))
		same(t, "after a 503", s.get("/").is(t, 200).Header.Get("X-Timeout-Retry"), "false")
		var asked atomic.Int64
		s.a.does(func(w http.ResponseWriter, req *http.Request) {
			if asked.Add(1) == 1 {
				<-req.Context().Done()
				return
			}
			w.Header().Set("X-Timeout-Retry", req.Header.Get("X-Envoy-Is-Timeout-Retry"))
		})
		same(t, "after a time-out", s.get("/").is(t, 200).Header.Get("X-Timeout-Retry"), "true")
	}},
	{
		name:     "retry budget",
		routes:   `[{match: {prefix: /}, route: {cluster: c, timeout: 10s, retry_policy: {retry_on: 5xx, retry_back_off: {base_interval: 3600s}}}}]`,
		clusters: []string{"{name: c, type: STATIC, circuit_breakers: {thresholds: [{max_retries: 100, retry_budget: {budget_percent: {value: 50}, min_retry_concurrency: 2}}]}, " + speaksH2 + ", " + endpointsAt("10.0.0.1:80") + "}"},
		observe: func(t *testing.T, s *scene) {
			t.Helper()
			release := make(chan struct{})
			s.a.does(func(w http.ResponseWriter, req *http.Request) {
				if req.URL.Path == "/held" {
					<-release
					return
				}
				w.WriteHeader(http.StatusServiceUnavailable)
			})
			// waits says how many of n requests are given another try, which does not
			// come before their time is over.
			waits := func(n int) int64 {
				var waited atomic.Int64
				var wg sync.WaitGroup
				for range n {
					wg.Go(func() {
						if s.get("/").StatusCode == http.StatusGatewayTimeout {
							waited.Add(1)
						}
					})
					synctest.Wait()
				}
				wg.Wait()
				return waited.Load()
			}
			same(t, "retries without other requests", waits(6), 2)
			var held sync.WaitGroup
			for range 8 {
				held.Go(func() { s.get("/held") })
				synctest.Wait()
			}
			// Those that wait for their next try are not on the cluster.
			same(t, "retries beside 8 requests", waits(9), 4)
			close(release)
			held.Wait()
		},
	},
}
