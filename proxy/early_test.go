package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

// early is an app's answer to a request whose body it does not read.
const early = "too large, and said so before it came"

// earlyApp answers each request's head at once, over HTTP/1.1 or HTTP/2, and reads
// no body.
func earlyApp(t *testing.T, h2 bool) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
			go func() {
				if !h2 {
					if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
						_, _ = fmt.Fprintf(c, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(early), early)
					}
					// And the connection stays as it is. Had the reply not said that this was
					// the last one, a proxy that had sent all of the body by then would use it again.
					return
				}
				if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
					return
				}
				w := newWire(t, c)
				w.do(func(fr *http2.Framer) error { return fr.WriteSettings() })
				for line := range w.frames {
					var id uint32
					if _, err := fmt.Sscanf(line, "HEADERS %d", &id); err == nil {
						w.headers(id, false, ":status", "413")
						w.write(id, true, early)
						w.do(func(fr *http2.Framer) error { return fr.WriteRSTStream(id, http2.ErrCodeNo) })
					}
				}
			}()
		}
	}()
	return ln.Addr().String()
}

// TestEarlyReplyOnEveryBridge: an answer that comes before the body is the caller's,
// whole, even one that would send all of its body first; an HTTP/2 connection goes on.
func TestEarlyReplyOnEveryBridge(t *testing.T) {
	body := strings.Repeat("x", 4<<20)
	for _, up2 := range []bool{false, true} {
		t.Run(bridgeName(false, up2), func(t *testing.T) {
			b := newBridgeTo(t, up2, earlyApp(t, up2))
			for _, framing := range []string{fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body)), fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n", len(body))} {
				c, err := net.Dial("tcp", b.addr)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\n"+framing)
				_, _ = io.WriteString(c, body) // all of it, before it looks at the answer
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(resp.Body)
				if resp.StatusCode != http.StatusRequestEntityTooLarge || string(got) != early || err != nil {
					t.Errorf("got %d %q %v", resp.StatusCode, got, err)
				}
				_ = resp.Body.Close()
				_ = c.Close()
			}
		})
		t.Run(bridgeName(true, up2), func(t *testing.T) {
			b := newBridgeTo(t, up2, earlyApp(t, up2))
			c, err := net.Dial("tcp", b.addr)
			if err != nil {
				t.Fatal(err)
			}
			w := newWire(t, c)
			_, _ = io.WriteString(c, http2.ClientPreface)
			w.do(func(fr *http2.Framer) error { return fr.WriteSettings() })
			for _, id := range []uint32{1, 3, 5} {
				w.ask(id, false, "POST", "/", "content-length", "4194304")
				for range 3 { // three frames of what its windows allow
					w.write(id, false, body[:16<<10])
				}
				w.until(fmt.Sprintf("HEADERS %d end=false :status=413", id))
				w.until(fmt.Sprintf("DATA %d end=true", id))
				w.hears(id, early)
				if line := w.until(fmt.Sprintf("RST_STREAM %d", id)); !strings.HasSuffix(line, "NO_ERROR") {
					t.Errorf("the rest is refused with %s", line) // RFC 9113 section 8.1
				}
			}
		})
	}
}

// TestHTTP10Callers get a reply that they can read: never chunked, and closed
// behind, whatever they say of keep-alive, which is not offered.
func TestHTTP10Callers(t *testing.T) {
	answers := map[string]*family{
		"/length":  {said: said{h1: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", fields: []string{":status", "200", "content-length", "2"}, body: "hi"}},
		"/chunked": {said: said{h1: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-T: 1\r\n\r\n", fields: []string{":status", "200"}, body: "hi", trailers: []string{"x-t", "1"}}},
		"/closed":  {said: said{h1: "HTTP/1.1 200 OK\r\n\r\nhi", eof: true, fields: []string{":status", "200"}, body: "hi"}},
		"/hints":   {said: said{h1: "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", fields: []string{":status", "200"}, body: "hi"}},
	}
	for _, up2 := range []bool{false, true} {
		b := newBridge(t, up2, answers)
		for path := range answers {
			for _, fields := range []string{"", "Host: a\r\n", "Host: a\r\nConnection: keep-alive\r\n", "Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"} {
				t.Run(bridgeName(false, up2)+path+" "+fields, func(t *testing.T) {
					c, err := net.Dial("tcp", b.addr)
					if err != nil {
						t.Fatal(err)
					}
					defer func() { _ = c.Close() }()
					_, _ = fmt.Fprintf(c, "GET %s HTTP/1.0\r\n%s\r\n", path, fields)
					all, err := io.ReadAll(c) // to the end of the connection
					head, body, _ := strings.Cut(string(all), "\r\n\r\n")
					if err != nil || !strings.HasPrefix(head, "HTTP/1.1 200 OK\r\n") || body != "hi" || strings.Contains(head, "chunked") || !strings.Contains(head, "connection: close") {
						t.Errorf("got %q, %v", all, err)
					}
				})
			}
		}
	}
}
