package h1

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/quadnine/quadnine/proxy/field"
)

// fragments are lines that parsers are known to read differently.
var fragments = strings.Split(strings.ReplaceAll(`Host: a
Host: b
Content-Length: 5
Content-Length: 3
Content-Length: +5
Content-Length : 5
Content-Length: 5, 5
content-length:	5	
Transfer-Encoding: chunked
Transfer-Encoding: Chunked
Transfer-Encoding:chunked
Transfer-Encoding : chunked
Transfer-Encoding: identity
Transfer-Encoding: chunked, identity
Transfer-Encoding:~chunked
 Transfer-Encoding: chunked
X: y~Transfer-Encoding: chunked
Connection: close
Connection: content-length
Connection: transfer-encoding, x
X: 1
X: 2
X :3
X
Expect: 100-continue
TE: trailers
Trailer: x
Upgrade: h2c`, "~", "\n"), "\n")

var startLines = []string{
	"GET / HTTP/1.1", "POST / HTTP/1.1", "POST /x?y HTTP/1.1", "HEAD / HTTP/1.1", "POST http://a/x HTTP/1.1", "POST / HTTP/1.0",
	"POST  / HTTP/1.1", "OPTIONS * HTTP/1.1", "POST http://b HTTP/1.1",
}

var bodies = []string{
	"", "hello", "hel", "5\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\nX: 1\r\n\r\n", "5;x\r\nhello\r\n00\r\n\r\n", "0\r\n\r\n",
	"5\nhello\n0\n\n", "05\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n", "5 \r\nhello\r\n0\r\n\r\n", "5\r\nhello0\r\n\r\n",
}

func randomMessage(rnd *rand.Rand) []byte {
	end := func() string {
		if rnd.IntN(40) == 0 {
			return []string{"\n", "\r", "\r\r\n", "\n\r\n"}[rnd.IntN(4)]
		}
		return "\r\n"
	}
	var b bytes.Buffer
	b.WriteString(startLines[rnd.IntN(len(startLines))] + end())
	if rnd.IntN(8) > 0 {
		b.WriteString("Host: a" + end())
	}
	for range rnd.IntN(4) {
		b.WriteString(fragments[rnd.IntN(len(fragments))] + end())
	}
	b.WriteString(end() + bodies[rnd.IntN(len(bodies))] + get)
	return b.Bytes()
}

func TestRandomRequestsMeanTheSameToNetHTTP(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	accepted := 0
	for range 20_000 {
		raw := randomMessage(rnd)
		checkRequest(t, raw)
		whole, pieces := serverEvents(raw, len(raw)), serverEvents(raw, 1+rnd.IntN(9))
		if whole != pieces {
			t.Fatalf("%q in pieces:\n%s\nat once:\n%s", raw, pieces, whole)
		}
		if !strings.Contains(whole, "error") {
			accepted++
		}
	}
	if accepted < 1000 {
		t.Fatalf("only %d messages were accepted: the test says little", accepted)
	}
}

// wild is an owner that does anything at any time, and checks what it is told.
type wild struct {
	t     *testing.T
	rnd   *rand.Rand
	c     *Conn
	s     *Stream // nil when released
	reset bool
	depth int
	ops   int
}

func (w *wild) event(s *Stream, what string) {
	if s != w.s || w.reset {
		w.t.Fatalf("%s for a stream that is released (%v) or reset (%v)", what, w.s == nil, w.reset)
	}
	w.act()
}

func (w *wild) OnHead(s *Stream, head *field.List, _ bool) {
	if w.c.server || w.s == nil {
		if w.s != nil {
			w.t.Fatal("a second request before the first was released")
		}
		w.s, w.reset = s, false
	}
	if head.Len() == 0 {
		w.t.Fatal("empty head")
	}
	w.event(s, "OnHead")
}
func (w *wild) OnData(s *Stream, _ []byte, _ bool)  { w.event(s, "OnData") }
func (w *wild) OnTrailers(s *Stream, _ *field.List) { w.event(s, "OnTrailers") }
func (w *wild) OnReset(s *Stream, _ error)          { w.event(s, "OnReset"); w.reset = true }
func (w *wild) OnSent(s *Stream, _ int)             { w.event(s, "OnSent") }
func (w *wild) OnOutput(*Conn)                      {}
func (w *wild) OnIdle(c *Conn) {
	if w.s != nil || c.Closing() {
		w.t.Fatal("OnIdle before Release, or of a connection that closes")
	}
	w.open()
}

func (w *wild) open() {
	if w.c.CanOpen() {
		w.s, _ = w.c.OpenStream(w)
		w.reset = false
	}
}

// act does a few things to the stream.
func (w *wild) act() {
	if w.depth > 3 {
		return
	}
	w.depth++
	defer func() { w.depth-- }()
	for range w.rnd.IntN(3) {
		w.ops++
		if w.s == nil {
			return
		}
		s, end := w.s, w.rnd.IntN(2) == 0
		switch w.rnd.IntN(24) {
		case 0, 1, 2, 3, 4, 5:
			head := fields(":status", "200", ":method", "POST", ":path", "/", ":authority", "a")
			if w.rnd.IntN(3) == 0 {
				head.Add("content-length", "100")
			}
			s.WriteHead(head, end && w.rnd.IntN(2) == 0)
		case 6, 7, 8, 9, 10, 11:
			s.WriteData(make([]byte, w.rnd.IntN(300)), end)
		case 12:
			s.WriteTrailers(fields("x", "1"))
		case 13, 14, 15, 16:
			s.Consume(w.rnd.IntN(200))
		case 17:
			s.Reset(Cancel)
		case 18:
			w.c.Shutdown(end && w.rnd.IntN(3) == 0)
		default:
			if w.rnd.IntN(3) == 0 || s.WriteEnded() {
				w.s = nil
				s.Release()
			}
		}
		if n := s.Buffered(); n < 0 {
			w.t.Fatalf("Buffered %d", n)
		}
	}
}

func TestRandomOwners(t *testing.T) {
	ops := 0
	for seed := range uint64(4000) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		w := &wild{t: t, rnd: rnd}
		cfg := Config{OutputLimit: 200 + rnd.IntN(300), BodyWindow: 100}
		input := bytes.Repeat([]byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"+get), 20)
		if seed%2 == 0 {
			w.c = NewServer(cfg, w)
		} else {
			w.c = NewClient(cfg, w)
			input = bytes.Repeat([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), 20)
		}
		var taken []byte
		for range 200 {
			w.open()
			w.act()
			switch n := min(len(input), rnd.IntN(100)); {
			case rnd.IntN(200) == 0:
				w.c.FeedEOF()
			case w.c.Reading() && rnd.IntN(2) == 0:
				if w.c.Feed(0, bytes.Clone(input[:n])) == nil {
					input = input[n:]
				}
			default:
				taken = append(taken, w.c.TakeOutput(nil)...)
				w.c.Backlog(rnd.IntN(2) * rnd.IntN(400))
			}
			if w.c.Active() == 1 && w.c.Aborted() {
				t.Fatalf("seed %d: a stream is open on an aborted connection", seed)
			}
			if w.c.Active() == 0 && w.s == nil && !w.c.server && !w.c.Closing() && !w.c.CanOpen() && !w.c.shut {
				t.Fatalf("seed %d: a connection without a stream can neither open one nor close", seed)
			}
		}
		if w.c.Aborted() && !w.c.Closing() {
			t.Fatalf("seed %d: aborted and not closing", seed)
		}
		taken = append(taken, w.c.TakeOutput(nil)...)
		checkWritten(t, seed, taken, w.c)
		ops += w.ops
	}
	if ops < 100_000 {
		t.Fatalf("only %d operations", ops)
	}
}

// checkWritten reads a random owner's output with an engine of the other role:
// it must be well formed as far as it goes.
func checkWritten(t *testing.T, seed uint64, out []byte, c *Conn) {
	t.Helper()
	if c.err != nil {
		return
	}
	if c.server {
		for len(out) > 0 {
			p, r, _ := newClient(t, Config{}, "POST")
			before := len(out)
			err := p.Feed(0, out)
			if err != nil {
				t.Fatalf("seed %d: server wrote what its client refuses: %v\n%.300q", seed, err, out)
			}
			if r.idle == 0 && !p.Closing() {
				return
			}
			i := bytes.Index(out[1:], []byte("HTTP/1.1 ")) // the next response
			if i < 0 {
				return
			}
			if out = out[i+1:]; len(out) >= before {
				t.Fatal("no progress")
			}
		}
		return
	}
	p, _ := newServer(Config{BodyWindow: 1 << 30})
	if err := p.Feed(0, out); err != nil {
		t.Fatalf("seed %d: client wrote what its server refuses: %v\n%.300q", seed, err, out)
	}
}
