package conformance

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// wsEcho is an app of a real websocket library that sends back what it gets. It tells
// which version of HTTP it was asked in, and by what method.
func wsEcho(t *testing.T) (address string, asked chan string) {
	t.Helper()
	asked = make(chan string, 16)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Method + " " + r.Proto
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"stats"}})
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = c.CloseNow() }()
		c.SetReadLimit(1 << 20)
		for {
			kind, p, err := c.Read(r.Context())
			if err != nil {
				return // the caller's farewell, which Read has answered
			}
			if err := c.Write(r.Context(), kind, p); err != nil {
				t.Error(err)
				return
			}
		}
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), asked
}

// wsTalk has the library's client talk through address: texts, an empty message, a
// large one, a ping, the farewell of both sides.
func wsTalk(t *testing.T, address string) {
	t.Helper()
	ctx := deadline(t, within)
	c, resp, err := websocket.Dial(ctx, "ws://"+address+"/live?tenant=acme&metric=uv", &websocket.DialOptions{Subprotocols: []string{"stats"}})
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body != nil {
		_ = resp.Body.Close()
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(1 << 20)
	if c.Subprotocol() != "stats" {
		t.Errorf("subprotocol %q", c.Subprotocol())
	}
	for _, p := range [][]byte{[]byte("hello"), {}, bytes.Repeat([]byte("0123456789abcdef"), 1<<15), []byte("bye")} {
		if err := c.Write(ctx, websocket.MessageBinary, p); err != nil {
			t.Fatal(err)
		}
		kind, got, err := c.Read(ctx)
		if err != nil || kind != websocket.MessageBinary || !bytes.Equal(got, p) {
			t.Fatalf("%d bytes came back as %d bytes, %v", len(p), len(got), err)
		}
	}
	pong := make(chan error, 1)
	reading := c.CloseRead(ctx)
	go func() { pong <- c.Ping(ctx) }()
	if err := <-pong; err != nil {
		t.Error(err)
	}
	if err := c.Close(websocket.StatusNormalClosure, "done"); err != nil && reading.Err() == nil {
		t.Errorf("the farewell was not answered: %v", err)
	}
}

// translator starts HAProxy at an address of its own, which takes connections as bind
// says and speaks to the server as server says.
func translator(t *testing.T, bind, address, server string) string {
	t.Helper()
	at, conf := addrs(t, 1)[0], filepath.Join(t.TempDir(), "haproxy.cfg")
	text := fmt.Sprintf(`defaults
  mode http
  timeout client 30s
  timeout connect 5s
  timeout server 30s
  timeout tunnel 30s
frontend in
  bind %s %s
  default_backend out
backend out
  server s %s %s
`, at, bind, address, server)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	listening(t, tool(t, "haproxy", "-db", "-f", conf), at)
	return at
}

// TestWebsocket has a real library at both ends of each bridge. HAProxy translates
// where the library does not speak HTTP/2: it is then the sidecar's caller, or its
// app, by extended CONNECT (RFC 8441).
func TestWebsocket(t *testing.T) {
	for _, tc := range []struct {
		name       string
		down2, up2 bool
	}{
		{"h1 to h1", false, false},
		{"h1 to h2", false, true},
		{"h2 to h1", true, false},
		{"h2 to h2", true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			app, asked := wsEcho(t)
			upstream := "h1://" + app
			if tc.up2 {
				upstream = "h2c://" + translator(t, "proto h2", app, "")
			}
			s := startSidecar(t, nil, "--upstream", upstream)
			address := s.addr
			if tc.down2 {
				address = translator(t, "", s.addr, "proto h2 ws h2")
			}
			for range 3 { // a connection that carried one carries the next
				wsTalk(t, address)
				if got := <-asked; got != "GET HTTP/1.1" {
					t.Errorf("the app was asked by %s", got)
				}
			}
		})
	}
}

// TestWebsocketRefused: with --upgrade none, and for other protocols, there are none.
func TestWebsocketRefused(t *testing.T) {
	app, _ := wsEcho(t)
	for _, tc := range []struct{ flag, offered string }{{"none", "websocket"}, {"mine", "websocket"}} {
		s := startSidecar(t, nil, "--upstream", "h1://"+app, "--upgrade", tc.flag)
		_, resp, err := websocket.Dial(deadline(t, within), "ws://"+s.addr+"/", nil) //nolint:bodyclose // Dial has read it
		if err == nil || resp == nil || resp.StatusCode != http.StatusNotImplemented {
			t.Errorf("--upgrade %s: %v, %v", tc.flag, resp, err)
		}
	}
}

// TestWebsocketEndsWithItsApp: a tunnel whose app is killed ends for the caller.
func TestWebsocketEndsWithItsApp(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	app := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		<-gone
		_ = c.CloseNow()
	})}
	go func() { _ = app.Serve(ln) }()
	defer func() { _ = app.Close() }()
	s := startSidecar(t, nil, "--upstream", "h1://"+ln.Addr().String())
	for _, address := range []string{s.addr, translator(t, "", s.addr, "proto h2 ws h2")} {
		c, resp, err := websocket.Dial(deadline(t, within), "ws://"+address+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Body != nil {
			_ = resp.Body.Close()
		}
		gone <- struct{}{}
		if _, _, err := c.Read(deadline(t, within)); err == nil || strings.Contains(err.Error(), "deadline") {
			t.Errorf("the tunnel did not end: %v", err)
		}
		_ = c.CloseNow()
	}
}
