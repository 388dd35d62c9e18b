package proxy

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

func TestPeerThatBreaksOffDoesNotCountAgainstTheKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Peers: []string{"h2c://peer:80"}, Trust: []string{"192.0.2.0/24"}})
		r.app("peer:80", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})
		if got := r.get("/?tenant=a"); got.err == nil {
			t.Fatalf("a broken reply ended cleanly: %q", got.body)
		}
		r.settled()
		if n := r.failures("a"); n != 0 {
			t.Fatalf("%d failures count against the key: the app was never asked", n)
		}
	})
}

func TestCallerThatStopsReadingIsNotTheKeysFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Idle: 10 * time.Second})
		r.app("app:80", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.Repeat("x", 1<<20)) })
		w := r.caller(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100})
		for i := range uint32(6) {
			w.ask(2*i+1, true, "GET", "/?tenant=a")
		}
		for i := range uint32(6) {
			w.until(fmt.Sprintf("RST_STREAM %d", 2*i+1))
		}
		r.settled()
		if n := r.failures("a"); n != 0 {
			t.Fatalf("callers that do not read count as %d failures", n)
		}
		r.get("/?tenant=a").want(t, 200, "x")
	})
}

func TestUpstreamThatStallsInItsBodyIsTheKeysFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Idle: 10 * time.Second})
		r.app("app:80", func(w http.ResponseWriter, req *http.Request) {
			w.(http.Flusher).Flush()
			<-req.Context().Done()
		})
		if got := r.get("/?tenant=a"); got.err == nil {
			t.Fatal("a stalled reply ended cleanly")
		}
		r.settled()
		if v := r.server.Explain(keyOf("a", "")).Breaker; v.Failures != 1 || v.LastReason != policy.UpstreamTimeout {
			t.Fatalf("%d failures for %v, want 1 for a time-out", v.Failures, v.LastReason)
		}
	})
}

func TestGRPCDeadlineIsNobodysFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Peers: []string{"h2c://peer:80"}, Trust: []string{"192.0.2.0/24"}})
		r.app("app:80", func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path == "/stream" {
				w.(http.Flusher).Flush()
			}
			<-req.Context().Done()
		})
		r.app("peer:80", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "too late") })
		begin := time.Now()
		got := r.do(r.request(http.MethodPost, "/stream?tenant=a", nil, "Content-Type", "application/grpc", "Grpc-Timeout", "2S"))
		if d := time.Since(begin); got.err == nil || d > 2100*time.Millisecond {
			t.Fatalf("the stream ended after %v with %v, want a reset after 2 s", d, got.err)
		}
		r.do(r.request(http.MethodPost, "/unary?tenant=a", nil, "Content-Type", "application/grpc", "Grpc-Timeout", "2S")).
			want(t, 200, "").header(t, "Grpc-Status", "4")
		r.get("/unary?tenant=a", "Grpc-Timeout", "2S").want(t, 504, "no response in time")
		r.settled()
		if n := r.failures("a"); n != 0 {
			t.Fatalf("deadlines of the caller count as %d failures", n)
		}
		if n := r.reg.Total(telemetry.PeerAttempts); n != 0 {
			t.Fatalf("%d peers were asked after the caller's deadline", n)
		}
	})
}

func TestWaitingForAConnectionIsNotTheKeysFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Timeout: 2 * time.Second})
		r.frameApp("app:80", func(w *wire) { // it takes one stream at a time and never answers
			w.do(func(fr *http2.Framer) error {
				return fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
			})
		})
		var wg sync.WaitGroup
		for range 2 {
			body, _ := io.Pipe() // never ends, so that it outlives the one that waits
			wg.Go(func() { _, _ = r.try(10*time.Second, r.request(http.MethodPost, "/?tenant=busy", body)) })
			time.Sleep(100 * time.Millisecond)
		}
		r.get("/?tenant=waits").want(t, 503, "no connection had room in time").header(t, "Retry-After", "1")
		wg.Wait()
		r.settled()
		if n := r.failures("waits"); n != 0 {
			t.Fatalf("waiting for room counts as %d failures", n)
		}
	})
}

// TestRequestThatCannotBeSentIsTheCallersFault: what a caller writes and the engine
// does not refuse can be sent, but a route may take the authority from a field.
func TestRequestThatCannotBeSentIsTheCallersFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := policy.DefaultBreakerConfig()
		r := newManaged(t)
		r.app("a:80", func(w http.ResponseWriter, req *http.Request) { _, _ = io.WriteString(w, req.Host) }, testkit.H1)
		l, c := listener("in", "sidecar:80", "a"), cluster("a", "a:80")
		l.HTTP.Envoy = true
		l.Keys, l.Breaker = snapshot.DefaultKeys(), &snapshot.Breaker{Scope: "listener/in", Config: cfg}
		l.Inline.Hosts[0].Routes[0].Forward.Host.Header = "x-to"
		c.Protocol = snapshot.H1
		r.apply(snapshotOf([]*snapshot.Listener{l}, c))
		for range 2 * cfg.FailureThreshold {
			r.get("/?tenant=a", "x-to", "u@b").want(t, 503, "local reset")
		}
		r.get("/?tenant=a", "x-to", "b").want(t, 200, "b")
		r.settled()
	})
}

func TestRefusedStreamIsNotTheKeysFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{})
		r.frameApp("app:80", func(w *wire) {
			for line := range w.frames {
				var id uint32
				if n, _ := fmt.Sscanf(line, "DATA %d", &id); n == 1 {
					w.do(func(fr *http2.Framer) error { return fr.WriteRSTStream(id, http2.ErrCodeRefusedStream) })
				}
			}
		})
		for range 6 { // the body is gone: it cannot be sent again
			r.do(r.request(http.MethodPost, "/?tenant=a", strings.NewReader("body"))).want(t, 503, "")
		}
		r.settled()
		if n := r.failures("a"); n != 0 {
			t.Fatalf("refused streams count as %d failures", n)
		}
	})
}
