package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/proxy/field"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// wire is one end of an HTTP/2 connection, frame by frame: for what Go's own
// client and server never do.
type wire struct {
	t      *testing.T
	nc     net.Conn
	fr     *http2.Framer
	frames chan string // a line for each frame received; closed with the connection
}

// newWire reads nc in the background, answering nothing.
func newWire(t *testing.T, nc net.Conn) *wire {
	t.Helper()
	w := &wire{t: t, nc: nc, fr: http2.NewFramer(nc, nc), frames: make(chan string, 1<<16)}
	w.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	go func() {
		defer close(w.frames)
		for {
			f, err := w.fr.ReadFrame()
			if err != nil {
				return
			}
			switch f := f.(type) {
			case *http2.MetaHeadersFrame:
				line := []string{fmt.Sprintf("HEADERS %d end=%v", f.StreamID, f.StreamEnded())}
				for _, h := range f.Fields {
					line = append(line, h.Name+"="+h.Value)
				}
				w.frames <- strings.Join(line, " ")
			case *http2.DataFrame:
				w.frames <- fmt.Sprintf("DATA %d end=%v %d", f.StreamID, f.StreamEnded(), len(f.Data()))
			case *http2.RSTStreamFrame:
				w.frames <- fmt.Sprintf("RST_STREAM %d %v", f.StreamID, f.ErrCode)
			case *http2.GoAwayFrame:
				w.frames <- fmt.Sprintf("GOAWAY %d %v", f.LastStreamID, f.ErrCode)
			}
		}
	}()
	t.Cleanup(func() { _ = nc.Close() })
	return w
}

// do writes frames; a connection that the other side closed takes none.
func (w *wire) do(write func(fr *http2.Framer) error) {
	_ = write(w.fr)
}

func (w *wire) headers(id uint32, end bool, fields ...string) {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i+1 < len(fields); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	w.do(func(fr *http2.Framer) error {
		return fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b.Bytes(), EndHeaders: true, EndStream: end})
	})
}

// until returns the first frame whose line begins with prefix.
func (w *wire) until(prefix string) string {
	w.t.Helper()
	for line := range w.frames {
		if strings.HasPrefix(line, prefix) {
			return line
		}
	}
	w.t.Fatalf("the connection ended before %q", prefix)
	return ""
}

// caller connects to the sidecar as an HTTP/2 client with these settings.
func (r *rig) caller(settings ...http2.Setting) *wire {
	r.t.Helper()
	nc, err := r.net.Dial(r.t.Context(), "sidecar:80")
	if err != nil {
		r.t.Fatal(err)
	}
	w := newWire(r.t, nc)
	if _, err := io.WriteString(nc, http2.ClientPreface); err != nil {
		r.t.Fatal(err)
	}
	w.do(func(fr *http2.Framer) error { return fr.WriteSettings(settings...) })
	return w
}

// ask sends a request's head on w.
func (w *wire) ask(id uint32, end bool, method, path string, fields ...string) {
	w.headers(id, end, append([]string{":method", method, ":scheme", "http", ":authority", "sidecar", ":path", path}, fields...)...)
}

// frameApp is an upstream of which the test writes every frame.
func (r *rig) frameApp(address string, serve func(w *wire)) {
	l := r.net.Listen(address)
	r.t.Cleanup(l.Kill)
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				if _, err := io.ReadFull(nc, make([]byte, len(http2.ClientPreface))); err != nil {
					return
				}
				w := newWire(r.t, nc)
				w.do(func(fr *http2.Framer) error { return fr.WriteSettings() })
				w.do(func(fr *http2.Framer) error { return fr.WriteSettingsAck() })
				serve(w)
			}()
		}
	}()
}

// try is get for a request that may fail altogether, within d of fake time.
func (r *rig) try(d time.Duration, req *http.Request) (reply, error) {
	ctx, cancel := context.WithTimeout(req.Context(), d)
	defer cancel()
	resp, err := r.client.Do(req.WithContext(ctx))
	if err != nil {
		return reply{}, err
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	return reply{resp, string(b), err}, nil
}

func (r *rig) failures(tenant string) int {
	return r.server.Explain(keyOf(tenant, "")).Breaker.Failures
}

func TestReplyThatOverflowsInItsLastChunkIsWhole(t *testing.T) {
	for _, down := range []testkit.Protocol{testkit.H2, testkit.H1} {
		t.Run(string(down), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, snapshot.Source{Degrade: []string{"/api"}})
				r.client = r.newClient(down)
				whole := policy.DefaultCacheConfig().MaxBodyBytes
				r.frameApp("app:80", func(w *wire) {
					w.until("HEADERS 1")
					w.do(func(fr *http2.Framer) error { return fr.WriteSettings() })
					w.headers(1, false, ":status", "200")
					for sent := 0; sent < whole; sent += 1 << 14 {
						w.do(func(fr *http2.Framer) error { return fr.WriteData(1, false, make([]byte, 1<<14)) })
						time.Sleep(time.Millisecond) // the window opens: a held reply is consumed
					}
					w.do(func(fr *http2.Framer) error { return fr.WriteData(1, true, []byte("the end")) })
				})
				got := r.get(query+"?tenant=a").want(t, 200, "")
				if got.err != nil || len(got.body) != whole+len("the end") {
					t.Fatalf("%d of %d bytes, err %v", len(got.body), whole+len("the end"), got.err)
				}
				r.settled()
			})
		})
	}
}

func TestPeerThatHangsAfterTheAppHungEndsToo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Timeout: time.Second, Peers: []string{"h2c://peer:80"}, Trust: []string{"192.0.2.0/24"}})
		hang := func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() }
		r.app("app:80", hang)
		r.app("peer:80", hang)
		got, err := r.try(time.Minute, r.request(http.MethodGet, "/?tenant=a", nil))
		if err != nil {
			t.Fatal(err)
		}
		got.want(t, 504, "no response in time")
		r.settled()
		if n := r.failures("a"); n != 1 {
			t.Fatalf("%d failures count against the key, want the app's 1", n)
		}
	})
}

func TestPeerThatBreaksOffDoesNotCountAgainstTheKey(t *testing.T) {
	bubble(t, func(t *testing.T) {
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
	bubble(t, func(t *testing.T) {
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
	bubble(t, func(t *testing.T) {
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
	bubble(t, func(t *testing.T) {
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

// A reply that was made before a route was known, or after the timer fired, has a
// timer too.
func TestReplyToAClosedWindowEnds(t *testing.T) {
	for name, c := range map[string]struct {
		method, path string
	}{"before the route": {"CONNECT", ""}, "after a time-out": {"GET", "/?tenant=a"}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, snapshot.Source{Idle: 10 * time.Second, Timeout: time.Second})
				r.app("app:80", func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() })
				w := r.caller(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
				if c.method == "CONNECT" {
					w.headers(1, true, ":method", "CONNECT", ":authority", "x:1")
				} else {
					w.ask(1, true, c.method, c.path)
				}
				w.until("HEADERS 1")
				time.Sleep(10 * time.Minute)
				r.settled()
			})
		})
	}
}

func TestSlowUploadIsProgress(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Timeout: 2 * time.Second})
		r.frameApp("app:80", func(w *wire) {
			w.until("HEADERS 1")
			for range 20 { // the caller hears of it only every half window
				time.Sleep(time.Second)
				w.do(func(fr *http2.Framer) error {
					_ = fr.WriteWindowUpdate(0, 10<<10)
					return fr.WriteWindowUpdate(1, 10<<10)
				})
			}
			w.until("DATA 1 end=true")
			w.headers(1, true, ":status", "204")
		})
		r.do(r.request(http.MethodPost, "/?tenant=a", bytes.NewReader(make([]byte, 250<<10)))).want(t, 204, "")
		r.settled()
	})
}

func TestQuietStreamLivesAsLongAsIdleAllows(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Timeout: 2 * time.Second, Idle: time.Minute})
		r.app("app:80", func(w http.ResponseWriter, req *http.Request) {
			buf := make([]byte, 1)
			for { // nothing is sent before the first message, not even a head
				if _, err := req.Body.Read(buf); err != nil {
					return
				}
				_, _ = w.Write(buf)
				w.(http.Flusher).Flush()
			}
		})
		body, write := io.Pipe()
		go func() {
			time.Sleep(50 * time.Second) // longer than the time to a complete request's head
			_, _ = write.Write([]byte("x"))
		}()
		resp, err := r.client.Do(r.request(http.MethodPost, "/?tenant=a", body, "Content-Type", "application/grpc"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		buf := make([]byte, 1)
		for range 10 * 60 { // ten hours
			time.Sleep(50 * time.Second)
			if _, err := resp.Body.Read(buf); err != nil {
				t.Fatal(err)
			}
			_, _ = write.Write([]byte("x"))
		}
		_, _ = resp.Body.Read(buf)
		begin := time.Now()
		if _, err := resp.Body.Read(buf); err == nil {
			t.Fatal("want an end without progress")
		}
		if d := time.Since(begin); d < 59*time.Second || d > 61*time.Second {
			t.Fatalf("ended %v after the last message, want a minute", d)
		}
		_ = resp.Body.Close()
		_ = write.Close()
		r.settled()
		if n := r.failures("a"); n != 0 {
			t.Fatalf("a stream on which neither side speaks counts as %d failures", n)
		}
	})
}

func TestTimeRunsFromTheCompleteRequest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Timeout: 2 * time.Second, Idle: time.Hour})
		r.app("app:80", func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() })
		body, write := io.Pipe()
		begin := time.Now()
		go func() {
			_, _ = write.Write([]byte("x"))
			time.Sleep(30 * time.Second)
			_ = write.Close()
		}()
		r.do(r.request(http.MethodPost, "/?tenant=a", body)).want(t, 504, "no response in time")
		if d := time.Since(begin); d < 32*time.Second || d > 32100*time.Millisecond {
			t.Fatalf("took %v, want 2 s from the end of the request", d)
		}
		r.settled()
	})
}

func TestWaitingForAConnectionIsNotTheKeysFailure(t *testing.T) {
	bubble(t, func(t *testing.T) {
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

func TestRequestThatCannotBeSentIsTheCallersFault(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Upstreams: []string{"h1://app:80"}, Peers: []string{"h1://peer:80"}, Trust: []string{"192.0.2.0/24"}})
		r.app("app:80", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }, testkit.H1)
		w := r.caller()
		for i := range uint32(6) {
			w.headers(2*i+1, true, ":method", "GET", ":scheme", "http", ":authority", "a:b:c", ":path", "/?tenant=a")
			if got := w.until(fmt.Sprintf("HEADERS %d", 2*i+1)); !strings.Contains(got, ":status=400") {
				t.Fatalf("got %s, want 400", got)
			}
		}
		r.settled()
		if n := r.failures("a"); n != 0 {
			t.Fatalf("requests that cannot be sent count as %d failures", n)
		}
		if n := r.reg.Total(telemetry.PeerAttempts); n != 0 {
			t.Fatalf("%d peers were asked", n)
		}
	})
}

func TestRefusedStreamIsNotTheKeysFailure(t *testing.T) {
	bubble(t, func(t *testing.T) {
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

func TestHeadThatNeverEndsLosesItsConnection(t *testing.T) {
	for name, begin := range map[string]string{"h1": "GET / HTTP/1.1\r\nhost: a\r\nx-slow: ", "preface": "PRI * HT", "nothing": ""} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, snapshot.Source{})
				nc, err := r.net.Dial(t.Context(), "sidecar:80")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.WriteString(nc, begin); err != nil {
					t.Fatal(err)
				}
				_ = nc.SetReadDeadline(time.Now().Add(2 * idleTimeout))
				if _, err := io.ReadAll(nc); err != nil {
					t.Fatalf("still open after %v: %v", 2*idleTimeout, err)
				}
				_ = nc.Close()
			})
		})
	}
}

func TestDrainServesWhatItHasAcceptedAndReturns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{})
		r.app("app:80", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "kept") })
		conns := make([]net.Conn, 4)
		for i := range conns {
			nc, err := r.net.Dial(t.Context(), "sidecar:80")
			if err != nil {
				t.Fatal(err)
			}
			conns[i] = nc
		}
		synctest.Wait()
		for i, begin := range []string{"", "", "GET / HTTP/1.1\r\nho", "GET / HTTP/1.1\r\n"} { // 0 stays silent, 1 has its request on the way
			_, _ = io.WriteString(conns[i], begin)
		}
		synctest.Wait()
		drained := make(chan error, 1)
		go func() { drained <- r.server.Drain(t.Context()) }()
		synctest.Wait()
		answers := make(chan string, len(conns))
		for i, rest := range []string{"", "GET / HTTP/1.1\r\nhost: a\r\n\r\n", "st: a\r\n\r\n", "x-slow: "} {
			go func() {
				_, _ = io.WriteString(conns[i], rest)
				b, _ := io.ReadAll(conns[i])
				answers <- string(b)
			}()
		}
		kept := 0
		for range conns {
			if a := <-answers; strings.HasSuffix(a, "kept") && strings.Contains(a, "connection: close") {
				kept++
			}
		}
		if kept != 2 {
			t.Fatalf("%d of 2 requests answered", kept)
		}
		if err := <-drained; err != nil {
			t.Fatal(err)
		}
	})
}

func TestLateConnectionDoesNotHoldUpADrain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{})
		release := make(chan struct{})
		r.app("app:80", func(http.ResponseWriter, *http.Request) { <-release })
		go func() { _, _ = r.try(time.Hour, r.request(http.MethodGet, "/", nil)) }()
		synctest.Wait()
		drained := make(chan error, 1)
		go func() { drained <- r.server.Drain(t.Context()) }()
		synctest.Wait()
		near, far := net.Pipe()
		defer func() { _ = near.Close() }()
		l := r.server.loops[0]
		l.shard.Post(&newDownConn(l, far).arrive) // accepted just before the listener closed
		time.Sleep(time.Second)
		close(release)
		time.Sleep(time.Minute)
		select {
		case err := <-drained:
			if err != nil {
				t.Fatal(err)
			}
		default:
			t.Fatal("a silent connection holds up the drain")
		}
	})
}

func TestDrainEndsWithTheServer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{})
		r.app("app:80", func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() })
		go func() { _, _ = r.try(time.Hour, r.request(http.MethodGet, "/", nil)) }()
		synctest.Wait()
		drained := make(chan error, 1)
		go func() { drained <- r.server.Drain(context.Background()) }()
		time.Sleep(time.Second)
		r.server.Close()
		if err := <-drained; !errors.Is(err, ErrClosed) {
			t.Fatalf("got %v, want ErrClosed", err)
		}
	})
}

func TestGatheredBodyIsAskedFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Degrade: []string{"/api"}})
		app := new(faulty)
		r.app("app:80", app.ServeHTTP)
		w := r.caller()
		w.ask(1, false, "POST", query+"?tenant=a", "expect", "100-continue")
		if got := w.until("HEADERS 1"); !strings.Contains(got, ":status=100") {
			t.Fatalf("got %s, want 100", got)
		}
		w.do(func(fr *http2.Framer) error { return fr.WriteData(1, true, []byte("body")) })
		if got := w.until("HEADERS 1"); !strings.Contains(got, ":status=200") {
			t.Fatalf("got %s, want 200", got)
		}
	})
}

func TestEventStreamHoldsNoBudget(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Degrade: []string{"/api"}})
		r.app("app:80", func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Content-Type", req.URL.Query().Get("type"))
			for range 40 {
				_, _ = w.Write(make([]byte, 64<<10))
				w.(http.Flusher).Flush()
			}
			<-req.Context().Done()
		})
		for _, typ := range []string{"text/event-stream", "text/plain"} {
			ctx, cancel := context.WithCancel(t.Context())
			resp, err := r.client.Do(r.request(http.MethodGet, query+"?type="+typ, nil).WithContext(ctx))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(resp.Body, make([]byte, 40*64<<10)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if n := r.server.budget.used.Load(); n != 0 {
				t.Errorf("%s: a stream whose reply cannot be stored holds %d bytes of the budget", typ, n)
			}
			cancel()
			_ = resp.Body.Close()
		}
		r.settled()
	})
}

func TestNamesAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{})
		r.app("app:80", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
		r.get("/?tenant="+strings.Repeat("t", maxName)).want(t, 200, "ok")
		r.get("/?tenant="+strings.Repeat("t", maxName+1)).want(t, 400, "longer than")
		r.get("/?tenant=a", "X-Metric", strings.Repeat("m", maxName+1)).want(t, 400, "longer than")
	})
}

func TestPanicInEachStageLeavesNothingBehind(t *testing.T) {
	for at := range 5 {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("stage %d after=%v", at, after), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					r := newRig(t, snapshot.Source{Degrade: []string{"/api"}})
					app := new(faulty)
					r.app("app:80", app.ServeHTTP)
					r.get(query+"?tenant=a").want(t, 200, "a")
					swapped := make(chan struct{})
					l := r.server.loops[0]
					l.post(func() {
						l.stages[at] = latePanic{l.stages[at], after}
						close(swapped)
					})
					<-swapped
					for range 5 {
						got, err := r.try(time.Minute, r.request(http.MethodPost, query+"?tenant=a", strings.NewReader("b"), "X-Panic", "1"))
						sent := at == 4 && after // it panicked too late
						if err == nil && got.err == nil && got.StatusCode != http.StatusInternalServerError && !sent {
							t.Fatalf("got %d %q", got.StatusCode, got.body)
						}
					}
					r.settled()
					r.get(query+"?tenant=a").want(t, 200, "a")
					if n := r.failures("a"); n != 0 {
						t.Fatalf("panics of ours count as %d failures", n)
					}
					r.settled()
				})
			})
		}
	}
}

// latePanic panics before or after the stage did its work.
type latePanic struct {
	stage
	after bool
}

func (p latePanic) Step(x *Exchange) Verdict {
	if x.req.Get("x-panic") == nil {
		return p.stage.Step(x)
	}
	if p.after {
		p.stage.Step(x)
	}
	panic("a stage is broken")
}

func TestHalfOpenBreakerNeverGetsStuck(t *testing.T) {
	// The ways in which a probe can end that say nothing of the upstream.
	for name, probe := range map[string]func(t *testing.T, r *rig, app *faulty, kill func()){
		"caller gone": func(_ *testing.T, r *rig, app *faulty, _ func()) {
			app.set(map[string]int{"a": -1})
			_, _ = r.try(100*time.Millisecond, r.request(http.MethodGet, query+"?tenant=a", nil))
		},
		"app dead": func(t *testing.T, r *rig, _ *faulty, kill func()) {
			kill()
			synctest.Wait()
			r.get(query+"?tenant=a").want(t, 503, "")
		},
		"caller's deadline": func(t *testing.T, r *rig, app *faulty, _ func()) {
			app.set(map[string]int{"a": -1})
			r.get(query+"?tenant=a", "Grpc-Timeout", "1S").want(t, 504, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, snapshot.Source{})
				app := new(faulty)
				l := r.app("app:80", app.ServeHTTP)
				app.set(map[string]int{"a": 500})
				for range 4 {
					r.get(query+"?tenant=a").want(t, 500, "")
				}
				r.get(query+"?tenant=a").want(t, 503, "breaker")
				time.Sleep(31 * time.Second)
				probe(t, r, app, l.Kill)
				r.settled()
				if n := r.server.Explain(keyOf("a", "")).Breaker.ProbesOut; n != 0 {
					t.Fatalf("%d leases are still out", n)
				}
			})
		})
	}
}

func TestTrailersMayNotSpeakInOurName(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{})
		seen := make(chan http.Header, 1)
		r.app("app:80", func(w http.ResponseWriter, req *http.Request) {
			_, _ = io.Copy(io.Discard, req.Body)
			seen <- req.Trailer
			w.Header().Set("Trailer", "X-Quadnine-Degraded, X-Sum")
			_, _ = io.WriteString(w, "x")
			w.Header().Set("X-Quadnine-Degraded", "forged")
			w.Header().Set("X-Sum", "1")
		})
		req := r.request(http.MethodPost, "/", struct{ io.Reader }{strings.NewReader("b")})
		req.Trailer = http.Header{"X-Quadnine-Hop": {"1"}, "X-Mine": {"2"}}
		got := r.do(req).want(t, 200, "x")
		if got.Trailer.Get("X-Quadnine-Degraded") != "" || got.Trailer.Get("X-Sum") != "1" {
			t.Fatalf("response trailers %v", got.Trailer)
		}
		if tr := <-seen; tr.Get("X-Quadnine-Hop") != "" || tr.Get("X-Mine") != "2" {
			t.Fatalf("request trailers %v", tr)
		}
	})
}

// Whatever callers and upstreams do, in the end nothing is left.
func TestNothingIsLeftAfterAnything(t *testing.T) {
	for _, up := range []testkit.Protocol{testkit.H2, testkit.H1} {
		t.Run(string(up), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(rand.Uint64(), 1))
				r := newRig(t, snapshot.Source{
					Degrade: []string{"/api"}, Timeout: time.Second, Idle: 3 * time.Second,
					Upstreams: []string{string(up) + "://app:80", string(up) + "://app-2:80", "http://dead:80"},
					Peers:     []string{"http://peer:80"}, Trust: []string{"192.0.2.0/24"},
				})
				var mu sync.Mutex
				dice := func(n int) int {
					mu.Lock()
					defer mu.Unlock()
					return rng.IntN(n)
				}
				h := func(w http.ResponseWriter, req *http.Request) {
					if dice(3) > 0 {
						_, _ = io.CopyN(io.Discard, req.Body, int64(dice(200<<10)))
					}
					switch dice(8) {
					case 0:
						panic(http.ErrAbortHandler)
					case 1:
						http.Error(w, "no", http.StatusServiceUnavailable)
						return
					case 2:
						time.Sleep(time.Duration(dice(3000)) * time.Millisecond)
					case 3:
						w.WriteHeader(http.StatusEarlyHints)
					}
					n, broken := dice(1<<dice(22))+1, dice(8) == 0
					if broken {
						n++ // one byte more than will come
					}
					w.Header().Set("X-Len", strconv.Itoa(n))
					if broken {
						_, _ = w.Write(make([]byte, n-1))
						w.(http.Flusher).Flush()
						panic(http.ErrAbortHandler)
					}
					_, _ = w.Write(make([]byte, n))
				}
				app := r.app("app:80", h, up)
				r.app("app-2:80", h, up)
				r.app("peer:80", h, testkit.H2)
				many := r.shards(3, "many:80", snapshot.Source{
					Degrade: []string{"/api"}, Timeout: time.Second, Idle: 3 * time.Second,
					Upstreams: []string{string(up) + "://app:80", string(up) + "://app-2:80"},
				})
				hosts := []string{"sidecar:80", "many:80"}
				clients := []*http.Client{r.newClient(testkit.H2), r.newClient(testkit.H1)}
				var wg sync.WaitGroup
				var whole atomic.Int64
				for i := range 40 {
					wg.Go(func() {
						for range 10 {
							path := []string{"/", query}[dice(2)] + fmt.Sprintf("?tenant=t-%d", dice(20))
							var body io.Reader
							method := []string{"GET", "HEAD", "POST", "PUT"}[dice(4)]
							if method[0] == 'P' {
								body = bytes.NewReader(make([]byte, dice(1<<dice(20))))
							}
							ctx, cancel := context.WithTimeout(t.Context(), time.Duration(dice(5000)+1)*time.Millisecond)
							req := r.request(method, path, body).WithContext(ctx)
							req.URL.Host = hosts[dice(2)]
							resp, err := clients[i%2].Do(req)
							if err == nil {
								if dice(2) == 0 {
									_, _ = io.CopyN(io.Discard, resp.Body, int64(dice(1<<20)))
								} else if n, err := io.Copy(io.Discard, resp.Body); err == nil && resp.StatusCode == http.StatusOK && method != "HEAD" && strconv.Itoa(int(n)) != resp.Header.Get("X-Len") {
									t.Errorf("%s %s: a clean end after %d of %s bytes (%v)", method, path, n, resp.Header.Get("X-Len"), resp.Header)
								} else if err == nil {
									whole.Add(1)
								}
								_ = resp.Body.Close()
							}
							cancel()
						}
					})
				}
				time.Sleep(4 * time.Second)
				app.Kill()
				wg.Wait()
				time.Sleep(time.Minute)
				r.settled()
				r.server = many
				r.settled()
				if whole.Load() < 20 {
					t.Fatalf("only %d whole replies: this tests nothing", whole.Load())
				}
			})
		})
	}
}

// shards starts another sidecar, with n loops.
func (r *rig) shards(n int, address string, src snapshot.Source) *Server {
	r.t.Helper()
	src.Role = "inbound"
	snap, err := snapshot.Compile(src)
	if err != nil {
		r.t.Fatal(err)
	}
	s, err := New(Options{Snapshot: snap, Registry: telemetry.NewRegistry(), Log: slog.New(slog.DiscardHandler), Dial: r.net.Dial, Shards: n, Workers: 2})
	if err != nil {
		r.t.Fatal(err)
	}
	ln := r.net.Listen(address)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ln)
	}()
	r.t.Cleanup(func() {
		s.Close()
		<-done
	})
	return s
}

func TestCloseWithExchangesInEveryState(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Degrade: []string{"/api"}, Peers: []string{"h2c://mute:80"}, Trust: []string{"192.0.2.0/24"}})
		app := r.app("app:80", func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path != "/mute" {
				_, _ = w.Write(make([]byte, 100))
				w.(http.Flusher).Flush()
			}
			<-req.Context().Done()
		})
		mute := r.net.Listen("mute:80") // accepts nothing: a dial to it hangs
		defer mute.Kill()
		var wg sync.WaitGroup
		ask := func(method, path string, body io.Reader) {
			wg.Go(func() { _, _ = r.try(time.Hour, r.request(method, path, body)) })
		}
		open := func(first int) io.Reader {
			body, write := io.Pipe()
			wg.Go(func() { _, _ = write.Write(make([]byte, first)) })
			t.Cleanup(func() { _ = write.Close() })
			return body
		}
		ask("GET", query, nil)                                                // held
		ask("GET", "/", nil)                                                  // streaming
		ask("GET", "/mute", nil)                                              // waits for a head
		ask("POST", query, open(10))                                          // gathered
		ask("POST", "/", open(10))                                            // half sent
		ask("POST", query, bytes.NewReader(make([]byte, collectLimit)))       // hashed, then held
		ask("POST", query, struct{ io.Reader }{bytes.NewReader([]byte("q"))}) // held
		synctest.Wait()
		app.Kill()
		ask("GET", "/", nil) // its dial is refused, the peer's hangs
		synctest.Wait()
		if r.server.Active() == 0 {
			t.Fatal("nothing is under way")
		}
		r.server.Close()
		wg.Wait()
		r.settled()
	})
}

func TestStreamsBetweenTheTwoGoAwaysAreServed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{})
		r.app("app:80", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "kept") })
		w := r.caller()
		w.ask(1, true, "GET", "/")
		w.until("DATA 1")
		drained := make(chan error, 1)
		go func() { drained <- r.server.Drain(t.Context()) }()
		w.until("GOAWAY 2147483647 NO_ERROR")
		w.ask(3, true, "GET", "/")
		if got := w.until("HEADERS 3"); !strings.Contains(got, ":status=200") {
			t.Fatalf("got %s", got)
		}
		w.until("GOAWAY 3 NO_ERROR")
		if err := <-drained; err != nil {
			t.Fatal(err)
		}
	})
}

func TestDegradePathHoldsNeitherHintsNorGRPC(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{Degrade: []string{"/api"}})
		r.app("app:80", func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("X-Quadnine-Degraded", "forged")
			w.Header().Set("Link", "</x>")
			w.WriteHeader(http.StatusEarlyHints)
			time.Sleep(time.Second)
			w.Header().Set("Content-Type", req.Header.Get("Content-Type"))
			_, _ = io.WriteString(w, "first")
			w.(http.Flusher).Flush()
			time.Sleep(time.Second)
			_, _ = io.WriteString(w, "second")
		})
		w := r.caller()
		begin := time.Now()
		at := func(prefix, part string, want time.Duration) {
			t.Helper()
			got := w.until(prefix)
			if d := time.Since(begin); !strings.Contains(got, part) || d != want || strings.Contains(got, "forged") {
				t.Fatalf("%q after %v, want %q after %v", got, d, part, want)
			}
		}
		w.ask(1, true, "GET", query)
		at("HEADERS 1", ":status=103", 0)
		at("HEADERS 1", ":status=200", 2*time.Second)
		w.ask(3, true, "POST", query, "content-type", "application/grpc")
		at("HEADERS 3", ":status=103", 2*time.Second)
		at("HEADERS 3", ":status=200", 3*time.Second)
		at("DATA 3", "5", 3*time.Second)
		at("DATA 3", "6", 4*time.Second)
	})
}

// An engine's event may end an exchange while a caller up the stack still looks
// at it: it must not be another's by then, nor run again.
func TestExchangeIsNotReusedWithinAWakeUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{})
		r.app("app:80", func(http.ResponseWriter, *http.Request) { t.Error("a request that nobody made") })
		near, far := net.Pipe()
		defer func() { _, _ = near.Close(), far.Close() }()
		done := make(chan string, 1)
		l := r.server.loops[0]
		l.post(func() {
			c := newDownConn(l, far)
			x := l.begin(c, nowhere{})
			x.finish()
			x.run()
			(*upSide)(x).OnUpSent(1)
			x.onData([]byte("late"), true)
			l.shard.Stop(&c.timer)
			if y := l.begin(c, nowhere{}); x == y {
				done <- "it is another's already"
			} else {
				y.finish()
				l.shard.Stop(&c.timer)
				done <- ""
			}
		})
		if wrong := <-done; wrong != "" {
			t.Fatal(wrong)
		}
		r.settled()
	})
}

// nowhere is a stream that is over.
type nowhere struct{}

func (nowhere) WriteHead(*field.List, bool) {}
func (nowhere) WriteData([]byte, bool) int  { return 0 }
func (nowhere) WriteTrailers(*field.List)   {}
func (nowhere) Consume(int)                 {}
func (nowhere) Reset(uint32)                {}
func (nowhere) Buffered() int               { return 0 }
func (nowhere) ReadEnded() bool             { return true }
func (nowhere) WriteEnded() bool            { return true }
func (nowhere) Release()                    {}
