package h1

import (
	"bytes"
	"strings"
	"testing"
)

const askUpgrade = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

// tunneled returns a server connection that has changed to websocket.
func tunneled(t *testing.T, cfg Config, early string) (*Conn, *recorder) {
	t.Helper()
	r := &recorder{}
	c := NewServer(cfg, r)
	feed(t, c, askUpgrade+early)
	r.s.WriteHead(fields(":status", "101", "upgrade", "websocket", "sec-websocket-accept", "x"), false)
	wantText(t, "output", take(c), "HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
	return c, r
}

// dialed returns a client connection whose request asked for websocket.
func dialed(t *testing.T) (*Conn, *recorder, *Stream) {
	t.Helper()
	r := &recorder{}
	c := NewClient(Config{}, r)
	s, err := c.OpenStream(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Upgrade = "websocket"
	s.WriteHead(fields(":method", "GET", ":authority", "a", ":path", "/chat", "upgrade", "ignored"), true)
	wantText(t, "output", take(c), "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
	return c, r, s
}

func TestTunnelCarriesBytesBothWays(t *testing.T) {
	c, r := tunneled(t, Config{}, "early ")
	feed(t, c, "GET / HTTP/1.1\r\n\r\n\x00\xff")
	r.s.WriteData([]byte("HTTP/1.1 200 OK\r\n\r\n"), false)
	wantText(t, "output", take(c), "HTTP/1.1 200 OK\r\n\r\n")
	if c.Active() != 1 || c.Closing() {
		t.Errorf("active %d, closing %v", c.Active(), c.Closing())
	}
	c.Shutdown(true) // a tunnel lives until somebody ends it
	if c.Closing() {
		t.Error("a drain ended the tunnel")
	}
	r.s.WriteData([]byte("last"), true)
	if got := take(c); got != "last" || !c.Closing() || c.Aborted() {
		t.Errorf("output %q, closing %v, aborted %v", got, c.Closing(), c.Aborted())
	}
	r.s.Release()
	c.FeedEOF()
	wantText(t, "events", r.text(), `head upgrade=websocket :method="GET" :scheme="http" :authority="a" :path="/chat" end=true
data "early GET / HTTP/1.1\r\n\r\n\x00\xff"`)
}

func TestTunnelEndsWithTheCaller(t *testing.T) {
	c, r := tunneled(t, Config{}, "")
	feed(t, c, "bye")
	c.FeedEOF()
	if sent := r.s.WriteData([]byte("too late"), false); sent != 8 {
		t.Errorf("%d of what nobody reads was sent", sent)
	}
	if r.s.Buffered() != 0 || !c.Closing() || c.Aborted() {
		t.Errorf("buffered %d, closing %v, aborted %v", r.s.Buffered(), c.Closing(), c.Aborted())
	}
	r.s.Release()
	if got := r.text(); !strings.HasSuffix(got, "data \"bye\"\nend") {
		t.Errorf("events:\n%s", got)
	}
}

func TestTunnelGivenUpIsAborted(t *testing.T) {
	c, r := tunneled(t, Config{}, "")
	r.s.Release()
	if !c.Aborted() || !c.Closing() {
		t.Errorf("closing %v, aborted %v", c.Closing(), c.Aborted())
	}
}

func TestTunnelIsUnderBackpressure(t *testing.T) {
	c, r := tunneled(t, Config{BodyWindow: 10, OutputLimit: 1000}, "")
	feed(t, c, strings.Repeat("x", 11))
	if c.Reading() {
		t.Error("it reads on although nothing was consumed")
	}
	r.s.Consume(11)
	if !c.Reading() {
		t.Error("it does not read although all was consumed")
	}
	sent := 0
	r.onSent = func(_ *Stream, n int) { sent += n }
	n := r.s.WriteData(bytes.Repeat([]byte("y"), 3000), true)
	if n != 1000 || r.s.Buffered() != 2001 || c.Closing() {
		t.Fatalf("sent %d, buffered %d, closing %v", n, r.s.Buffered(), c.Closing())
	}
	got := 0
	for !c.Closing() {
		got += len(take(c))
	}
	got += len(take(c))
	if got != 3000 || sent != 2000 {
		t.Errorf("%d bytes in the output, %d told of", got, sent)
	}
}

func TestUpgradeThatIsNotTakenUp(t *testing.T) {
	r := &recorder{}
	c := NewServer(Config{}, r)
	feed(t, c, askUpgrade+"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
	r.s.WriteHead(fields(":status", "200", "content-length", "0"), true)
	r.s.Release()
	wantText(t, "output", take(c), "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
	if !strings.Contains(r.text(), `:path="/next"`) {
		t.Errorf("the next request was not read:\n%s", r.text())
	}
}

func Test101ThatCannotBe(t *testing.T) {
	for name, tc := range map[string]struct{ request, status string }{
		"no upgrade":  {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "websocket"},
		"in the body": {"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\n", "websocket"},
		"no protocol": {askUpgrade, ""},
		"two lines":   {askUpgrade, "a\r\nb: c"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &recorder{}
			c := NewServer(Config{}, r)
			feed(t, c, tc.request)
			r.s.WriteHead(fields(":status", "101", "upgrade", tc.status), false)
			if out := take(c); out != "" || r.err == nil || !c.Aborted() {
				t.Errorf("output %q, error %v", out, r.err)
			}
		})
	}
}

func TestClientTunnel(t *testing.T) {
	c, r, s := dialed(t)
	feed(t, c, "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nContent-Length: 3\r\nx: y\r\n\r\nHTTP/1.1 ")
	s.WriteData([]byte("hello"), false)
	wantText(t, "output", take(c), "hello")
	feed(t, c, "more")
	c.FeedEOF()
	s.WriteData([]byte("too late"), true)
	s.Release()
	wantText(t, "events", r.text(), `head upgrade=websocket :status="103" link="x" end=false
head upgrade=websocket :status="101" x="y" upgrade="WebSocket" end=false
data "HTTP/1.1 more"
end`)
	if c.Aborted() || r.idle != 0 {
		t.Errorf("aborted %v, idle %d times", c.Aborted(), r.idle)
	}
}

func TestClientIsNotTunneledByAnyAnswer(t *testing.T) {
	for name, answer := range map[string]string{
		"no connection option": "Upgrade: websocket\r\n",
		"no protocol":          "Connection: upgrade\r\n",
		"another protocol":     "Connection: upgrade\r\nUpgrade: h2c\r\n",
		"chunked":              "Connection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c, r, _ := dialed(t)
			if err := c.Feed(0, []byte("HTTP/1.1 101 x\r\n"+answer+"\r\n")); err == nil || r.err == nil {
				t.Errorf("taken:\n%s", r.text())
			}
		})
	}
	c, r, s := dialed(t)
	feed(t, c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	s.Release()
	if r.idle != 1 || c.Closing() {
		t.Errorf("after an ordinary answer: idle %d times, closing %v", r.idle, c.Closing())
	}
	if next := request(t, c, "GET"); next.Upgrade != "" {
		t.Errorf("the next request asks for %q", next.Upgrade)
	}
}
