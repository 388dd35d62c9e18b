package proxy

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// stats is an upstream that knows metrics: uv is 10 and pv is 3.
type stats struct {
	mu    sync.Mutex
	asked []*http.Request             // guarded by mu
	does  map[string]http.HandlerFunc // guarded by mu; by metric, instead
	body  map[string]string           // guarded by mu; by metric, of the last POST
	value map[string]float64          // guarded by mu
}

func (s *stats) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	metric := req.URL.Query().Get("metric")
	b, _ := io.ReadAll(req.Body)
	s.mu.Lock()
	s.asked = append(s.asked, req)
	if s.body == nil {
		s.body = make(map[string]string)
	}
	s.body[metric] = string(b)
	do, v := s.does[metric], map[string]float64{"uv": 10, "pv": 3, "uvd": 7, "pvd": 5}[metric]
	if set, ok := s.value[metric]; ok {
		v = set
	}
	s.mu.Unlock()
	if do != nil {
		do(w, req)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"tenant":"t","metric":%q,"from":"2026-01-01T00:00:00Z","to":"2026-01-02T00:00:00Z","value":%v,"exact":true,"method":"count","events":1}`, metric, v)
}

func (s *stats) do(metric string, h http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.does == nil {
		s.does = make(map[string]http.HandlerFunc)
	}
	s.does[metric] = h
}

func (s *stats) requests() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func status(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

const score = query + "?tenant=t&metric=score"

// scoring is a rig whose metric score is computed by version 1: 2·uv + pv.
func scoring(t *testing.T, src snapshot.Source) (*rig, *shelf, *stats) {
	t.Helper()
	s := &shelf{model: &Model{Name: "score", Embedded: true}, metric: "score", active: weighted(1, 2)}
	r := newRig(t, src, s.with)
	app := new(stats)
	r.app("app:80", app.ServeHTTP)
	return r, s, app
}

// computed checks a computed reply and returns its value.
func (r reply) computed(t *testing.T, model string) float64 {
	t.Helper()
	r.want(t, 200, "").header(t, "X-Quadnine-Model", model).header(t, "Content-Type", "application/json")
	var v struct {
		Tenant, Metric, From, To, Method, Model string
		Value                                   *float64
		Exact                                   bool
		Inputs                                  map[string]float64
	}
	if err := json.Unmarshal([]byte(r.body), &v); err != nil {
		t.Fatalf("%v in %s", err, r.body)
	}
	if v.Tenant != "t" || v.Metric != "score" || v.Model != model || v.Method != "model" || len(v.Inputs) != 2 || v.Value == nil {
		t.Fatalf("got %s", r.body)
	}
	return *v.Value
}

func TestScoreIsComputedFromTheUpstreamsReplies(t *testing.T) {
	for _, front := range []testkit.Protocol{testkit.H1, testkit.H2} {
		for _, back := range []testkit.Protocol{testkit.H1, testkit.H2} {
			t.Run(string(front)+" to "+string(back), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := &shelf{model: &Model{Name: "score", Embedded: true}, metric: "score", active: weighted(1, 2)}
					r := newRig(t, snapshot.Source{Degrade: []string{"/api"}, Upstreams: []string{string(back) + "://app:80"}}, s.with)
					r.client = r.newClient(front)
					app := new(stats)
					r.app("app:80", app.ServeHTTP, back)

					got := r.get(score+"&from=1&to=2", "Accept-Encoding", "br", "Range", "bytes=0-1", "If-None-Match", `"x"`, "X-Model-Version", "score@9")
					if v := got.header(t, "X-Quadnine-Degraded", "").computed(t, "score@1"); v != 23 {
						t.Fatalf("value %v, want 2·10 + 3", v)
					}
					const want = `{"tenant":"t","metric":"score","from":"2026-01-01T00:00:00Z","to":"2026-01-02T00:00:00Z","value":23,"exact":true,"method":"model","model":"score@1","inputs":{"uv":10,"pv":3}}` + "\n"
					if got.body != want {
						t.Errorf("got  %swant %s", got.body, want)
					}
					asked := make(map[string]int) // in either order: the app has a goroutine for each
					for _, req := range app.requests() {
						asked[req.URL.RequestURI()]++
						for _, name := range []string{"Accept-Encoding", "Range", "If-None-Match", "X-Model-Version"} {
							if h := req.Header.Get(name); h != "" {
								t.Errorf("%s went along: %q", name, h)
							}
						}
					}
					for _, metric := range []string{"uv", "pv"} {
						if uri := query + "?tenant=t&metric=" + metric + "&from=1&to=2"; asked[uri] != 1 {
							t.Errorf("asked for %v, want %s once", asked, uri)
						}
					}
					if n := len(app.requests()); n != 2 {
						t.Errorf("%d requests to the upstream, want one for each input", n)
					}
					if head := r.do(r.request(http.MethodHead, score, nil)).want(t, 200, ""); head.body != "" || head.Header.Get("X-Quadnine-Model") != "score@1" {
						t.Errorf("HEAD: %q %v", head.body, head.Header)
					}
					s.set(func() { s.active = weighted(2, 0.5) }) // one weight changed
					if v := r.get(score).computed(t, "score@2"); v != 8 {
						t.Errorf("value %v, want 8", v)
					}
					r.settled()
					s.balanced(t)
					if n := r.reg.Total(telemetry.AnsweredActive); n != 3 {
						t.Errorf("%d answers counted, want 3", n)
					}
					if tot := r.reg.Tenants()["t"]; tot.Requests() != 3 {
						t.Errorf("%d requests counted, want 3: inputs are not the caller's", tot.Requests())
					}
				})
			})
		}
	}
}

func TestScoreBitForBit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s, app := scoring(t, snapshot.Source{})
		for _, uv := range []float64{0.1, 1e21, 5e-324, -1.0 / 3, math.MaxFloat64 / 4, math.Copysign(0, -1)} {
			app.mu.Lock()
			app.value = map[string]float64{"uv": uv, "pv": 0}
			app.mu.Unlock()
			if v := r.get(score).computed(t, "score@1"); v != 2*uv {
				t.Errorf("uv %v: %v, want %v", uv, v, 2*uv)
			}
		}
		s.balanced(t)
	})
}

// Nothing that a caller sends is a number to compute from, or chooses the metric
// of an input.
func TestForgedInputsChangeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, app := scoring(t, snapshot.Source{})
		app.do("forged", status(200, `{"value":1e6}`))
		for _, path := range []string{
			score + "&uv=99&pv=99&value=99&inputs=99",
			score + "&metric=forged",
			score + "&%6detric=forged&m%65tric=forged",
			query + "?metric=score&tenant=t&metric=uv",
		} {
			if v := r.get(path, "X-Metric", "forged", "Uv", "99", "X-Quadnine-Model", "score@9").computed(t, "score@1"); v != 23 {
				t.Errorf("%s: %v", path, v)
			}
		}
		for _, req := range app.requests() {
			if m := req.URL.Query()["metric"]; len(m) != 1 || m[0] != "uv" && m[0] != "pv" || req.Header.Get("X-Metric") != m[0] {
				t.Fatalf("asked for %v, x-metric %s", m, req.Header.Get("X-Metric"))
			}
		}
	})
}

func TestMetricNamedElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, err := snapshot.Parse("quadnine.yaml", []byte("tenantBreaker:\n  metric: [{header: x-m}, {pathSegment: {index: 1}}]\n"))
		if err != nil {
			t.Fatal(err)
		}
		r, _, app := scoring(t, snapshot.Source{File: f})
		one := func(w http.ResponseWriter, req *http.Request) {
			_, _ = fmt.Fprintf(w, `{"value":%d}`, map[string]int{"/m/uv/x": 4, "/m/pv/x": 5, "/m/y/x": 6}[req.URL.Path])
		}
		app.do("", one)
		if v := r.get("/m/score/x?tenant=t").computed(t, "score@1"); v != 13 {
			t.Errorf("by path: %v", v)
		}
		if v := r.get("/m/y/x?tenant=t", "X-M", "score").computed(t, "score@1"); v != 18 {
			t.Errorf("by header: %v", v)
		}
	})
}

func TestScoreOfAPostedQuery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s, app := scoring(t, snapshot.Source{Degrade: []string{"/api"}})
		big := strings.Repeat("q", hashInline+1)
		for _, body := range []string{"q", big} {
			if v := r.do(r.request(http.MethodPost, score, strings.NewReader(body))).computed(t, "score@1"); v != 23 {
				t.Errorf("value %v", v)
			}
			if app.body["uv"] != body || app.body["pv"] != body {
				t.Errorf("the inputs were asked with %d and %d bytes, want %d", len(app.body["uv"]), len(app.body["pv"]), len(body))
			}
		}
		r.do(r.request(http.MethodPost, score, strings.NewReader(strings.Repeat("x", 2*collectLimit)))).want(t, 501, "64 KiB")
		r.do(r.request(http.MethodPut, score, strings.NewReader("x"))).want(t, 501, "GET")
		got := r.do(r.request(http.MethodPost, score, strings.NewReader("x"), "Content-Type", "application/grpc"))
		if got.Header.Get("Grpc-Status") != "12" {
			t.Errorf("gRPC: %v", got.Header)
		}
		r.settled()
		s.balanced(t)
	})
}

func TestStaleInputsGiveADegradedScore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s, app := scoring(t, snapshot.Source{Degrade: []string{"/api"}})
		r.get(score).computed(t, "score@1")
		time.Sleep(7 * time.Second)
		app.do("uv", status(500, "no"))
		for i := range 6 { // the fifth finds the breaker open
			why := "upstream-5xx"
			if i >= 4 {
				why = "breaker-open"
			}
			got := r.get(score).header(t, "X-Quadnine-Degraded", "stale; reason="+why+"; age=7")
			if v := got.computed(t, "score@1"); v != 23 {
				t.Errorf("value %v", v)
			}
		}
		if v := r.server.Explain(keyOf("t", "score")).Breaker; v.Failures != 0 {
			t.Errorf("the score's own key has %d failures: they are its input's", v.Failures)
		}
		if v := r.server.Explain(keyOf("t", "uv")).Breaker; v.State != policy.StateOpen {
			t.Errorf("uv's breaker is %v", v.State)
		}
		r.settled()
		s.balanced(t)
	})
}

func TestInputThatIsUnknownIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{model: &Model{Name: "score", Embedded: true}, metric: "score", active: weighted(1, 2)}
		r := newRig(t, snapshot.Source{Degrade: []string{"/api"}}, s.with)
		r.get(score).want(t, 503, "input uv: ").header(t, "X-Quadnine-Model", "")
		r.settled()
		s.balanced(t)
	})
}

func TestUpstreamsOwnAnswerToAnInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s, app := scoring(t, snapshot.Source{})
		for _, code := range []int{400, 404, 429, 500} {
			app.do("pv", status(code, "pv says so"))
			r.get(score).want(t, code, "pv says so").header(t, "X-Quadnine-Model", "")
		}
		if n := r.server.Explain(keyOf("t", "score")).Breaker.Failures; n != 0 {
			t.Errorf("%d failures of the score", n)
		}
		r.settled()
		s.balanced(t)
	})
}

func TestBadInputs(t *testing.T) {
	for name, body := range map[string]string{
		"no JSON": "uv=10", "no object": "[10]", "no value": `{"metric":"uv"}`, "null": `{"value":null}`, "text": `{"value":"10"}`,
		"too large a number": `{"value":1e999}`, "NaN": `{"value":NaN}`, "cut": `{"value":10`, "too long": strings.Repeat(" ", maxInput) + `{"value":10}`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, s, app := scoring(t, snapshot.Source{})
				app.do("uv", status(200, body))
				r.get(score).want(t, 502, "input uv: ").header(t, "X-Quadnine-Model", "")
				if n := r.reg.Total(telemetry.ModelBadInput); n != 1 {
					t.Errorf("counted %d times", n)
				}
				if n := r.server.Explain(keyOf("t", "score")).Breaker.Failures; n != 1 {
					t.Errorf("%d failures, want 1", n)
				}
				r.settled()
				s.balanced(t)
			})
		})
	}
}

func TestWithoutAVersionThereIsNoScore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s, app := scoring(t, snapshot.Source{})
		s.set(func() { s.active = nil })
		got := r.get(score).want(t, 503, "no version of the model")
		if got.Header.Get("Retry-After") == "" {
			t.Errorf("no Retry-After: %v", got.Header)
		}
		if n := len(app.requests()); n != 0 {
			t.Errorf("%d requests to the upstream", n)
		}
		r.settled()
	})
}

func TestPeerAnswersTheInputs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{model: &Model{Name: "score", Embedded: true}, metric: "score", active: weighted(1, 2)}
		r := newRig(t, snapshot.Source{Peers: []string{"h2c://peer:80"}, Trust: []string{"192.0.2.0/24"}}, s.with)
		peer := new(stats)
		r.app("peer:80", peer.ServeHTTP)
		got := r.get(score).header(t, "X-Quadnine-Degraded", "peer; reason=connect-failed")
		if v := got.computed(t, "score@1"); v != 23 {
			t.Errorf("value %v", v)
		}
		for _, req := range peer.requests() {
			if req.Header.Get("X-Quadnine-Hop") != "1" || req.URL.Query().Get("metric") == "score" {
				t.Errorf("the peer was asked for %s, hop %q", req.URL, req.Header.Get("X-Quadnine-Hop"))
			}
		}
		s.set(func() { s.active = nil }) // then the peer's own model is asked
		peer.do("score", status(200, "the peer's"))
		r.get(score).want(t, 200, "the peer's").header(t, "X-Quadnine-Degraded", "peer; reason=no-model")
		r.settled()
		s.balanced(t)
	})
}
