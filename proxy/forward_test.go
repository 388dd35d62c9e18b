package proxy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

func TestForwardAllProtocolPairs(t *testing.T) {
	for _, down := range []testkit.Protocol{testkit.H2, testkit.H1} {
		for _, up := range []testkit.Protocol{testkit.H2, testkit.H1} {
			t.Run(string(down)+" to "+string(up), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t, snapshot.Source{Upstreams: []string{"http://app:80"}})
					r.client = r.newClient(down)
					r.app("app:80", func(w http.ResponseWriter, req *http.Request) {
						w.Header().Set("Trailer", "X-Sum")
						w.Header().Set("X-Seen", req.Method+" "+req.Host+" "+req.URL.String())
						b, err := io.ReadAll(req.Body)
						if err != nil {
							panic(http.ErrAbortHandler)
						}
						w.WriteHeader(http.StatusCreated)
						_, _ = w.Write(b)
						sum := sha256.Sum256(b)
						w.Header().Set("X-Sum", hex.EncodeToString(sum[:]))
					}, up)
					body := make([]byte, 3<<20)
					for i := range body {
						body[i] = byte(rand.Uint32())
					}
					got := r.do(r.request(http.MethodPost, "/echo?a=b", bytes.NewReader(body)))
					got.want(t, http.StatusCreated, "").header(t, "X-Seen", "POST sidecar:80 /echo?a=b")
					if got.err != nil || got.body != string(body) {
						t.Fatalf("body differs: %d of %d bytes, err %v", len(got.body), len(body), got.err)
					}
					sum := sha256.Sum256(body)
					if tr := got.Trailer.Get("X-Sum"); tr != hex.EncodeToString(sum[:]) {
						t.Fatalf("trailer %q", tr)
					}
					if p := r.server.Clusters()[0].Endpoints()[0].Protocol(); (p == snapshot.H2C) != (up == testkit.H2) {
						t.Fatalf("the probe remembered %v", p)
					}
					r.settled()
				})
			})
		}
	}
}

func TestProbeRemembersHTTP1(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Upstreams: []string{"http://app:80"}})
		r.app("app:80", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hi") }, testkit.H1)
		for range 3 {
			r.get("/").want(t, 200, "hi")
		}
		if n := r.reg.Total(telemetry.UpstreamProbeFallbacks); n != 1 {
			t.Fatalf("%d probes fell back, want 1", n)
		}
		if n := r.net.Dials("app:80"); n != 2 { // the probe, then one kept alive
			t.Fatalf("%d dials, want 2", n)
		}
	})
}

func TestUpstreamComesBackSpeakingAnotherProtocol(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Upstreams: []string{"http://app:80"}})
		h := func(w http.ResponseWriter, req *http.Request) { _, _ = io.WriteString(w, req.Proto) }
		app := r.app("app:80", h, testkit.H1)
		r.get("/").want(t, 200, "HTTP/1.1")
		app.Kill()
		synctest.Wait()
		r.get("/").want(t, 503, "refused")
		r.app("app:80", h, testkit.H2)
		time.Sleep(2 * time.Second)
		r.get("/").want(t, 200, "HTTP/2.0")
	})
}

func TestDeadEndpointIsPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Upstreams: []string{"h2c://dead:80", "h2c://app:80"}})
		r.app("app:80", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "alive") })
		for range 50 {
			r.get("/").want(t, 200, "alive")
		}
		if s := r.server.Clusters()[0].State(); s != "closed" {
			t.Fatalf("cluster breaker is %s although half its endpoints answer", s)
		}
		r.settled()
	})
}

func TestTimeoutsBlameTheRightSide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Timeout: 2 * time.Second, Idle: 10 * time.Second})
		r.app("app:80", func(_ http.ResponseWriter, req *http.Request) {
			_, _ = io.Copy(io.Discard, req.Body)
			<-req.Context().Done()
		})
		begin := time.Now()
		r.get("/").want(t, 504, "no response in time")
		if d := time.Since(begin); d < 2*time.Second || d > 2100*time.Millisecond {
			t.Fatalf("took %v of fake time, want 2 s", d)
		}
		never, write := io.Pipe()
		defer func() { _ = write.Close() }()
		go func() { _, _ = io.WriteString(write, "half a body") }()
		r.do(r.request(http.MethodPost, "/", never)).want(t, 408, "stopped coming")
		r.settled()
		v := r.server.Explain(keyOf("_other", "")).Breaker
		if v.Failures != 1 {
			t.Fatalf("%d failures count against the key, want 1: the slow body is the caller's", v.Failures)
		}
	})
}

func TestUpstreamResetMidBodyIsNeverACleanEnd(t *testing.T) {
	for _, down := range []testkit.Protocol{testkit.H2, testkit.H1} {
		for _, up := range []testkit.Protocol{testkit.H2, testkit.H1} {
			t.Run(string(down)+" to "+string(up), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t, snapshot.Source{Upstreams: []string{string(up) + "://app:80"}})
					r.client = r.newClient(down)
					r.app("app:80", func(w http.ResponseWriter, _ *http.Request) {
						_, _ = io.WriteString(w, "the first half")
						w.(http.Flusher).Flush()
						panic(http.ErrAbortHandler)
					}, up)
					got := r.get("/")
					if got.err == nil {
						t.Fatalf("a broken reply ended cleanly: %q", got.body)
					}
					r.settled()
					if n := r.reg.Total(telemetry.ResponsesReset); n != 1 {
						t.Fatalf("%d resets counted, want 1", n)
					}
				})
			})
		}
	}
}

func TestCallerGoneIsNeutral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{})
		seen := make(chan error, 10)
		r.app("app:80", func(_ http.ResponseWriter, req *http.Request) {
			<-req.Context().Done()
			seen <- req.Context().Err()
		})
		for range 5 {
			c := *r.client
			c.Timeout = time.Second
			resp, err := c.Do(r.request(http.MethodGet, "/?tenant=a", nil))
			if err == nil {
				_ = resp.Body.Close()
				t.Fatal("want a time-out at the caller")
			}
			if err := <-seen; err == nil { // the cancellation reached the upstream
				t.Fatal("the upstream's request ended without a reason")
			}
		}
		r.settled()
		if v := r.server.Explain(keyOf("a", "")).Breaker; v.Failures != 0 {
			t.Fatalf("callers that went away count as %d failures", v.Failures)
		}
		if n := r.reg.Tenants()["a"].Outcomes[telemetry.Canceled]; n != 5 {
			t.Fatalf("%d requests counted as canceled, want 5", n)
		}
	})
}

func TestEarlyReplyWhileTheBodyStillComes(t *testing.T) {
	for _, up := range []testkit.Protocol{testkit.H2, testkit.H1} {
		t.Run(string(up), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, snapshot.Source{Upstreams: []string{string(up) + "://app:80"}})
				r.app("app:80", func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Length", "2")
					w.WriteHeader(http.StatusTeapot)
					_, _ = io.WriteString(w, "no")
				}, up)
				r.do(r.request(http.MethodPost, "/", bytes.NewReader(make([]byte, 1<<20)))).want(t, http.StatusTeapot, "no")
				r.settled()
			})
		})
	}
}

func TestPanicEndsOneExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{})
		release := make(chan struct{})
		r.app("app:80", func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path == "/slow" {
				<-release
			}
			_, _ = io.WriteString(w, "fine")
		})
		done := make(chan struct{})
		r.server.loops[0].post(func() {
			l := r.server.loops[0]
			l.stages[3] = panicking{l.stages[3]}
			close(done)
		})
		<-done
		slow := make(chan reply)
		go func() { slow <- r.get("/slow") }()
		synctest.Wait()
		r.get("/panic").want(t, 500, "quadnine")
		close(release)
		(<-slow).want(t, 200, "fine")
		r.get("/").want(t, 200, "fine")
		r.settled()
	})
}

type panicking struct{ stage }

func (p panicking) Step(x *Exchange) Verdict {
	if string(x.path) == "/panic" {
		panic("a stage is broken")
	}
	return p.stage.Step(x)
}

func TestDrainLosesNothing(t *testing.T) {
	for _, down := range []testkit.Protocol{testkit.H2, testkit.H1} {
		t.Run(string(down), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, snapshot.Source{})
				r.client = r.newClient(down)
				release := make(chan struct{})
				r.app("app:80", func(w http.ResponseWriter, _ *http.Request) {
					<-release
					_, _ = io.WriteString(w, "kept")
				})
				const n = 64
				got := make(chan string, n)
				for range n {
					go func() { got <- r.get("/").body }()
				}
				synctest.Wait()
				drained := make(chan error)
				go func() { drained <- r.server.Drain(t.Context()) }()
				time.Sleep(time.Second)
				close(release)
				for range n {
					if b := <-got; b != "kept" {
						t.Fatalf("lost: %q", b)
					}
				}
				if err := <-drained; err != nil {
					t.Fatal(err)
				}
				if _, err := r.net.Dial(t.Context(), "sidecar:80"); err == nil {
					t.Fatal("a drained sidecar still accepts")
				}
			})
		})
	}
}

func TestHeaderHygiene(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{})
		r.app("app:80", func(w http.ResponseWriter, req *http.Request) {
			for n := range req.Header {
				if strings.HasPrefix(n, "X-Quadnine-") {
					fmt.Fprintf(w, "%s ", n)
				}
			}
			w.Header().Set("X-Quadnine-Degraded", "forged")
			_, _ = io.WriteString(w, "end")
		})
		got := r.get("/", "x-quadnine-hop", "1", "x-quadnine-model", "forged").want(t, 200, "end")
		if got.body != "end" {
			t.Fatalf("the upstream saw %q", got.body)
		}
		got.header(t, "X-Quadnine-Degraded", "")
		if n := r.reg.Total(telemetry.HopHeadersStripped); n != 2 {
			t.Fatalf("%d stripped fields counted, want 2", n)
		}
	})
}
