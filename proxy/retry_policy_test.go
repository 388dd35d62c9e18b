package proxy

import (
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"golang.org/x/net/http2"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// policyRig is a sidecar whose route has p and whose app does what script says:
// a status, "reset", "refused" or "silent" for each request.
func policyRig(t *testing.T, p *snapshot.Retry, script *scripted, change ...func(l *snapshot.Listener, h *snapshot.VirtualHost)) *rig {
	t.Helper()
	r := newManaged(t)
	testkitServe(r, script)
	l := listener("in", "sidecar:80", "a")
	l.HTTP.Envoy, l.HTTP.StreamIdleTimeout = true, time.Hour
	h := l.Inline.Hosts[0]
	host := &snapshot.VirtualHost{Name: h.Name, Domains: h.Domains, Routes: h.Routes, AttemptCount: true, AttemptCountResponse: true, TimeoutRetry: true}
	host.Routes[0].Forward.Retry = p
	for _, f := range change {
		f(l, host)
	}
	l.Inline.Hosts[0] = host
	if err := l.Inline.Finish(nil); err != nil {
		t.Fatal(err)
	}
	c := cluster("a", "a:80")
	s := *c.ClusterSettings
	s.Thresholds = [2]snapshot.Thresholds{snapshot.DefaultThresholds, snapshot.DefaultThresholds}
	c.ClusterSettings = &s
	r.apply(snapshotOf([]*snapshot.Listener{l}, c, cluster("dead", "nobody:80")))
	return r
}

// scripted is what an app does with one request after the other; the last word
// holds for all that follow.
type scripted struct {
	words []string
	asked atomic.Int64
	mu    sync.Mutex
	heads []http.Header // guarded by mu
}

func testkitServe(r *rig, s *scripted) {
	r.app("a:80", func(w http.ResponseWriter, req *http.Request) {
		i := int(s.asked.Add(1)) - 1
		s.mu.Lock()
		s.heads = append(s.heads, req.Header.Clone())
		s.mu.Unlock()
		switch word := s.words[min(i, len(s.words)-1)]; word {
		case "reset":
			panic(http.ErrAbortHandler)
		case "silent":
			<-req.Context().Done()
		default:
			if code, ok := grpcCode(word); ok {
				w.Header().Set("Grpc-Status", code)
				return
			}
			status, _ := strconv.Atoi(word)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, word)
		}
	}, testkit.H2)
}

func grpcCode(word string) (string, bool) {
	if len(word) > 5 && word[:5] == "grpc " {
		return word[5:], true
	}
	return "", false
}

// The conditions of a retry policy, one by one: what is sent again for them, and
// what is not.
func TestRetryOn(t *testing.T) {
	all := map[snapshot.RetryOn][]string{
		snapshot.OnReset:             {"reset"},
		snapshot.On5xx:               {"reset", "500", "502", "503", "504", "599"},
		snapshot.OnGatewayError:      {"reset", "502", "503", "504"},
		snapshot.On4xx:               {"409"},
		snapshot.OnStatuses:          {"418"},
		snapshot.OnCancelled:         {"grpc 1"},
		snapshot.OnDeadlineExceeded:  {"grpc 4"},
		snapshot.OnResourceExhausted: {"grpc 8"},
		snapshot.OnInternal:          {"grpc 13"},
		snapshot.OnUnavailable:       {"grpc 14"},
		snapshot.OnRefused:           {},
		snapshot.OnConnectFailure:    {},
	}
	words := []string{"reset", "500", "502", "503", "504", "599", "409", "404", "418", "grpc 1", "grpc 2", "grpc 4", "grpc 8", "grpc 13", "grpc 14"}
	for on, wanted := range all {
		for _, word := range words {
			synctest.Test(t, func(t *testing.T) {
				s := &scripted{words: []string{word, "200"}}
				r := policyRig(t, &snapshot.Retry{On: on, Max: 3, Statuses: []int{418}}, s)
				got := r.do(r.request(http.MethodPost, "/", nil))
				again := s.asked.Load() == 2
				if again != slices.Contains(wanted, word) {
					t.Errorf("condition %b: %s is sent again: %v", on, word, again)
				}
				if again && (got.StatusCode != http.StatusOK || got.Header.Get("X-Envoy-Attempt-Count") != "2") {
					t.Errorf("condition %b: %s: then %d, attempt %s", on, word, got.StatusCode, got.Header.Get("X-Envoy-Attempt-Count"))
				}
				r.settled()
			})
		}
	}
}

// Each try of a policy tells the upstream which it is; the number of tries is
// bounded, and what the last one came to is the reply.
func TestRetryPolicyTellsTheAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{words: []string{"503"}}
		r := policyRig(t, &snapshot.Retry{On: snapshot.On5xx, Max: 3, Backoff: 25 * time.Millisecond, MaxBackoff: 250 * time.Millisecond}, s)
		begin := time.Now()
		r.get("/").want(t, 503, "503").header(t, "X-Envoy-Attempt-Count", "4")
		if d := time.Since(begin); d == 0 || d > 175*time.Millisecond {
			t.Errorf("the waits between the tries took %v of fake time, want up to 25+50+100 ms", d)
		}
		r.settled()
		for i, h := range s.heads {
			if got := h.Get("X-Envoy-Attempt-Count"); got != strconv.Itoa(i+1) {
				t.Errorf("try %d says it is %s", i+1, got)
			}
		}
		r.retries("status 3, no: limit 1")
	})
}

// A try that takes longer than per_try_timeout ends, the request does not.
func TestPerTryTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{words: []string{"silent", "silent", "200"}}
		r := policyRig(t, &snapshot.Retry{On: snapshot.On5xx, Max: 2, PerTry: time.Second}, s)
		begin := time.Now()
		r.get("/").want(t, 200, "200").header(t, "X-Envoy-Attempt-Count", "3")
		if d := time.Since(begin); d < 2*time.Second || d > 2100*time.Millisecond {
			t.Errorf("two tries of a second took %v", d)
		}
		if got := s.heads[2].Get("X-Envoy-Is-Timeout-Retry") + s.heads[2].Get("X-Envoy-Expected-Rq-Timeout-Ms"); got != "true1000" {
			t.Errorf("the third try says %q", got)
		}
		r.retries("timeout 2, succeeded 1")
		r.settled()
	})
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{words: []string{"silent"}}
		r := policyRig(t, &snapshot.Retry{On: snapshot.On5xx, Max: 1, PerTry: time.Second}, s, func(l *snapshot.Listener, _ *snapshot.VirtualHost) {
			l.Inline.Hosts[0].Routes[0].Forward.Timeout = 10 * time.Second
		})
		r.get("/").want(t, 504, "upstream request timeout")
		r.retries("timeout 1, no: limit 1")
		r.settled()
	})
	synctest.Test(t, func(t *testing.T) { // the route's time-out is over all tries
		s := &scripted{words: []string{"silent"}}
		r := policyRig(t, &snapshot.Retry{On: snapshot.On5xx, Max: 100, PerTry: time.Second}, s, func(l *snapshot.Listener, _ *snapshot.VirtualHost) {
			l.Inline.Hosts[0].Routes[0].Forward.Timeout = 2500 * time.Millisecond
		})
		begin := time.Now()
		r.get("/").want(t, 504, "upstream request timeout")
		if d := time.Since(begin); d < 2500*time.Millisecond || d > 2600*time.Millisecond {
			t.Errorf("took %v of fake time, want 2.5 s", d)
		}
		r.settled()
	})
}

// Of a cluster's requests as many may be sent again at a time as its thresholds
// say.
func TestMaxRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{words: []string{"503"}}
		r := policyRig(t, &snapshot.Retry{On: snapshot.On5xx, Max: 1, Backoff: time.Hour, MaxBackoff: time.Hour}, s, func(l *snapshot.Listener, h *snapshot.VirtualHost) {
			h.Routes[0].Forward.Timeout = time.Second
		})
		const n = 10
		got := make(chan int, n)
		for range n {
			go func() { got <- r.get("/").StatusCode }()
		}
		waited := 0
		for range n {
			if <-got == http.StatusGatewayTimeout {
				waited++
			}
		}
		if waited != 3 {
			t.Errorf("%d requests waited for their second try, want 3", waited)
		}
		r.settled()
		r.retries("status 3, no: budget 7")
		if u := r.server.Clusters()[0].Usage(snapshot.PriorityDefault); u.Retries != 0 || u.RetryOverflows != 7 {
			t.Errorf("%+v", u)
		}
	})
}

// The policy decides as failsafe-go's does: the same number of tries with the same
// outcome, for random scripts, conditions and limits.
func TestRetryPolicyAgainstFailsafe(t *testing.T) {
	words := []string{"200", "404", "409", "500", "502", "503", "reset", "refused"}
	reset := errors.New("reset")
	for range 300 {
		script := make([]string, 1+rand.IntN(6))
		for i := range script {
			script[i] = words[rand.IntN(len(words))]
		}
		script = append(script, "200")
		limit := rand.IntN(5)
		fifth, gateway, fourth, resets, refused := rand.IntN(2) == 0, rand.IntN(2) == 0, rand.IntN(2) == 0, rand.IntN(2) == 0, rand.IntN(2) == 0

		at := 0
		oracle := retrypolicy.NewBuilder[string]().WithMaxRetries(limit).ReturnLastFailure().HandleIf(func(word string, err error) bool {
			if err != nil {
				return resets || fifth || gateway || refused && word == "refused"
			}
			status, _ := strconv.Atoi(word)
			return fifth && status >= 500 || gateway && status >= 502 && status <= 504 || fourth && status == 409
		})
		if limit == 0 {
			oracle.WithMaxRetries(0)
		}
		last, _ := failsafe.With(oracle.Build()).Get(func() (string, error) {
			word := script[at]
			at++
			if word == "reset" || word == "refused" {
				return word, reset
			}
			return word, nil
		})

		p := &snapshot.Retry{Max: uint32(limit)}
		for on, set := range map[snapshot.RetryOn]bool{
			snapshot.On5xx: fifth, snapshot.OnGatewayError: gateway, snapshot.On4xx: fourth, snapshot.OnReset: resets, snapshot.OnRefused: refused,
		} {
			if set {
				p.On |= on
			}
		}
		if p.On == 0 || slices.Contains(script, "refused") && p.On&(snapshot.OnRefused|snapshot.OnReset|snapshot.On5xx|snapshot.OnGatewayError) == 0 {
			continue // what is refused is repeated without a policy too
		}
		synctest.Test(t, func(t *testing.T) {
			r := policyRig(t, p, &scripted{words: []string{"200"}}, func(l *snapshot.Listener, h *snapshot.VirtualHost) {
				h.Routes[0].Forward.Cluster = "script"
				l.Inline.Clusters = []string{"script"}
			})
			asked := 0
			r.frameApp("script:80", func(w *wire) {
				for line := range w.frames {
					id, ok := streamOf(line)
					if !ok {
						continue
					}
					word := script[asked]
					asked++
					switch word {
					case "reset":
						w.do(func(fr *http2.Framer) error { return fr.WriteRSTStream(id, http2.ErrCodeInternal) })
					case "refused":
						w.do(func(fr *http2.Framer) error { return fr.WriteRSTStream(id, http2.ErrCodeRefusedStream) })
					default:
						w.headers(id, true, ":status", word)
					}
				}
			})
			snap := *r.server.current.Load().snap
			all := maps.Clone(snap.Clusters)
			all["script"] = cluster("script", "script:80")
			snap.Clusters = all
			r.apply(&snap)
			got := r.get("/")
			want := last
			if want == "reset" || want == "refused" {
				want = "503"
			}
			if asked != at || strconv.Itoa(got.StatusCode) != want {
				t.Errorf("%v, conditions %b, %d retries: %d tries and %d, failsafe-go has %d and %s", script, p.On, limit, asked, got.StatusCode, at, want)
			}
			r.settled()
		})
	}
}

// streamOf returns the stream that a line of a wire says begins.
func streamOf(line string) (uint32, bool) {
	if len(line) < 8 || line[:8] != "HEADERS " {
		return 0, false
	}
	n := 0
	for _, c := range line[8:] {
		if c < '0' || c > '9' {
			break
		}
		n = 10*n + int(c-'0')
	}
	return uint32(n), true
}

// The access log has Envoy's flag for a request whose tries were used up.
func TestRetryLimitIsLogged(t *testing.T) {
	if got := string((upstreamConnectionFailure | retryLimitExceeded | streamIdleTimeout).appendTo(nil)); got != "UF,URX,SI" {
		t.Errorf("flags %s", got)
	}
	if telemetry.RetriedStatus == telemetry.RetriedReset {
		t.Error("two reasons share a counter")
	}
}
