package console

import (
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/telemetry"
)

// sample returns views with something on every page.
func sample() Views {
	return Views{
		Ready:   func() State { return Live },
		Metrics: telemetry.NewRegistry().Handler(),
		Clusters: func() iter.Seq[Cluster] {
			return slices.Values([]Cluster{
				{Name: "stats", Breaker: "closed", ViaAPI: true, Default: &Limits{1024, 16, 32, 3, 2, 1, 3, 7}, Endpoints: []Endpoint{
					{
						Address: "10.0.0.1:8080", Hostname: "stats.local", Protocol: "h2", Healthy: true, Weight: 1, Connections: 2,
						ActiveRequests: 3, ConnectFailures: 4, TotalConnects: 6, Requests: 1000, Errors: 5, Successes: 990, Zone: "a", Priority: 1,
					},
					{Address: "10.0.0.2:8080", Protocol: "http/1.1", Why: "connect-failed", Weight: 1},
					{Address: "10.0.0.3:8080", Protocol: "unknown", Weight: 1},
				}},
				{Name: "peers", Breaker: "open"},
			})
		},
		Breakers: func() iter.Seq[Breaker] {
			return slices.Values([]Breaker{
				{Tenant: "t-7", Metric: "latency", State: "open", Failures: 4, Threshold: 3, Window: Seconds(time.Minute), RetryAfter: Seconds(12500 * time.Millisecond), Reason: "upstream-5xx"},
				{Tenant: "t-7", Metric: "pv", State: "closed", Failures: 1, Threshold: 3, Window: Seconds(time.Minute)},
				{Tenant: "t-8", Metric: "a\nb", State: "half_open", Threshold: 3, Window: Seconds(time.Minute)},
			})
		},
		Models: func() iter.Seq[Model] {
			at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			return slices.Values([]Model{
				{
					Name: "score", Mode: "embedded", Metric: "score",
					Versions: []Version{
						{Number: 2, Root: "ab12", State: "active", Since: at, Leases: 3, Weight: 95},
						{Number: 3, Root: "cd34", State: "canary", Since: at, Leases: 1, Weight: 5, Evidence: "verdict=hold why=too-early", Expect: "at 9 requests/s telling 0.1 % from 1 % takes about 160 s"},
					},
					Refused:     []Refused{{Number: 1, Reason: "verdict=rollback why=non-finite", At: at}},
					Quarantined: []Quarantine{{Drop: "score-4\n", Reason: "wrong digest"}},
				},
				{Name: "uplift", Mode: "routed"},
			})
		},
		Explain: func(k quadnine.Key) Explanation {
			return Explanation{
				Steps: []Step{
					{"key", "tenant " + k.Tenant, "header x-tenant-id comes before query tenant"},
					{"breaker", "open, probe in 12 s", "4 failures in 1m0s reach the threshold of 3"},
					{"cache", "1 stored reply, newest 12 s old, ttl 60 s", ""},
				},
				Verdict: "would answer stale, age 12 s",
				Because: "the breaker is open and a stored reply is within its ttl",
			}
		},
		Info: func() Info {
			return Info{Version: "v0.1.0", Role: "inbound", Listen: []string{"127.0.0.1:15001"}, Started: time.Now().Add(-time.Minute)}
		},
	}
}

func ask(h http.Handler, method, target string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, target, nil))
	return w
}

// get asks for a page that must be there.
func get(t *testing.T, h http.Handler, target string) string {
	t.Helper()
	w := ask(h, http.MethodGet, target)
	if w.Code != http.StatusOK {
		t.Fatalf("GET %s: %d %s", target, w.Code, w.Body)
	}
	return w.Body.String()
}

func TestReadySaysTheState(t *testing.T) {
	state := PreInitializing
	v := sample()
	v.Ready = func() State { return state }
	h := New(v)
	for _, tc := range []struct {
		state State
		code  int
		body  string
	}{
		{PreInitializing, 503, "PRE_INITIALIZING\n"},
		{Live, 200, "LIVE\n"},
		{Draining, 503, "DRAINING\n"},
	} {
		state = tc.state
		w := ask(h, http.MethodGet, "/ready")
		if w.Code != tc.code || w.Body.String() != tc.body || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %q %v", tc.state, w.Code, w.Body, w.Header())
		}
	}
}

// TestReadyWaitsForNothing has every other view hang (envoy#16425: a probe stood
// 7 s behind a dump of statistics).
func TestReadyWaitsForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		hang := func() { <-release }
		r := telemetry.NewRegistry()
		r.Gauge(telemetry.Ready, func() float64 { hang(); return 1 })
		h := New(Views{
			Ready:    func() State { return Live },
			Metrics:  r.Handler(),
			Clusters: func() iter.Seq[Cluster] { hang(); return slices.Values([]Cluster{}) },
			Breakers: func() iter.Seq[Breaker] { return func(func(Breaker) bool) { hang() } },
			Models:   func() iter.Seq[Model] { return func(func(Model) bool) { hang() } },
			Explain:  func(quadnine.Key) Explanation { hang(); return Explanation{} },
			Info:     func() Info { hang(); return Info{} },
		})
		answered := make(chan string, 6)
		for _, target := range []string{"/stats/prometheus", "/clusters", "/breakers", "/models", "/explain?tenant=t", "/server_info"} {
			go func() { answered <- fmt.Sprint(target, " ", ask(h, http.MethodGet, target).Code) }()
		}
		synctest.Wait()
		if len(answered) != 0 {
			t.Errorf("%s although its view hangs", <-answered)
		}
		if got := get(t, h, "/ready"); got != "LIVE\n" {
			t.Errorf("ready %q", got)
		}
		close(release)
		for range 6 {
			if got := <-answered; !strings.HasSuffix(got, " 200") {
				t.Error(got)
			}
		}
	})
}

func TestOnlyReads(t *testing.T) {
	h := New(sample())
	for _, path := range []string{"/", "/ready", "/stats/prometheus", "/clusters", "/breakers", "/models", "/explain?tenant=t", "/server_info", "/nowhere"} {
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, "BREW"} {
			w := ask(h, method, path)
			if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: %d, Allow %q", method, path, w.Code, w.Header().Get("Allow"))
			}
		}
		if get, head := ask(h, http.MethodGet, path), ask(h, http.MethodHead, path); get.Code != head.Code {
			t.Errorf("%s: GET %d, HEAD %d", path, get.Code, head.Code)
		}
	}
}

func TestIndexListsWhatIsServed(t *testing.T) {
	h := New(sample())
	index := get(t, h, "/")
	var paths []string
	for line := range strings.Lines(index) {
		path := strings.Fields(line)[0]
		paths = append(paths, path)
		if path != "/explain" { // wants a parameter
			get(t, h, path)
		}
	}
	want := []string{"/ready", "/stats/prometheus", "/clusters", "/breakers", "/models", "/explain", "/server_info"}
	if !slices.Equal(paths, want) {
		t.Errorf("index lists %v, want %v", paths, want)
	}
	w := ask(h, http.MethodGet, "/nowhere%0a")
	if w.Code != http.StatusNotFound || !strings.HasPrefix(w.Body.String(), `console: no page "/nowhere\n"; there are:`) ||
		!strings.HasSuffix(w.Body.String(), index) {
		t.Errorf("unknown page: %d %q", w.Code, w.Body)
	}
}

func TestNilViewsAreNotServed(t *testing.T) {
	h := New(Views{})
	if w := ask(h, http.MethodGet, "/ready"); w.Code != http.StatusServiceUnavailable || w.Body.String() != "PRE_INITIALIZING\n" {
		t.Errorf("ready %d %q without a view, want 503 PRE_INITIALIZING", w.Code, w.Body)
	}
	if got := get(t, h, "/"); strings.Count(got, "\n") != 1 || !strings.HasPrefix(got, "/ready ") {
		t.Errorf("index %q, want /ready alone", got)
	}
	for _, path := range []string{"/stats/prometheus", "/clusters", "/breakers", "/models", "/explain?tenant=t", "/server_info"} {
		if w := ask(h, http.MethodGet, path); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d, want 404", path, w.Code)
		}
	}
}

func TestMetricsPage(t *testing.T) {
	if got := get(t, New(sample()), "/stats/prometheus"); !strings.Contains(got, "quadnine_requests_total{") {
		t.Errorf("metrics %q", got)
	}
}

func TestServerInfo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got map[string]any
		if err := json.Unmarshal([]byte(get(t, New(sample()), "/server_info")), &got); err != nil {
			t.Fatal(err)
		}
		delete(got, "started")
		want := map[string]any{
			"state": "LIVE", "uptime_s": 60.0, "version": "v0.1.0", "role": "inbound",
			"listen": []any{"127.0.0.1:15001"}, "upstream": []any{},
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
	})
}

func TestSecondsInJSON(t *testing.T) {
	for _, tc := range []struct {
		d    time.Duration
		json string
	}{{0, "0"}, {90 * time.Second, "90"}, {1500 * time.Millisecond, "1.5"}, {1_234_567 * time.Microsecond, "1.235"}} {
		b, err := json.Marshal(Seconds(tc.d))
		if err != nil || string(b) != tc.json {
			t.Errorf("%v: %s, %v; want %s", tc.d, b, err, tc.json)
		}
		var back Seconds
		if err := json.Unmarshal(b, &back); err != nil || time.Duration(back) != tc.d.Round(time.Millisecond) {
			t.Errorf("%s read back as %v, %v", b, back, err)
		}
	}
	var s Seconds
	if err := json.Unmarshal([]byte(`"1m"`), &s); err == nil {
		t.Error(`"1m" was read as seconds`)
	}
}
