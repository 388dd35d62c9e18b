package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quadnine/quadnine"
)

func TestClustersInEnvoysForm(t *testing.T) {
	want := `stats::breaker::closed
stats::default_priority::max_connections::1024
stats::default_priority::max_pending_requests::16
stats::default_priority::max_requests::32
stats::default_priority::max_retries::3
stats::default_priority::cx_open::2
stats::default_priority::rq_pending::1
stats::default_priority::rq_open::3
stats::default_priority::rq_overflow::7
stats::added_via_api::true
stats::10.0.0.1:8080::cx_active::2
stats::10.0.0.1:8080::cx_connect_fail::4
stats::10.0.0.1:8080::cx_total::6
stats::10.0.0.1:8080::rq_active::3
stats::10.0.0.1:8080::rq_error::5
stats::10.0.0.1:8080::rq_success::990
stats::10.0.0.1:8080::rq_timeout::0
stats::10.0.0.1:8080::rq_total::1000
stats::10.0.0.1:8080::hostname::stats.local
stats::10.0.0.1:8080::health_flags::healthy
stats::10.0.0.1:8080::weight::1
stats::10.0.0.1:8080::region::
stats::10.0.0.1:8080::zone::a
stats::10.0.0.1:8080::sub_zone::
stats::10.0.0.1:8080::priority::1
stats::10.0.0.1:8080::protocol::h2
stats::10.0.0.2:8080::cx_active::0
`
	got := get(t, New(sample()), "/clusters")
	if !strings.HasPrefix(got, want) {
		t.Errorf("got\n%s\nwant it to begin with\n%s", got, want)
	}
	for _, line := range []string{
		"stats::10.0.0.2:8080::health_flags::/connect-failed\n", "stats::10.0.0.3:8080::health_flags::/failed\n", "peers::breaker::open\n",
	} {
		if !strings.Contains(got, line) {
			t.Errorf("no %q in\n%s", line, got)
		}
	}
}

func TestDumpsAsJSON(t *testing.T) {
	h := New(sample())
	var clusters struct{ Clusters []Cluster }
	body := get(t, h, "/clusters?format=json")
	if err := json.Unmarshal([]byte(body), &clusters); err != nil {
		t.Fatal(err)
	}
	want := slices.Collect(sample().Clusters())
	want[1].Endpoints = []Endpoint{}
	if !reflect.DeepEqual(clusters.Clusters, want) || strings.Contains(body, "null") {
		t.Errorf("got  %v\nwant %v", clusters.Clusters, want)
	}
	var breakers struct{ Breakers []Breaker }
	if err := json.Unmarshal([]byte(get(t, h, "/breakers?format=json")), &breakers); err != nil {
		t.Fatal(err)
	}
	if want := slices.Collect(sample().Breakers()); !slices.Equal(breakers.Breakers, want) {
		t.Errorf("got  %v\nwant %v", breakers.Breakers, want)
	}
	if err := json.Unmarshal([]byte(get(t, h, "/breakers?format=json&tenant=nobody")), &breakers); err != nil || len(breakers.Breakers) != 0 {
		t.Errorf("no match: %v, %v; want an empty array", breakers.Breakers, err)
	}
}

// TestJSONNamesAreStable spells out what scripts may rely on.
func TestJSONNamesAreStable(t *testing.T) {
	h := New(sample())
	for target, want := range map[string]string{
		"/breakers?format=jsonl&metric=latency": `{"tenant":"t-7","metric":"latency","state":"open","failures":4,"threshold":3,"window_s":60,"retry_after_s":12.5,"reason":"upstream-5xx"}` + "\n",
		"/breakers?format=jsonl&metric=pv":      `{"tenant":"t-7","metric":"pv","state":"closed","failures":1,"threshold":3,"window_s":60}` + "\n",
		"/clusters?format=jsonl": `{"name":"stats","breaker":"closed","default_priority":{"max_connections":1024,"max_pending_requests":16,"max_requests":32,"max_retries":3,"connections":2,"pending_requests":1,"requests":3,"overflows":7},"added_via_api":true,"endpoints":[` +
			`{"address":"10.0.0.1:8080","hostname":"stats.local","protocol":"h2","healthy":true,"weight":1,"connections":2,"active_requests":3,"connect_failures":4,"total_connects":6,"requests":1000,"errors":5,"zone":"a","priority":1,"successes":990},` +
			`{"address":"10.0.0.2:8080","protocol":"http/1.1","healthy":false,"why":"connect-failed","weight":1,"connections":0,"active_requests":0,"connect_failures":0,"total_connects":0,"requests":0,"errors":0},` +
			`{"address":"10.0.0.3:8080","protocol":"unknown","healthy":false,"weight":1,"connections":0,"active_requests":0,"connect_failures":0,"total_connects":0,"requests":0,"errors":0}]}` + "\n" +
			`{"name":"peers","breaker":"open","endpoints":[]}` + "\n",
	} {
		if got := get(t, h, target); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", target, got, want)
		}
	}
}

func TestBreakersAreFiltered(t *testing.T) {
	h := New(sample())
	for query, want := range map[string]string{
		"":                        "t-7/latency t-7/pv t-8/a\nb",
		"tenant=t-7":              "t-7/latency t-7/pv",
		"tenant=t-7&state=closed": "t-7/pv",
		"state=half_open":         "t-8/a\nb",
		"metric=latency":          "t-7/latency",
		"tenant=t":                "",
		"tenant=":                 "", // asked for and empty: nobody has that name
	} {
		var keys []string
		for line := range strings.Lines(get(t, h, "/breakers?format=jsonl&"+query)) {
			var b Breaker
			if err := json.Unmarshal([]byte(line), &b); err != nil {
				t.Fatal(err)
			}
			keys = append(keys, b.Tenant+"/"+b.Metric)
		}
		if got := strings.Join(keys, " "); got != want {
			t.Errorf("%q: %q, want %q", query, got, want)
		}
	}
}

func TestBreakersAsATable(t *testing.T) {
	got := get(t, New(sample()), "/breakers")
	want := []string{
		"open      t-7                      latency                          4 of 3 failures in 1m0s, probe in 12.5s, upstream-5xx\n",
		"closed    t-7                      pv                               1 of 3 failures in 1m0s\n",
		`half_open t-8                      "a\nb"                           0 of 3 failures in 1m0s` + "\n",
	}
	if got != strings.Join(want, "") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, ""))
	}
}

// slow counts what a dump holds back: the most items made before one is written.
type slow struct {
	*httptest.ResponseRecorder
	made, written, held *int
	failAfter           int
}

var errGone = errors.New("the caller went away")

func (s slow) Write(b []byte) (int, error) {
	*s.held = max(*s.held, *s.made-*s.written)
	*s.written = *s.made
	if s.failAfter > 0 && *s.made > s.failAfter {
		return 0, errGone
	}
	return s.ResponseRecorder.Write(b)
}

func TestDumpsStream(t *testing.T) {
	const keys = 65_536
	for _, format := range []string{"text", "json", "jsonl"} {
		var made, written, held int
		v := sample()
		v.Breakers = func() iter.Seq[Breaker] {
			return func(yield func(Breaker) bool) {
				for made < keys {
					made++
					if !yield(Breaker{Tenant: "t", Metric: strconv.Itoa(made), State: "closed", Window: Seconds(time.Minute)}) {
						return
					}
				}
			}
		}
		h := New(v)
		req := httptest.NewRequest(http.MethodGet, "/breakers?format="+format, nil)
		w := slow{httptest.NewRecorder(), &made, &written, &held, 0}
		h.ServeHTTP(w, req)
		if made != keys || strings.Count(w.Body.String(), "\n") < keys {
			t.Errorf("%s: %d keys made, %d lines", format, made, strings.Count(w.Body.String(), "\n"))
		}
		if held > 200 { // one buffer of 4 kB
			t.Errorf("%s: %d keys were held back before a write", format, held)
		}
		made, written = 0, 0
		h.ServeHTTP(slow{httptest.NewRecorder(), &made, &written, &held, 1000}, req)
		if made > 2000 {
			t.Errorf("%s: %d keys were made for a caller that went away after 1000", format, made)
		}
	}
}

func TestBadParametersAreNamed(t *testing.T) {
	h := New(sample())
	for target, says := range map[string]string{
		"/clusters?format=xml":            "console: format=xml: want one of text, json, jsonl",
		"/breakers?format=%1b[2J":         `console: format="\x1b[2J": want one of text, json, jsonl`,
		"/breakers?state=broken":          "console: state=broken: want one of closed, half_open, open",
		"/explain?format=jsonl&tenant=t":  "console: format=jsonl: want one of text, json",
		"/explain":                        "the parameter tenant is missing",
		"/explain?metric=latency&tenant=": "the parameter tenant is missing",
	} {
		w := ask(h, http.MethodGet, target)
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), says) || strings.Count(w.Body.String(), "\n") != 1 {
			t.Errorf("%s: %d %q, want 400 and one line with %q", target, w.Code, w.Body, says)
		}
	}
}

func TestExplainDrawsTheDecision(t *testing.T) {
	h := New(sample())
	want := `tenant t-7, metric latency
├─ key        tenant t-7
│             because header x-tenant-id comes before query tenant
├─ breaker    open, probe in 12 s
│             because 4 failures in 1m0s reach the threshold of 3
├─ cache      1 stored reply, newest 12 s old, ttl 60 s
└─ verdict    would answer stale, age 12 s
              because the breaker is open and a stored reply is within its ttl
`
	if got := get(t, h, "/explain?tenant=t-7&metric=latency"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := get(t, h, "/explain?tenant=t%0a7"); !strings.HasPrefix(got, `tenant "t\n7", metric (none)`+"\n") {
		t.Errorf("a tenant with a line break and no metric: %q", got)
	}
}

func TestExplainAsJSON(t *testing.T) {
	v := sample()
	var got, want Explanation
	if err := json.Unmarshal([]byte(get(t, New(v), "/explain?tenant=t-7&metric=pv&format=json")), &got); err != nil {
		t.Fatal(err)
	}
	want = v.Explain(quadnine.Key{Tenant: "t-7", Metric: "pv"})
	want.Tenant, want.Metric = "t-7", "pv"
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	v.Explain = func(quadnine.Key) Explanation { return Explanation{Verdict: "would forward"} }
	if body := get(t, New(v), "/explain?tenant=t&format=json"); !strings.Contains(body, `"steps": []`) {
		t.Errorf("no steps: %s", body)
	}
}

func TestDrainListeners(t *testing.T) {
	for query, want := range map[string]string{
		"":                      "200 false false",
		"?graceful":             "200 true false",
		"?graceful&skip_exit":   "200 true true", // as Envoy Gateway asks
		"?skip_exit":            "400",
		"?graceful&inboundonly": "400",
	} {
		v, got := sample(), ""
		v.Control.DrainListeners = func(graceful, stay bool) { got = fmt.Sprint(" ", graceful, " ", stay) }
		w := ask(New(v), http.MethodPost, "/drain_listeners"+query)
		if got = strconv.Itoa(w.Code) + got; got != want {
			t.Errorf("%q: %s %s, want %s", query, got, w.Body, want)
		}
	}
}
