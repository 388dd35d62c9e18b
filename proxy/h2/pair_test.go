package h2

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/quadnine/quadnine/proxy/field"
)

// pair is a client and a server Conn wired back to back in memory.
type pair struct {
	client, server *Conn
	chunk          func(n int) int // how much of n bytes to hand over at once
	now            int64
}

// move carries bytes both ways until there are none, and reports whether it
// carried any.
func (p *pair) move(t interface{ Fatalf(string, ...any) }) bool {
	moved := false
	for again := true; again; {
		again = false
		for _, way := range [][2]*Conn{{p.client, p.server}, {p.server, p.client}} {
			out := way[0].TakeOutput(nil)
			way[0].Backlog(len(out))
			for len(out) > 0 {
				n := p.chunk(len(out))
				p.now += 1e6
				if err := way[1].Feed(p.now, bytes.Clone(out[:n])); err != nil {
					t.Fatalf("feed: %v", err)
				}
				out = out[n:]
				way[0].Backlog(len(out))
				again, moved = true, true
			}
			way[0].Backlog(0)
		}
	}
	return moved
}

func whole(n int) int { return n }

// echo is a server's handler: it sends back each body and closes with trailers
// that tell its length. It consumes only what it could pass on.
type echo struct{ head field.List }

type echoing struct{ owed, size int }

func (e *echo) OnHead(s *Stream, _ *field.List, end bool) {
	s.Owner = &echoing{}
	e.head.Reset()
	e.head.Add(":status", "200")
	s.WriteHead(&e.head, end)
	if end {
		s.Release()
	}
}

func (e *echo) OnData(s *Stream, p []byte, end bool) {
	o := s.Owner.(*echoing)
	o.size += len(p)
	o.owed += len(p)
	e.OnSent(s, s.WriteData(p, false))
	if end {
		e.finish(s)
	}
}

func (e *echo) finish(s *Stream) {
	e.head.Reset()
	e.head.AddInt("x-size", int64(s.Owner.(*echoing).size))
	s.WriteTrailers(&e.head)
	s.Release()
}

func (e *echo) OnSent(s *Stream, n int) {
	if o, ok := s.Owner.(*echoing); ok {
		o.owed -= n
		s.Consume(n)
	}
}

func (e *echo) OnTrailers(s *Stream, _ *field.List) { e.finish(s) }
func (e *echo) OnReset(s *Stream, _ error)          { s.Release() }
func (e *echo) OnOutput(*Conn)                      {}
func (e *echo) OnSettings(*Conn)                    {}
func (e *echo) OnGoAway(*Conn)                      {}

// upload is a client's exchange: it sends size bytes and compares the echo.
type upload struct {
	want, got  []byte
	written    int
	trailers   bool // end with trailers
	stopAt     int  // reset once so many bytes came back; -1: never
	size       string
	done, lost bool
}

type uploader struct {
	t    *rapid.T
	head field.List
}

func (u *uploader) OnHead(s *Stream, head *field.List, end bool) {
	if string(head.Get(":status")) != "200" {
		u.t.Fatalf("status %q", head.Get(":status"))
	}
	if end {
		u.over(s)
	}
}

func (u *uploader) OnData(s *Stream, p []byte, end bool) {
	x := s.Owner.(*upload)
	x.got = append(x.got, p...)
	s.Consume(len(p))
	if x.stopAt >= 0 && len(x.got) >= x.stopAt {
		x.lost = true
		s.Reset(uint32(Cancel))
		u.over(s)
		return
	}
	if end {
		u.over(s)
	}
}

func (u *uploader) OnTrailers(s *Stream, t *field.List) {
	s.Owner.(*upload).size = string(t.Get("x-size"))
	u.over(s)
}

func (u *uploader) over(s *Stream) {
	s.Owner.(*upload).done = true
	s.Release()
}

func (u *uploader) OnReset(s *Stream, err error) { u.t.Fatalf("reset: %v", err) }
func (u *uploader) OnSent(*Stream, int)          {}
func (u *uploader) OnOutput(*Conn)               {}
func (u *uploader) OnSettings(*Conn)             {}
func (u *uploader) OnGoAway(*Conn)               {}

func drawConfig(t *rapid.T, name string) Config {
	c := DefaultConfig()
	c.StreamWindow = rapid.Uint32Range(1, 100_000).Draw(t, name+" window")
	c.ConnWindow = rapid.Uint32Range(0, 200_000).Draw(t, name+" connection window")
	c.OutputLimit = rapid.IntRange(1, 50_000).Draw(t, name+" output limit")
	c.HeaderTableSize = rapid.Uint32Range(0, 8192).Draw(t, name+" table")
	c.FloodBurst = 1 << 30 // windows of one byte make many frames
	return c
}

// TestEcho sends bodies both ways through windows, output limits and chunks of
// every size, and expects every byte, every trailer, and all windows back.
func TestEcho(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u := &uploader{t: t}
		chunk := rapid.IntRange(1, 40_000).Draw(t, "chunk")
		p := &pair{
			client: NewClient(drawConfig(t, "client"), u), server: NewServer(drawConfig(t, "server"), &echo{}),
			chunk: func(n int) int { return min(n, chunk) },
		}
		count := rapid.IntRange(1, 12).Draw(t, "streams")
		early := rapid.Bool().Draw(t, "before settings")
		if !early {
			p.move(t)
		}
		streams := make([]*Stream, count)
		uploads := make([]*upload, count)
		for i := range uploads {
			x := &upload{
				want:     bytes.Repeat([]byte{byte(i + 1)}, rapid.IntRange(0, 30_000).Draw(t, "size")),
				trailers: rapid.Bool().Draw(t, "trailers"), stopAt: -1,
			}
			if rapid.IntRange(0, 4).Draw(t, "stop") == 0 {
				x.stopAt = rapid.IntRange(1, 20_000).Draw(t, "stop at")
			}
			s, err := p.client.OpenStream(x)
			if err != nil {
				t.Fatal(err)
			}
			u.head.Reset()
			u.head.Add(":method", "POST")
			u.head.Add(":scheme", "http")
			u.head.Add(":authority", "a.test")
			u.head.Add(":path", "/echo")
			s.WriteHead(&u.head, false)
			streams[i], uploads[i] = s, x
		}
		for busy := true; busy; {
			busy = false
			for i, x := range uploads {
				if x.done || streams[i].WriteEnded() {
					continue
				}
				busy = true
				n := min(len(x.want)-x.written, rapid.IntRange(1, 20_000).Draw(t, "write"))
				piece := x.want[x.written : x.written+n]
				x.written += n
				last := x.written == len(x.want)
				streams[i].WriteData(piece, last && !x.trailers)
				if last && x.trailers {
					u.head.Reset()
					u.head.Add("x-end", "yes")
					streams[i].WriteTrailers(&u.head)
				}
			}
			p.move(t)
		}
		for i, x := range uploads {
			switch {
			case !x.done:
				t.Fatalf("upload %d of %d bytes is not done: %d came back", i, len(x.want), len(x.got))
			case !x.lost && (!bytes.Equal(x.got, x.want) || x.size == ""):
				t.Fatalf("upload %d of %d bytes: %d came back, x-size %q", i, len(x.want), len(x.got), x.size)
			}
		}
		for _, c := range []*Conn{p.client, p.server} {
			if c.Active() != 0 || c.streams.n != 0 || c.open.first != nil || c.ready.first != nil || c.dead != nil {
				t.Fatalf("left behind: %d active, %d streams", c.Active(), c.streams.n)
			}
			if c.recvWindow+c.recvCredit != int64(c.cfg.ConnWindow) {
				t.Fatalf("window %d and credit %d do not make %d", c.recvWindow, c.recvCredit, c.cfg.ConnWindow)
			}
		}
	})
}

// exchanger is the benchmark's handler of both ends.
type exchanger struct {
	reply   field.List
	payload []byte
	ends    int
}

func (x *exchanger) OnHead(s *Stream, _ *field.List, end bool) {
	if end {
		s.WriteHead(&x.reply, false)
		s.WriteData(x.payload, true)
		s.Release()
	}
}

func (x *exchanger) OnData(s *Stream, p []byte, end bool) {
	s.Consume(len(p))
	if end {
		x.ends++
		s.Release()
	}
}

func (x *exchanger) OnTrailers(*Stream, *field.List) {}
func (x *exchanger) OnReset(s *Stream, _ error)      { s.Release() }
func (x *exchanger) OnSent(*Stream, int)             {}
func (x *exchanger) OnOutput(*Conn)                  {}
func (x *exchanger) OnSettings(*Conn)                {}
func (x *exchanger) OnGoAway(*Conn)                  {}

// exchange is a pair that can do one request and response after the other.
func newExchange() (run func(), ends func() int) {
	serve, ask := &exchanger{payload: make([]byte, 200)}, &exchanger{}
	serve.reply.Add(":status", "200")
	serve.reply.Add("content-type", "application/json")
	serve.reply.Add("content-length", "200")
	serve.reply.Add("x-model-version", "ranker@7")
	client, server := NewClient(DefaultConfig(), ask), NewServer(DefaultConfig(), serve)
	var head field.List
	head.Add(":method", "GET")
	head.Add(":scheme", "http")
	head.Add(":authority", "stats.test:8080")
	head.Add(":path", "/api/v2/metrics/query?metric=pv")
	head.Add("x-tenant-id", "tenant-7")
	head.Add("accept", "application/json")
	head.Add("user-agent", "bench/1")
	var toServer, toClient []byte
	return func() {
		if s, err := client.OpenStream(nil); err == nil {
			s.WriteHead(&head, true)
		}
		toServer = client.TakeOutput(toServer)
		client.Backlog(0)
		_ = server.Feed(0, toServer)
		toClient = server.TakeOutput(toClient)
		server.Backlog(0)
		_ = client.Feed(0, toClient)
	}, func() int { return ask.ends }
}

// TestExchangeAllocs holds the shape to what it promises: a repeated exchange
// allocates nothing.
func TestExchangeAllocs(t *testing.T) {
	run, ends := newExchange()
	if n := testing.AllocsPerRun(200, run); n > 0 {
		t.Errorf("%v allocations an exchange", n)
	}
	if ends() != 201 {
		t.Errorf("%d exchanges ended", ends())
	}
}

func BenchmarkExchange(b *testing.B) {
	run, _ := newExchange()
	b.ReportAllocs()
	for b.Loop() {
		run()
	}
}

// TestReentry opens streams, writes and releases from inside callbacks.
func TestReentry(t *testing.T) {
	const total = 300
	ask := &chain{left: total}
	p := &pair{server: NewServer(DefaultConfig(), &echo{}), chunk: whole}
	p.client = NewClient(DefaultConfig(), ask)
	ask.next(p.client)
	for p.move(t) {
		continue
	}
	if ask.done != total || p.client.Active() != 0 || p.server.Active() != 0 {
		t.Errorf("%d of %d exchanges; %d and %d active", ask.done, total, p.client.Active(), p.server.Active())
	}
	n := 0
	for s := p.client.free; s != nil; s = s.next {
		n++
	}
	if n > 4 {
		t.Errorf("%d Streams were made for one at a time", n)
	}
}

// chain starts the next exchange from inside the end of the previous one.
type chain struct {
	echo
	left, done int
}

func (h *chain) next(c *Conn) {
	if h.left == 0 {
		return
	}
	h.left--
	s, err := c.OpenStream(nil)
	if err != nil {
		return
	}
	h.head.Reset()
	h.head.Add(":method", "POST")
	h.head.Add(":scheme", "http")
	h.head.Add(":authority", "a.test")
	h.head.Add(":path", "/")
	s.WriteHead(&h.head, false)
	s.WriteData([]byte("hello"), true)
}

func (h *chain) OnHead(*Stream, *field.List, bool) {}
func (h *chain) OnData(s *Stream, p []byte, _ bool) {
	s.Consume(len(p))
}

func (h *chain) OnTrailers(s *Stream, _ *field.List) {
	h.done++
	c := s.Conn()
	s.Release()
	h.next(c)
}
