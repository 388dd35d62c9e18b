package proxy

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// aborts breaks the stream off before a response's head.
func aborts(asked *atomic.Int64) http.HandlerFunc {
	return func(_ http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		asked.Add(1)
		panic(http.ErrAbortHandler)
	}
}

// retries compares what was sent again, and what was not, with want: lines of
// name and number, in a fixed order.
func (r *rig) retries(want string) {
	r.t.Helper()
	var got []string
	for _, c := range []struct {
		name string
		id   telemetry.CounterID
	}{
		{"connect", telemetry.RetriedConnect},
		{"refused", telemetry.RetriedRefused},
		{"reset", telemetry.RetriedReset},
		{"timeout", telemetry.RetriedTimeout},
		{"status", telemetry.RetriedStatus},
		{"succeeded", telemetry.RetriesSucceeded},
		{"no: method", telemetry.NotRetriedMethod},
		{"no: body", telemetry.NotRetriedBody},
		{"no: limit", telemetry.NotRetriedLimit},
		{"no: budget", telemetry.NotRetriedBudget},
	} {
		if n := r.reg.Total(c.id); n != 0 {
			got = append(got, fmt.Sprintf("%s %d", c.name, n))
		}
	}
	if s := strings.Join(got, ", "); s != want {
		r.t.Errorf("retries: %s, want %s", s, want)
	}
}

// A request whose endpoint broke off goes to the other one, once, and nobody is
// told of it: not the caller, not the key's breaker.
func TestBrokenTryIsRepeatedElsewhere(t *testing.T) {
	for _, up := range []testkit.Protocol{testkit.H2, testkit.H1} {
		t.Run(string(up), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, snapshot.Source{Upstreams: []string{string(up) + "://bad:80", string(up) + "://good:80"}})
				var bad, good atomic.Int64
				r.app("bad:80", aborts(&bad), up)
				r.app("good:80", func(w http.ResponseWriter, _ *http.Request) {
					good.Add(1)
					_, _ = io.WriteString(w, "good")
				}, up)
				for range 20 {
					r.get("/?tenant=a").want(t, 200, "good")
				}
				r.settled()
				if bad.Load() == 0 || good.Load() != 20 {
					t.Errorf("asked %d and %d times", bad.Load(), good.Load())
				}
				if n := r.failures("a"); n != 0 {
					t.Errorf("%d failures count against the key", n)
				}
				n := strconv.FormatInt(bad.Load(), 10)
				r.retries("reset " + n + ", succeeded " + n)
				counts := r.server.Clusters()[0].Endpoints()[0].Counts()
				if counts.Errors != uint64(bad.Load()) {
					t.Errorf("%d errors count against the endpoint, want %d", counts.Errors, bad.Load())
				}
			})
		})
	}
}

// One more try, not two: then the failure is told, and counts once.
func TestTryIsRepeatedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Upstreams: []string{"h2c://a:80", "h2c://b:80", "h2c://c:80"}})
		var asked atomic.Int64
		for _, app := range []string{"a:80", "b:80", "c:80"} {
			r.app(app, aborts(&asked))
		}
		r.get("/?tenant=a").want(t, 502, "")
		r.settled()
		if asked.Load() != 2 || r.failures("a") != 1 {
			t.Errorf("asked %d times, %d failures: want 2 and 1", asked.Load(), r.failures("a"))
		}
		r.retries("reset 1, no: limit 1")
	})
}

// With one endpoint the second try goes there too.
func TestTryIsRepeatedAtTheOnlyEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{})
		var asked atomic.Int64
		r.app("app:80", func(w http.ResponseWriter, _ *http.Request) {
			if asked.Add(1) == 1 {
				panic(http.ErrAbortHandler)
			}
			_, _ = io.WriteString(w, "at last")
		})
		r.get("/").want(t, 200, "at last")
		r.settled()
		r.retries("reset 1, succeeded 1")
	})
}

// What may not be sent again is not: its failure is told, and why is counted.
func TestWhatIsNotRepeated(t *testing.T) {
	for _, c := range []struct {
		name, method, body string
		src                snapshot.Source
		asked              int64
		counted            string
	}{
		{"POST", http.MethodPost, "", snapshot.Source{}, 1, "no: method 1"},
		{"POST with a body that is kept", http.MethodPost, "x", snapshot.Source{RetryBody: 100}, 1, "no: method 1"},
		{"PUT with a body", http.MethodPut, "x", snapshot.Source{}, 1, "no: body 1"},
		{"PUT with a body that is too long", http.MethodPut, strings.Repeat("x", 101), snapshot.Source{RetryBody: 100}, 1, "no: body 1"},
		{"off", http.MethodGet, "", snapshot.Source{Retry: "off"}, 1, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.src.Upstreams = []string{"h2c://a:80", "h2c://b:80"}
				r := newRig(t, c.src)
				var asked atomic.Int64
				r.app("a:80", aborts(&asked))
				r.app("b:80", aborts(&asked))
				r.do(r.request(c.method, "/", strings.NewReader(c.body))).want(t, 502, "")
				r.settled()
				if asked.Load() != c.asked {
					t.Errorf("asked %d times, want %d", asked.Load(), c.asked)
				}
				r.retries(c.counted)
				if n := r.reg.Total(telemetry.OverBudgetDrops); (n == 1) != (len(c.body) > 100) {
					t.Errorf("%d bodies were too long", n)
				}
			})
		})
	}
}

// A body within the bound is whole in the second try, also where the first one
// ended in the middle of it. With HTTP/2 the rest comes only after that: Go's server
// takes trailers that were on their way when it reset their stream for a connection
// error. With HTTP/1.1 it reads some of the rest before it closes.
func TestKeptBodyIsSentAgain(t *testing.T) {
	for _, up := range []testkit.Protocol{testkit.H2, testkit.H1} {
		t.Run(string(up), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, snapshot.Source{Upstreams: []string{string(up) + "://app:80"}, RetryBody: 1 << 20})
				var asked atomic.Int64
				again := make(chan struct{})
				r.app("app:80", func(w http.ResponseWriter, req *http.Request) {
					switch asked.Add(1) {
					case 1:
						_, _ = io.ReadFull(req.Body, make([]byte, 150_000))
						panic(http.ErrAbortHandler)
					case 2:
						close(again)
					}
					b, _ := io.ReadAll(req.Body)
					fmt.Fprintf(w, "%s %d %v", req.Trailer.Get("X-T"), len(b), strings.Count(string(b), "0123456789"))
				}, up)
				body, write := io.Pipe()
				req := r.request(http.MethodPut, "/", body)
				req.Trailer = http.Header{"X-T": nil}
				go func() {
					for i := range 20_000 {
						if i == 15_000 && up == testkit.H2 {
							select {
							case <-again:
							case <-t.Context().Done():
							}
						}
						_, _ = io.WriteString(write, "0123456789")
					}
					req.Trailer.Set("X-T", "trailer")
					_ = write.Close()
				}()
				r.do(req).want(t, 200, "trailer 200000 20000")
				r.settled()
				r.retries("reset 1, succeeded 1")
			})
		})
	}
}

// REFUSED_STREAM and a GOAWAY that leaves the stream out say that nothing was
// done: any method is sent again.
func TestRefusedTryIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Upstreams: []string{"h2c://a:80", "h2c://b:80"}, RetryBody: 100})
		r.app("a:80", func(w http.ResponseWriter, req *http.Request) { _, _ = io.Copy(w, req.Body) })
		r.frameApp("b:80", func(w *wire) {
			for line := range w.frames {
				var id uint32
				if n, _ := fmt.Sscanf(line, "DATA %d", &id); n == 1 {
					w.do(func(fr *http2.Framer) error { return fr.WriteRSTStream(id, http2.ErrCodeRefusedStream) })
				}
			}
		})
		for range 10 {
			r.do(r.request(http.MethodPost, "/", strings.NewReader("whole"))).want(t, 200, "whole")
		}
		r.settled()
		if n := r.reg.Total(telemetry.RetriedRefused); n < 3 || n != r.reg.Total(telemetry.RetriesSucceeded) {
			t.Errorf("%d were refused, %d of them then answered", n, r.reg.Total(telemetry.RetriesSucceeded))
		}
	})
}

// An endpoint that dies with many requests on it costs none of them.
func TestEndpointDiesUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Upstreams: []string{"h2c://a:80", "h1://b:80"}})
		release := make(chan struct{})
		var arrived atomic.Int64
		waits := func(w http.ResponseWriter, _ *http.Request) {
			arrived.Add(1)
			<-release
			_, _ = io.WriteString(w, "whole")
		}
		a := r.app("a:80", waits)
		r.app("b:80", waits, testkit.H1)
		const n = 64
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() { r.get("/?tenant=a").want(t, 200, "whole") })
		}
		synctest.Wait()
		a.Kill()
		synctest.Wait()
		close(release)
		wg.Wait()
		r.settled()
		if got := r.reg.Total(telemetry.RetriesSucceeded); got == 0 || got+n != uint64(arrived.Load()) {
			t.Errorf("%d were sent again, and %d of %d arrived", got, arrived.Load(), n)
		}
	})
}

// What is sent again stays a share of what is sent, however much fails.
func TestRetriesStayWithinTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Upstreams: []string{"h2c://a:80", "h2c://b:80"}})
		var asked atomic.Int64
		r.app("a:80", aborts(&asked))
		r.app("b:80", aborts(&asked))
		const n = 1000
		for i := range n { // a breaker for each: none opens
			r.get("/?tenant=a&metric=m"+strconv.Itoa(i)).want(t, 502, "")
		}
		r.settled()
		again := asked.Load() - n
		if again < 250 || again > 100+n/5 {
			t.Errorf("%d of %d requests were sent again, want about 100 and a fifth", again, n)
		}
		if refused := int64(r.reg.Total(telemetry.NotRetriedBudget)); refused != n-again {
			t.Errorf("%d were not for want of budget, want %d", refused, n-again)
		}
		time.Sleep(11 * time.Second) // what was sent then no longer counts
		before := asked.Load()
		r.get("/?metric=later").want(t, 502, "")
		if asked.Load()-before != 2 {
			t.Error("there is no budget after a quiet time")
		}
	})
}

// A retry stays in the cluster; a peer is asked once it has failed too.
func TestRetryComesBeforeThePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Peers: []string{"h2c://peer:80", "h2c://peer2:80"}, Trust: []string{"192.0.2.0/24"}})
		var asked, peers atomic.Int64
		r.app("app:80", aborts(&asked))
		r.app("peer:80", aborts(&peers))
		r.app("peer2:80", aborts(&peers))
		r.get("/").want(t, 502, "")
		r.settled()
		if asked.Load() != 2 || peers.Load() != 1 {
			t.Errorf("the app was asked %d times, peers %d times: want 2 and 1", asked.Load(), peers.Load())
		}
		r.retries("reset 1, no: limit 1")
	})
}

// An endpoint that dies between a response's head and its body has told the caller
// nothing yet: the head of a short body waits for it. That of a stream does not.
func TestHeadWaitsForAShortBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Upstreams: []string{"h2c://a:80", "h2c://b:80"}})
		r.frameApp("a:80", func(w *wire) {
			for line := range w.frames {
				id, ok := streamOf(line)
				switch {
				case !ok:
				case strings.Contains(line, "/stream"):
					w.headers(id, false, ":status", "200")
				default:
					w.headers(id, false, ":status", "200", "content-length", "4")
					time.Sleep(time.Second)
					w.do(func(fr *http2.Framer) error { return fr.WriteRSTStream(id, http2.ErrCodeInternal) })
				}
			}
		})
		r.app("b:80", func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path == "/stream" {
				w.(http.Flusher).Flush()
				<-req.Context().Done()
				return
			}
			_, _ = io.WriteString(w, "body")
		})
		for range 10 {
			r.get("/").want(t, 200, "body")
		}
		if n := r.reg.Total(telemetry.RetriedReset); n < 3 {
			t.Errorf("%d requests were sent again", n)
		}
		for range 2 {
			resp, err := r.client.Do(r.request(http.MethodGet, "/stream", nil))
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("%v, %v", resp, err)
			}
			_ = resp.Body.Close()
		}
		r.settled()
	})
}
