package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// hijacked answers every request that asks for an upgrade with a 101, and lets h
// go on with the connection. Others get the head that came.
func hijacked(t *testing.T, h func(conn net.Conn, in *bufio.Reader)) http.HandlerFunc {
	t.Helper()
	return func(w http.ResponseWriter, req *http.Request) {
		switch {
		case req.URL.Path == "/bad":
			w.WriteHeader(http.StatusInternalServerError)
			return
		case req.Header.Get("Upgrade") == "":
			echoed(w, req)
			return
		}
		conn, buf, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nSeen: %s %s\r\n\r\n", req.Header.Get("Upgrade"), req.Host, req.Header.Get("Connection"))
		h(conn, buf.Reader)
	}
}

// echoes sends back what comes until the other end is done.
func echoes(conn net.Conn, in *bufio.Reader) { _, _ = io.Copy(conn, in) }

// upgradeRig is a sidecar whose listener lets websocket through, before an app
// on "a:80" that speaks HTTP/1.1 and has h for tunnels.
func upgradeRig(t *testing.T, h func(net.Conn, *bufio.Reader), change func(l *snapshot.Listener, c *snapshot.Cluster), ps ...testkit.Protocol) *rig {
	t.Helper()
	r := newManaged(t)
	if len(ps) == 0 {
		ps = []testkit.Protocol{testkit.H1}
	}
	r.app("a:80", hijacked(t, h), ps...)
	l, c := listener("in", "sidecar:80", "a"), cluster("a", "a:80")
	l.HTTP.Envoy, l.HTTP.StreamIdleTimeout = true, 5*time.Minute
	l.HTTP.Upgrades = map[string]bool{"websocket": true}
	c.Protocol = snapshot.H1
	if change != nil {
		change(l, c)
	}
	if err := l.Inline.Finish(nil); err != nil {
		t.Fatal(err)
	}
	r.apply(snapshotOf([]*snapshot.Listener{l}, c))
	return r
}

// tunnel is a caller's connection after its request.
type tunnel struct {
	net.Conn
	in   *bufio.Reader
	resp *http.Response
}

const chatHandshake = "GET /chat HTTP/1.1\r\nHost: site\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n"

// dial sends request, and what follows it at once, and reads the answer's head.
func (r *rig) dial(request string) *tunnel {
	r.t.Helper()
	nc, err := r.net.Dial(r.t.Context(), "sidecar:80")
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := io.WriteString(nc, request); err != nil {
		r.t.Fatal(err)
	}
	w := &tunnel{Conn: nc, in: bufio.NewReader(nc)}
	resp, err := http.ReadResponse(w.in, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = nc.Close(); _ = resp.Body.Close() })
	w.resp = resp
	return w
}

// read returns the next n bytes.
func (w *tunnel) read(t *testing.T, n int) string {
	t.Helper()
	p := make([]byte, n)
	if _, err := io.ReadFull(w.in, p); err != nil {
		t.Fatalf("read: %v", err)
	}
	return string(p)
}

func (w *tunnel) say(t *testing.T, p string) {
	t.Helper()
	if _, err := io.WriteString(w, p); err != nil {
		t.Fatalf("write: %v", err)
	}
}

// ended reports whether nothing more comes.
func (w *tunnel) ended() bool {
	_, err := w.in.ReadByte()
	return errors.Is(err, io.EOF)
}

// TestUpgradeIsATunnel: the app gets the wish as it came, and bytes go both ways,
// those too that were sent before the answer.
func TestUpgradeIsATunnel(t *testing.T) {
	for name, tc := range map[string]struct {
		protocol snapshot.Protocol
		app      []testkit.Protocol
	}{
		"HTTP/1.1":           {snapshot.H1, nil},
		"unknown":            {snapshot.Auto, []testkit.Protocol{testkit.H1, testkit.H2}},
		"that of the caller": {snapshot.Downstream, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := upgradeRig(t, echoes, func(_ *snapshot.Listener, c *snapshot.Cluster) { c.Protocol = tc.protocol }, tc.app...)
				if tc.protocol == snapshot.Auto {
					r.get("/before").want(t, 200, "") // over HTTP/2
				}
				w := r.dial(chatHandshake + "early ")
				if got := w.resp; got.StatusCode != http.StatusSwitchingProtocols || got.Header.Get("Upgrade") != "WebSocket" || !strings.EqualFold(got.Header.Get("Connection"), "upgrade") ||
					got.Header.Get("Seen") != "site upgrade" || got.Header.Get("x-envoy-upstream-service-time") != "" || got.Header.Get("Date") == "" {
					t.Fatalf("got %d %v", got.StatusCode, got.Header)
				}
				w.say(t, "GET / HTTP/1.1\r\n\r\n")
				if got := w.read(t, 24); got != "early GET / HTTP/1.1\r\n\r\n" {
					t.Errorf("got %q", got)
				}
				big := strings.Repeat("0123456789abcdef", 1<<16)
				go func() { _, _ = io.WriteString(w, big) }()
				if got := w.read(t, len(big)); got != big {
					t.Error("a megabyte came back changed")
				}
				time.Sleep(4 * time.Minute) // longer than the route's time-out
				w.say(t, "still there")
				if got := w.read(t, 11); got != "still there" {
					t.Errorf("got %q", got)
				}
				_ = w.Close()
				r.settled()
			})
		})
	}
}

// TestWhoMayUpgrade: the route says, and where it says nothing the listener. The
// statuses are Envoy 1.40's.
func TestWhoMayUpgrade(t *testing.T) {
	type m = map[string]bool
	for name, tc := range map[string]struct {
		listener, route m
		ask             string
		status          int
	}{
		"listener":                         {m{"websocket": true}, nil, "websocket", 101},
		"listener, whatever its case":      {m{"websocket": true}, nil, "WEBSOCKET", 101},
		"nobody":                           {nil, nil, "websocket", 403},
		"listener that switches it off":    {m{"websocket": false}, nil, "websocket", 403},
		"route":                            {nil, m{"websocket": true}, "websocket", 101},
		"route that switches it off":       {m{"websocket": true}, m{"websocket": false}, "websocket", 403},
		"route over a listener without it": {m{"websocket": false}, m{"websocket": true}, "websocket", 101},
		"route of another protocol":        {m{"websocket": true}, m{"mine": true}, "websocket", 101},
		"protocol of its own":              {m{"websocket": true}, m{"mine": true}, "Mine", 101},
		"another protocol":                 {m{"websocket": true}, nil, "mine", 403},
		"two protocols":                    {m{"websocket": true}, nil, "mine, websocket", 403},
		"h2c, which is not heard":          {m{"websocket": true}, nil, "h2c", 200},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := upgradeRig(t, echoes, func(l *snapshot.Listener, _ *snapshot.Cluster) {
					l.HTTP.Upgrades = tc.listener
					l.Inline.Hosts[0].Routes[0].Forward.Upgrades = tc.route
				})
				w := r.dial("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: " + tc.ask + "\r\n\r\n")
				if w.resp.StatusCode != tc.status {
					t.Fatalf("got %d, want %d", w.resp.StatusCode, tc.status)
				}
				if tc.status == 403 && (!w.resp.Close || !w.ended()) {
					t.Error("the connection goes on after the refusal")
				}
				_ = w.Close()
				r.settled()
			})
		})
	}
}

// TestUpgradeThatTheAppDeclines: any other answer is an ordinary one. It is the
// caller's last, as what follows may be meant for a tunnel; the app's connection
// goes on.
func TestUpgradeThatTheAppDeclines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newManaged(t)
		r.app("a:80", func(w http.ResponseWriter, req *http.Request) {
			if req.Header.Get("Upgrade") != "" {
				w.WriteHeader(http.StatusUpgradeRequired)
			}
			_, _ = io.WriteString(w, req.URL.Path)
		}, testkit.H1)
		l, c := listener("in", "sidecar:80", "a"), cluster("a", "a:80")
		l.HTTP.Envoy, l.HTTP.Upgrades = true, map[string]bool{"websocket": true}
		c.Protocol = snapshot.H1
		r.apply(snapshotOf([]*snapshot.Listener{l}, c))
		w := r.dial(chatHandshake + "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
		if b, _ := io.ReadAll(w.resp.Body); w.resp.StatusCode != http.StatusUpgradeRequired || string(b) != "/chat" || !w.resp.Close {
			t.Errorf("got %d %q, close %v", w.resp.StatusCode, b, w.resp.Close)
		}
		if !w.ended() {
			t.Error("more was answered")
		}
		r.get("/next").want(t, 200, "/next")
		if n := r.net.Dials("a:80"); n != 1 {
			t.Errorf("%d connections to the app, want the one", n)
		}
		r.settled()
	})
}

// TestUpgradeOverHTTP2NeedsExtendedConnect: Go's own server does not offer it.
func TestUpgradeOverHTTP2NeedsExtendedConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := upgradeRig(t, echoes, func(_ *snapshot.Listener, c *snapshot.Cluster) { c.Protocol = snapshot.H2C }, testkit.H2)
		w := r.dial(chatHandshake)
		if w.resp.StatusCode != http.StatusNotImplemented || !w.resp.Close {
			t.Errorf("got %d %v", w.resp.StatusCode, w.resp.Header)
		}
		if n := r.net.Dials("a:80"); n != 1 {
			t.Errorf("%d connections to the app, want the one whose SETTINGS offer nothing", n)
		}
		_ = w.Close()
		r.settled()
	})
}

// TestHowTunnelsEnd: each end gets what the other sent before it left, and the
// access log tells who left first.
func TestHowTunnelsEnd(t *testing.T) {
	for name, tc := range map[string]struct {
		app func(got chan<- string) func(net.Conn, *bufio.Reader)
		do  func(t *testing.T, w *tunnel, got <-chan string)
		log string
	}{
		"caller": {
			func(got chan<- string) func(net.Conn, *bufio.Reader) {
				return func(_ net.Conn, in *bufio.Reader) {
					b, _ := io.ReadAll(in)
					got <- string(b)
				}
			},
			func(t *testing.T, w *tunnel, got <-chan string) {
				t.Helper()
				w.say(t, "last words")
				_ = w.Close()
				if b := <-got; b != "last words" {
					t.Errorf("the app got %q", b)
				}
			},
			"101 DC downstream_remote_disconnect 10 0\n",
		},
		"app": {
			func(chan<- string) func(net.Conn, *bufio.Reader) {
				return func(c net.Conn, _ *bufio.Reader) { _, _ = io.WriteString(c, "last words") }
			},
			func(t *testing.T, w *tunnel, _ <-chan string) {
				t.Helper()
				if b, err := io.ReadAll(w.in); string(b) != "last words" || err != nil {
					t.Errorf("the caller got %q, %v", b, err)
				}
			},
			"101 UC upstream_reset_after_response_started{connection_termination} 0 10\n",
		},
		"nobody for long": {
			func(got chan<- string) func(net.Conn, *bufio.Reader) {
				return func(_ net.Conn, in *bufio.Reader) {
					_, err := in.ReadByte()
					got <- fmt.Sprint(err)
				}
			},
			func(t *testing.T, w *tunnel, got <-chan string) {
				t.Helper()
				begin := time.Now()
				if !w.ended() {
					t.Error("the caller got something")
				}
				if d := time.Since(begin).Round(100 * time.Millisecond); d != time.Minute {
					t.Errorf("it took %v", d)
				}
				if b := <-got; b != "EOF" {
					t.Errorf("the app got %s", b)
				}
			},
			"101 SI stream_idle_timeout 0 0\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			synctest.Test(t, func(t *testing.T) {
				got := make(chan string, 1)
				r := upgradeRig(t, tc.app(got), func(l *snapshot.Listener, _ *snapshot.Cluster) {
					l.HTTP.AccessLogs = []*snapshot.AccessLog{{Path: path, Format: format(t, "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %BYTES_RECEIVED% %BYTES_SENT%\n")}}
					f := l.Inline.Hosts[0].Routes[0].Forward
					f.HasIdle, f.Idle = true, time.Minute
				})
				tc.do(t, r.dial(chatHandshake), got)
				r.settled()
				time.Sleep(2 * time.Second)
			})
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if string(b) != tc.log {
				t.Errorf("log %q, want %q", b, tc.log)
			}
		})
	}
}

// TestTunnelIsUnderBackpressure: what nobody reads is not taken.
func TestTunnelIsUnderBackpressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const more = 8 << 20
		taken := make(chan int, 1)
		r := upgradeRig(t, func(c net.Conn, in *bufio.Reader) {
			n := 0
			for p := make([]byte, 1<<10); n < more; {
				_ = c.SetWriteDeadline(time.Now().Add(time.Second))
				k, err := c.Write(p)
				if n += k; err != nil {
					break
				}
			}
			taken <- n
			_ = c.SetWriteDeadline(time.Time{})
			_, _ = io.Copy(io.Discard, in)
		}, nil)
		w := r.dial(chatHandshake)
		n := <-taken
		if n > 1<<20 {
			t.Errorf("%d bytes were taken that nobody read", n)
		}
		w.read(t, n)
		_ = w.Close()
		r.settled()
	})
}

// TestTunnelsOutcome: a tunnel is a success for the key from its first moment,
// also as the probe that closes its breaker.
func TestTunnelsOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := policy.DefaultBreakerConfig()
		cfg.FailureThreshold, cfg.SuccessThreshold = 1, 1
		r := upgradeRig(t, echoes, func(l *snapshot.Listener, _ *snapshot.Cluster) {
			l.Keys, l.Breaker = snapshot.DefaultKeys(), &snapshot.Breaker{Scope: "listener/in", Config: cfg}
		})
		r.get("/bad?tenant=t&metric=m").want(t, 500, "")
		r.get("/?tenant=t&metric=m").want(t, 503, "breaker")
		time.Sleep(cfg.OpenFor)
		w := r.dial(strings.Replace(chatHandshake, "/chat", "/chat?tenant=t&metric=m", 1))
		r.get("/?tenant=t&metric=m").want(t, 200, "")
		if n := r.server.Active(); n != 1 {
			t.Errorf("%d exchanges active, want the tunnel", n)
		}
		_ = w.Close()
		r.settled()
	})
}

// TestDrainWaitsForTunnels until its time is over.
func TestDrainWaitsForTunnels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := upgradeRig(t, echoes, nil)
		w := r.dial(chatHandshake)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		drained := make(chan error, 1)
		go func() { drained <- r.server.Drain(ctx) }()
		time.Sleep(29 * time.Second)
		w.say(t, "still")
		if got := w.read(t, 5); got != "still" {
			t.Errorf("got %q", got)
		}
		if err := <-drained; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		r.server.Close()
		if !w.ended() {
			t.Error("the tunnel outlives the server")
		}
	})
}

// TestUpgradeMayTakeAsLongAsItsRouteSays until it is answered.
func TestUpgradeMayTakeAsLongAsItsRouteSays(t *testing.T) {
	for name, tc := range map[string]struct {
		timeout, idle time.Duration
		status        int
		text          string
	}{
		"time-out": {time.Second, 0, 504, "upstream request timeout"},
		"idle":     {0, time.Second, 408, "stream timeout"}, // to Envoy the caller has still the word
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newManaged(t)
				r.app("a:80", func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() }, testkit.H1)
				l, c := listener("in", "sidecar:80", "a"), cluster("a", "a:80")
				l.HTTP.Envoy, l.HTTP.Upgrades, l.HTTP.StreamIdleTimeout = true, map[string]bool{"websocket": true}, tc.idle
				l.Inline.Hosts[0].Routes[0].Forward.Timeout = tc.timeout
				c.Protocol = snapshot.H1
				r.apply(snapshotOf([]*snapshot.Listener{l}, c))
				begin := time.Now()
				w := r.dial(chatHandshake)
				if b, _ := io.ReadAll(w.resp.Body); w.resp.StatusCode != tc.status || string(b) != tc.text || !w.resp.Close || time.Since(begin).Round(100*time.Millisecond) != time.Second {
					t.Errorf("got %d %q after %v, close %v", w.resp.StatusCode, b, time.Since(begin), w.resp.Close)
				}
				_ = w.Close()
				r.settled()
			})
		})
	}
}

// TestFlagsKnowNoUpgrades: listeners without a management server refuse them.
func TestFlagsKnowNoUpgrades(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{})
		if w := r.dial(chatHandshake); w.resp.StatusCode != http.StatusNotImplemented {
			t.Errorf("got %d", w.resp.StatusCode)
		}
	})
}

// TestTunnelOverLoopback is the same over TCP, where ends can leave one way: the
// caller that has said all it has to still gives the app all of it, and the other
// way round.
func TestTunnelOverLoopback(t *testing.T) {
	got := make(chan int, 1)
	app := httptest.NewServer(hijacked(t, func(c net.Conn, in *bufio.Reader) {
		n, _ := io.Copy(io.Discard, in)
		got <- int(n)
		_ = c.Close()
	}))
	defer app.Close()
	s, err := New(Options{Snapshot: new(snapshot.Snapshot), Registry: telemetry.NewRegistry(), Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	l, c := listener("in", "127.0.0.1:0", "a"), cluster("a", app.Listener.Addr().String())
	l.HTTP.Envoy, l.HTTP.Upgrades = true, map[string]bool{"websocket": true}
	c.Protocol = snapshot.H1
	if err := s.Listen(l); err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(snapshotOf([]*snapshot.Listener{l}, c)); err != nil {
		t.Fatal(err)
	}
	nc, err := net.Dial("tcp", s.Addrs("in")[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	_, _ = io.WriteString(nc, chatHandshake)
	in := bufio.NewReader(nc)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%+v, %v", resp, err)
	}
	defer func() { _ = resp.Body.Close() }()
	const size = 4 << 20
	if _, err := nc.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	if err := nc.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n := <-got; n != size {
		t.Errorf("the app got %d of %d bytes", n, size)
	}
	if b, err := io.ReadAll(in); len(b) > 0 || err != nil {
		t.Errorf("the caller got %q, %v", b, err)
	}
}
