package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

var offersConnect = http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1}

// The example of RFC 6455 section 1.3.
const (
	sampleKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	sampleAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

func TestAcceptOf(t *testing.T) {
	if got := string(acceptOf([]byte(sampleKey))); got != sampleAccept {
		t.Errorf("got %s", got)
	}
	if a, b := newKey(), newKey(); len(a) != 24 || bytes.Equal(a, b) {
		t.Errorf("keys %s and %s", a, b)
	}
}

// wsApp is an app at "a:80" that takes websockets up, over HTTP/1.1 as RFC 6455 or
// over HTTP/2 as RFC 8441 says, and echoes. It tells of each handshake.
func (r *rig) wsApp(h2 bool) (handshakes chan string) {
	handshakes = make(chan string, 16)
	if !h2 {
		r.app("a:80", func(w http.ResponseWriter, req *http.Request) {
			if req.Header.Get("Upgrade") == "" {
				echoed(w, req)
				return
			}
			key := req.Header.Get("Sec-Websocket-Key")
			handshakes <- fmt.Sprintf("%s %s %s key=%v version=%s", req.Method, req.RequestURI, req.Host, key != "", req.Header.Get("Sec-Websocket-Version"))
			conn, buf, err := w.(http.Hijacker).Hijack()
			if err != nil {
				r.t.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			_, _ = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-Websocket-Accept: %s\r\nSec-Websocket-Protocol: chat\r\n\r\n", acceptOf([]byte(key)))
			_, _ = io.Copy(conn, buf)
		}, testkit.H1)
		return handshakes
	}
	r.frameApp("a:80", func(w *wire) {
		echoed := make(map[uint32]int)
		for line := range w.frames {
			var id uint32
			var end bool
			switch {
			case strings.HasPrefix(line, "HEADERS "):
				_, _ = fmt.Sscanf(line, "HEADERS %d end=%v", &id, &end)
				handshakes <- line
				w.headers(id, false, ":status", "200", "sec-websocket-protocol", "chat")
			case strings.HasPrefix(line, "DATA "):
				n := 0
				_, _ = fmt.Sscanf(line, "DATA %d end=%v %d", &id, &end, &n)
				p := w.said(id)[echoed[id]:][:n]
				echoed[id] += n
				w.do(func(fr *http2.Framer) error {
					if n > 0 {
						_ = fr.WriteWindowUpdate(0, uint32(n))
						_ = fr.WriteWindowUpdate(id, uint32(n))
					}
					return fr.WriteData(id, end, []byte(p))
				})
			}
		}
	}, offersConnect)
	return handshakes
}

// extendedRig is a sidecar that offers extended CONNECT.
func extendedRig(t *testing.T, p snapshot.Protocol, change func(l *snapshot.Listener)) *rig {
	t.Helper()
	r := newManaged(t)
	l, c := listener("in", "sidecar:80", "a"), cluster("a", "a:80")
	l.HTTP.Envoy, l.HTTP.AllowConnect, l.HTTP.StreamIdleTimeout = true, true, 5*time.Minute
	l.HTTP.Upgrades = map[string]bool{"websocket": true}
	c.Protocol = p
	if change != nil {
		change(l)
	}
	if err := l.Inline.Finish(nil); err != nil {
		t.Fatal(err)
	}
	r.apply(snapshotOf([]*snapshot.Listener{l}, c))
	return r
}

// connect sends an extended CONNECT on w.
func (w *wire) connect(id uint32, end bool, path string, fields ...string) {
	w.headers(id, end, append([]string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "site", ":path", path}, fields...)...)
}

func (w *wire) write(id uint32, end bool, p string) {
	w.do(func(fr *http2.Framer) error { return fr.WriteData(id, end, []byte(p)) })
}

const wsHandshake = "GET /chat HTTP/1.1\r\nHost: site\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + sampleKey + "\r\n\r\n"

// TestWebsocketOnEveryBridge: whatever either side speaks, the handshake is in its
// words, bytes go both ways, early ones too, and one end's farewell is the other's.
func TestWebsocketOnEveryBridge(t *testing.T) {
	for name, p := range map[string]snapshot.Protocol{"HTTP/1.1 app": snapshot.H1, "HTTP/2 app": snapshot.H2C} {
		asked := "GET /chat site key=true version=13"
		if p == snapshot.H2C {
			asked = "HEADERS 1 end=false :method=CONNECT :scheme=http :authority=site :path=/chat :protocol=websocket sec-websocket-version=13"
		}
		t.Run("HTTP/1.1 caller, "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := extendedRig(t, p, nil)
				handshakes := r.wsApp(p == snapshot.H2C)
				w := r.dial(wsHandshake + "early ")
				h := w.resp.Header
				if w.resp.StatusCode != http.StatusSwitchingProtocols || !strings.EqualFold(h.Get("Upgrade"), "websocket") || h.Get("Sec-Websocket-Accept") != sampleAccept || h.Get("Sec-Websocket-Protocol") != "chat" {
					t.Fatalf("got %d %v", w.resp.StatusCode, h)
				}
				if got := <-handshakes; !strings.HasPrefix(got, asked) || strings.Contains(got, "sec-websocket-key") {
					t.Errorf("the app was asked %q, want %q", got, asked)
				}
				w.say(t, "late")
				if got := w.read(t, 10); got != "early late" {
					t.Errorf("got %q", got)
				}
				big := strings.Repeat("0123456789abcdef", 3<<10)
				go func() { _, _ = io.WriteString(w, big) }()
				if got := w.read(t, len(big)); got != big {
					t.Error("48 KiB came back changed")
				}
				_ = w.Close()
				r.settled()
			})
		})
		t.Run("HTTP/2 caller, "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := extendedRig(t, p, nil)
				handshakes := r.wsApp(p == snapshot.H2C)
				w := r.caller()
				w.connect(1, false, "/chat", "sec-websocket-version", "13")
				w.write(1, false, "early ")
				line := w.until("HEADERS 1 ")
				if !strings.HasPrefix(line, "HEADERS 1 end=false :status=200") || !strings.Contains(line, "sec-websocket-protocol=chat") ||
					strings.Contains(line, "upgrade=") || strings.Contains(line, "connection=") || strings.Contains(line, "accept=") {
					t.Fatalf("got %s", line)
				}
				if got := <-handshakes; !strings.HasPrefix(got, asked) {
					t.Errorf("the app was asked %q, want %q", got, asked)
				}
				w.write(1, false, "late")
				w.hears(1, "early late")
				w.connect(3, false, "/other")
				w.until("HEADERS 3 end=false :status=200")
				w.write(3, false, "beside")
				w.hears(3, "beside")
				w.write(1, true, " bye")
				w.until("DATA 1 end=true")
				if p == snapshot.H2C { // each direction has its end: what the app says last is heard
					w.hears(1, "early late bye")
				}
				w.write(3, false, " still")
				w.hears(3, "beside still")
				_ = w.nc.Close()
				r.settled()
			})
		})
	}
}

// TestExtendedConnectUnderBackpressure: a caller that opens no window gets no more
// than it has opened, and the app is not read on.
func TestExtendedConnectUnderBackpressure(t *testing.T) {
	for _, p := range []snapshot.Protocol{snapshot.H1, snapshot.H2C} {
		t.Run(p.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := extendedRig(t, p, nil)
				r.wsApp(p == snapshot.H2C)
				w := r.caller()
				w.connect(1, false, "/")
				w.until("HEADERS 1 ")
				text := strings.Repeat("0123456789abcdef", 5<<10) // 80 KiB, more than a window
				sent := 0
				for ; sent < 64000; sent += 16000 {
					w.write(1, false, text[sent:sent+16000])
				}
				w.hears(1, text[:sent])
				w.write(1, false, text[sent:sent+1500])
				w.hears(1, text[:65500])
				w.write(1, false, text[65500:66000])
				synctest.Wait()
				if got := len(w.said(1)); got != 65535 {
					t.Fatalf("%d bytes came through a window of 65535", got)
				}
				w.do(func(fr *http2.Framer) error { return fr.WriteWindowUpdate(1, 1000) })
				w.do(func(fr *http2.Framer) error { return fr.WriteWindowUpdate(0, 1000) })
				w.hears(1, text[:66000])
				_ = w.nc.Close()
				r.settled()
			})
		})
	}
}

// TestExtendedConnectIsOfferedAndRefused: what is not to be had is refused with a
// status that says why, or, where it was not offered at all, as malformed.
func TestExtendedConnectIsOfferedAndRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		change   func(l *snapshot.Listener)
		protocol snapshot.Protocol
		app      func(r *rig)
		fields   []string // besides those of connect
		path     string
		want     string
		text     string
	}{
		"no upgrade of that name": {change: func(l *snapshot.Listener) { l.HTTP.Upgrades = map[string]bool{"mine": true} }, want: "HEADERS 1 end=true :status=403"},
		"switched off by its route": {change: func(l *snapshot.Listener) {
			l.Inline.Hosts[0].Routes[0].Forward.Upgrades = map[string]bool{"websocket": false}
		}, want: "HEADERS 1 end=true :status=403"},
		"not offered":         {change: func(l *snapshot.Listener) { l.HTTP.AllowConnect = false }, want: "RST_STREAM 1 PROTOCOL_ERROR"},
		"with a length":       {fields: []string{"content-length", "3"}, want: "RST_STREAM 1 PROTOCOL_ERROR"},
		"the app offers none": {protocol: snapshot.H2C, app: func(r *rig) { r.frameApp("a:80", func(*wire) {}) }, want: "HEADERS 1 end=false :status=501", text: "RFC 8441"},
		"the app sends no SETTINGS": {protocol: snapshot.H2C, app: func(r *rig) {
			l := r.net.Listen("a:80")
			r.t.Cleanup(l.Kill)
			go func() {
				if c, err := l.Accept(); err == nil {
					_, _ = io.Copy(io.Discard, c)
				}
			}()
		}, want: "HEADERS 1 end=false :status=501", text: "RFC 8441"},
		"the app declines": {app: func(r *rig) {
			r.app("a:80", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) }, testkit.H1)
		}, want: "HEADERS 1 end=false :status=403", text: "no\n"},
		"the app answers as if nothing was asked": {app: func(r *rig) {
			r.app("a:80", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "page") }, testkit.H1)
		}, want: "HEADERS 1 end=false :status=502", text: errTookNoTunnel.Error()},
		"the app answers another key": {app: func(r *rig) {
			r.app("a:80", hijacked(r.t, func(c net.Conn, in *bufio.Reader) { _, _ = io.Copy(io.Discard, in); _ = c.Close() }), testkit.H1)
		}, want: "HEADERS 1 end=false :status=502", text: "protocol error"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if tc.protocol == 0 {
					tc.protocol = snapshot.H1
				}
				r := extendedRig(t, tc.protocol, tc.change)
				if tc.app != nil {
					tc.app(r)
				}
				w := r.caller()
				w.connect(1, false, "/", tc.fields...)
				line := ""
				for line = range w.frames {
					if strings.HasPrefix(line, "HEADERS 1 ") || strings.HasPrefix(line, "RST_STREAM 1 ") {
						break
					}
				}
				if !strings.HasPrefix(line, tc.want) {
					t.Fatalf("got %q, want %q", line, tc.want)
				}
				if tc.text != "" {
					w.until("DATA 1 end=true")
					if got := w.said(1); !strings.Contains(got, tc.text) {
						t.Errorf("text %q, want %q in it", got, tc.text)
					}
				}
				w.ask(3, true, "GET", "/") // the connection goes on
				synctest.Wait()
				_ = w.nc.Close()
				r.settled()
			})
		})
	}
}

// TestTunnelEndsLikeItsOtherEnd: a reset at one end is one at the other; idleness
// ends both cleanly.
func TestTunnelEndsLikeItsOtherEnd(t *testing.T) {
	start := func(t *testing.T, app func(w *wire)) (*rig, *wire) {
		t.Helper()
		r := extendedRig(t, snapshot.H2C, nil)
		r.frameApp("a:80", func(w *wire) {
			w.until("HEADERS 1 ")
			w.headers(1, false, ":status", "200")
			app(w)
		}, offersConnect)
		w := r.caller()
		w.connect(1, false, "/")
		w.until("HEADERS 1 end=false :status=200")
		return r, w
	}
	t.Run("caller resets", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			got := make(chan string, 1)
			r, w := start(t, func(w *wire) { got <- w.until("RST_STREAM 1") })
			w.do(func(fr *http2.Framer) error { return fr.WriteRSTStream(1, http2.ErrCodeCancel) })
			if line := <-got; line != "RST_STREAM 1 CANCEL" {
				t.Errorf("the app got %s", line)
			}
			r.settled()
		})
	})
	t.Run("app resets", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, w := start(t, func(w *wire) {
				w.do(func(fr *http2.Framer) error { return fr.WriteRSTStream(1, http2.ErrCodeCancel) })
			})
			if line := w.until("RST_STREAM 1"); line != "RST_STREAM 1 CANCEL" {
				t.Errorf("the caller got %s", line)
			}
			r.settled()
		})
	})
	t.Run("app ends first", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			got := make(chan string, 1)
			r, w := start(t, func(w *wire) {
				w.write(1, true, "bye")
				w.until("DATA 1 end=true")
				got <- w.said(1)
			})
			w.until("DATA 1 end=true")
			w.hears(1, "bye")
			w.write(1, true, "bye yourself")
			if text := <-got; text != "bye yourself" {
				t.Errorf("the app got %q", text)
			}
			r.settled()
		})
	})
	t.Run("nobody for long", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			got := make(chan string, 1)
			begin := time.Now()
			r, w := start(t, func(w *wire) { got <- w.until("DATA 1 end=true") })
			w.until("DATA 1 end=true 0")
			if d := time.Since(begin).Round(time.Second); d != 5*time.Minute {
				t.Errorf("it took %v", d)
			}
			<-got
			r.settled()
		})
	})
	t.Run("caller ends before the answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := extendedRig(t, snapshot.H2C, nil)
			handshakes := r.wsApp(true)
			w := r.caller()
			w.connect(1, false, "/")
			w.write(1, true, "all I have to say")
			w.until("DATA 1 end=true")
			w.hears(1, "all I have to say")
			<-handshakes
			r.settled()
		})
	})
}

// TestUpgradeOfFlags: listeners from flags let through what --upgrade names, in
// either protocol, and an endpoint that was found by a probe is asked over HTTP/2
// once it has offered it.
func TestUpgradeOfFlags(t *testing.T) {
	for name, h2 := range map[string]bool{"HTTP/1.1 app": false, "HTTP/2 app": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				url := "http://a:80"
				r := newRig(t, snapshot.Source{Upstreams: []string{url}, Upgrades: []string{"websocket"}})
				if h2 {
					r.frameApp("a:80", func(w *wire) {
						for line := range w.frames {
							var id uint32
							if _, err := fmt.Sscanf(line, "HEADERS %d", &id); err == nil {
								w.headers(id, !strings.Contains(line, ":protocol"), ":status", "200")
							}
						}
					}, offersConnect)
					r.get("/").want(t, 200, "")
				} else {
					r.wsApp(false)
				}
				w := r.dial(wsHandshake)
				if w.resp.StatusCode != http.StatusSwitchingProtocols || w.resp.Header.Get("Sec-Websocket-Accept") != sampleAccept {
					t.Errorf("got %d %v", w.resp.StatusCode, w.resp.Header)
				}
				_ = w.Close()
				c := r.caller()
				c.connect(1, false, "/")
				c.until("HEADERS 1 end=false :status=200")
				_ = c.nc.Close()
				r.settled()
				other := r.dial(strings.Replace(wsHandshake, "Upgrade: websocket", "Upgrade: mine", 1))
				if other.resp.StatusCode != http.StatusNotImplemented || !other.resp.Close {
					t.Errorf("another protocol: %d", other.resp.StatusCode)
				}
			})
		})
	}
}

// TestExtendedConnectOverLoopback is a bridge over TCP: an HTTP/2 caller, an
// HTTP/1.1 app that speaks RFC 6455.
func TestExtendedConnectOverLoopback(t *testing.T) {
	app, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = app.Close() }()
	go func() {
		c, err := app.Accept()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		in := bufio.NewReader(c)
		req, err := http.ReadRequest(in)
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-Websocket-Accept: %s\r\n\r\n", acceptOf([]byte(req.Header.Get("Sec-Websocket-Key"))))
		_, _ = io.Copy(c, in)
	}()
	s, err := New(Options{Snapshot: new(snapshot.Snapshot), Registry: telemetry.NewRegistry(), Log: quiet(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	l, c := listener("in", "127.0.0.1:0", "a"), cluster("a", app.Addr().String())
	l.HTTP.Envoy, l.HTTP.AllowConnect, l.HTTP.Upgrades = true, true, map[string]bool{"websocket": true}
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
	w := newWire(t, nc)
	_, _ = io.WriteString(nc, http2.ClientPreface)
	w.do(func(fr *http2.Framer) error { return fr.WriteSettings() })
	w.connect(1, false, "/chat")
	w.until("HEADERS 1 end=false :status=200")
	p := slices.Repeat([]byte("0123456789abcdef"), 1<<10) // 16 KiB: a frame
	for range 3 {
		w.write(1, false, string(p))
	}
	w.hears(1, strings.Repeat(string(p), 3))
	w.write(1, true, "")
	w.until("DATA 1 end=true")
}

// TestDrainWaitsForExtendedTunnels: the caller is told to go elsewhere with what is
// new, and its tunnel goes on until the drain's time is over.
func TestDrainWaitsForExtendedTunnels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := extendedRig(t, snapshot.H1, nil)
		r.wsApp(false)
		w := r.caller()
		w.connect(1, false, "/")
		w.until("HEADERS 1 ")
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		drained := make(chan error, 1)
		go func() { drained <- r.server.Drain(ctx) }()
		w.until("GOAWAY ")
		time.Sleep(29 * time.Second)
		w.write(1, false, "still there")
		w.hears(1, "still there")
		if err := <-drained; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		r.server.Close()
		for line := range w.frames { // to the end of the connection
			if strings.HasPrefix(line, "DATA 1 end=true") {
				t.Error("the tunnel that was cut off has a clean end")
			}
		}
	})
}
