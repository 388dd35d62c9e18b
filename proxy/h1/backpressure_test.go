package h1

import (
	"bytes"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/quadnine/quadnine/proxy/field"
)

func TestReadingStopsUntilTheBodyIsConsumed(t *testing.T) {
	r := &recorder{}
	c := NewServer(Config{BodyWindow: 100}, r)
	feed(t, c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"+strings.Repeat("x", 100))
	if !c.Reading() {
		t.Fatal("Reading is false at the window's edge")
	}
	take(c)
	feed(t, c, "x")
	if c.Reading() || r.outputs != 1 {
		t.Fatalf("Reading %v past the window, driver told %d times", c.Reading(), r.outputs)
	}
	take(c)
	r.s.Consume(50)
	if c.Reading() {
		t.Fatal("Reading is true with 51 of 100 bytes waiting")
	}
	r.s.Consume(1)
	if !c.Reading() || r.outputs != 2 {
		t.Fatalf("Reading %v at half the window, driver told %d times", c.Reading(), r.outputs)
	}
}

// pipe moves bytes between two connections in random pieces and kernel buffers.
type pipe struct {
	t    *testing.T
	rnd  *rand.Rand
	a, b *Conn
	ab   []byte
	ba   []byte
	peak int
}

func (p *pipe) move(from, to *Conn, q *[]byte) bool {
	out := from.TakeOutput(nil)
	p.peak = max(p.peak, len(out))
	*q = append(*q, out...)
	from.Backlog(len(*q))
	if len(*q) == 0 || !to.Reading() {
		return len(out) > 0
	}
	n := 1 + p.rnd.IntN(min(len(*q), 1<<p.rnd.IntN(16)))
	piece := bytes.Clone((*q)[:n])
	*q = (*q)[n:]
	from.Backlog(len(*q))
	if err := to.Feed(0, piece); err != nil {
		p.t.Fatal(err)
	}
	clear(piece) // nobody may have kept it
	return true
}

func (p *pipe) run() {
	for idle := 0; idle < 3; idle++ {
		if p.move(p.a, p.b, &p.ab) {
			idle = 0
		}
		if p.move(p.b, p.a, &p.ba) {
			idle = 0
		}
	}
}

// writer writes a body in random pieces, keeping at most 8 KiB in the stream.
type writer struct {
	rest   []byte
	trail  *field.List
	rnd    *rand.Rand
	unsent int
}

func (w *writer) write(s *Stream) {
	for !s.WriteEnded() && s.Buffered() < 8<<10 {
		n := min(len(w.rest), w.rnd.IntN(5000))
		end := n == len(w.rest)
		w.unsent += n - s.WriteData(w.rest[:n], end && w.trail == nil)
		w.rest = w.rest[n:]
		if end && w.trail != nil {
			s.WriteTrailers(w.trail)
		}
	}
}

func testRoundTrip(t *testing.T, seed uint64, size int, cfg Config, chunked bool) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 1))
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(rnd.Uint32())
	}
	var trail *field.List
	if chunked {
		trail = fields("x-sum", "1")
	}
	head := func(kv ...string) *field.List {
		if !chunked {
			kv = append(kv, "content-length", strconv.Itoa(size))
		}
		return fields(kv...)
	}
	// The server echoes each piece and consumes it when it is in the output.
	var out writer
	srv := &recorder{}
	srv.onHead = func(s *Stream, _ *field.List, _ bool) { s.WriteHead(head(":status", "200"), false) }
	finish := func(s *Stream) {
		if s.ReadEnded() && s.WriteEnded() && s.Buffered() == 0 {
			s.Release()
		}
	}
	srv.onData = func(s *Stream, p []byte, end bool) {
		n := s.WriteData(p, end)
		s.Consume(n)
		srv.body = nil
		out.unsent += len(p) - n
		finish(s)
	}
	srv.onSent = func(s *Stream, n int) { out.unsent -= n; s.Consume(n); finish(s) }
	srv.onEnd = func(s *Stream) {
		if !s.WriteEnded() { // ended by trailers
			s.WriteTrailers(trail)
			finish(s)
		}
	}
	cl := &recorder{onEnd: func(s *Stream) { s.Release() }}
	in := &writer{rest: body, trail: trail, rnd: rnd}
	var got []byte
	cl.onData = func(s *Stream, p []byte, _ bool) { cl.body = nil; got = append(got, p...); s.Consume(len(p)) }
	cl.onSent = func(s *Stream, n int) { in.unsent -= n; in.write(s) }
	p := &pipe{t: t, rnd: rnd, a: NewClient(cfg, cl), b: NewServer(cfg, srv)}
	for range 2 { // the second time on the same connections
		in.rest = body
		got = got[:0]
		s, err := p.a.OpenStream(nil)
		if err != nil {
			t.Fatal(err)
		}
		s.WriteHead(head(":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/"), false)
		in.write(s)
		idle := cl.idle
		for range 1 << 16 {
			if p.run(); cl.idle > idle {
				break
			}
		}
		switch {
		case cl.idle == idle:
			t.Fatalf("seed %d: the exchange did not end, %d of %d bytes came back", seed, len(got), size)
		case !bytes.Equal(got, body):
			t.Fatalf("seed %d: echo of %d bytes differs", seed, size)
		case chunked && cl.log[len(cl.log)-2] != `trailers x-sum="1"`:
			t.Fatalf("seed %d: ended with %q", seed, cl.log[len(cl.log)-2])
		}
		if in.unsent != 0 || out.unsent != 0 {
			t.Fatalf("seed %d: OnSent leaves %d and %d bytes untold", seed, in.unsent, out.unsent)
		}
	}
	if limit := cfg.withDefaults().OutputLimit + 1<<10; p.peak > limit {
		t.Fatalf("seed %d: %d bytes of output at once, limit %d", seed, p.peak, limit)
	}
}

func TestRoundTrip(t *testing.T) {
	for seed := range uint64(60) {
		small := Config{OutputLimit: 300 + int(seed)*50, BodyWindow: 200 + int(seed)*70}
		testRoundTrip(t, seed, int(seed*seed)*11+1, small, seed%2 == 0)
		testRoundTrip(t, seed, int(seed)*97+1, Config{}, seed%3 == 0)
	}
}

func TestLargeBodyWithSmallBuffers(t *testing.T) {
	cfg := Config{OutputLimit: 16 << 10, BodyWindow: 16 << 10}
	testRoundTrip(t, 1, 10<<20, cfg, true)
	testRoundTrip(t, 2, 10<<20, cfg, false)
}

func TestDataNeverOvertakesWhatWaits(t *testing.T) {
	r := &recorder{}
	c := NewServer(Config{OutputLimit: 60}, r)
	feed(t, c, get)
	r.s.WriteHead(fields(":status", "200", "content-length", "100"), false)
	sent := r.s.WriteData(bytes.Repeat([]byte("a"), 60), false)
	if sent >= 60 || r.s.Buffered() != 60-sent {
		t.Fatalf("sent %d, Buffered %d", sent, r.s.Buffered())
	}
	out := c.TakeOutput(nil) // there is room now, but no Backlog told the stream
	if n := r.s.WriteData(bytes.Repeat([]byte("b"), 40), true); n != 0 || r.s.Buffered() != 101-sent {
		t.Fatalf("sent %d, Buffered %d", n, r.s.Buffered())
	}
	for r.s.Buffered() > 0 {
		c.Backlog(0)
		out = append(out, c.TakeOutput(nil)...)
	}
	if !strings.HasSuffix(string(out), strings.Repeat("a", 60)+strings.Repeat("b", 40)) {
		t.Fatalf("output %q", out)
	}
}

// TestReadingAgainIsToldWhileOutputWaits: the driver takes no more output while
// the peer reads nothing, and the peer may read nothing until it is read from.
func TestReadingAgainIsToldWhileOutputWaits(t *testing.T) {
	c, r := tunneled(t, Config{BodyWindow: 10}, "")
	r.s.WriteData([]byte("waits"), false)
	feed(t, c, "more than the window")
	told := r.outputs
	r.s.Consume(20)
	if !c.Reading() || r.outputs == told {
		t.Errorf("reading %v, told %d times", c.Reading(), r.outputs-told)
	}
}
