package driver

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/quadnine/quadnine/bench/load/wire"
)

// The windows this client offers: a connection's is opened anew when half of it
// is used, a stream's is enough for any reply here, and is opened anew on the
// long ones.
const (
	connWindow   = 1 << 30
	streamWindow = 1 << 26
)

// conn is one connection and its open streams.
type conn struct {
	*wire.Conn

	run      *run
	next     uint32 // the next stream's id
	inflight int
	limit    int      // streams at once: the plan's, or the peer's if that is fewer
	slots    []stream // by id/2, modulo a power of two
	used     int64    // of this client's connection window
	window   int64    // the peer's, for messages
	initial  int64    // of the peer's new streams
	ready    bool     // the peer's settings are known
	dead     bool
}

// stream is an open exchange.
type stream struct {
	id     uint32 // 0: free
	due    time.Duration
	body   int64 // bytes received
	used   int64 // of this client's stream window
	window int64 // the peer's
	owed   int   // messages that may be sent as soon as the windows allow
	head   bool  // the response's head came
	ok     bool
}

// open connects and sends the preface.
func (r *run) open() (*conn, error) {
	w, err := r.poll.Dial(r.plan.Addr)
	if err != nil {
		return nil, err
	}
	n := 4
	for n < 4*r.plan.Streams {
		n *= 2
	}
	c := &conn{Conn: w, run: r, next: 1, limit: r.plan.Streams, slots: make([]stream, n), window: wire.DefaultWindow, initial: wire.DefaultWindow}
	c.Out = append(c.Out, wire.Preface...)
	c.Out = wire.AppendSettings(c.Out, wire.Setting{ID: wire.EnablePush}, wire.Setting{ID: wire.InitialWindowSize, Value: streamWindow})
	c.Out = wire.AppendWindow(c.Out, 0, connWindow-wire.DefaultWindow)
	if err := c.Flush(); err != nil {
		return nil, err
	}
	return c, nil
}

// slot returns where stream id's state is.
func (c *conn) slot(id uint32) *stream { return &c.slots[int(id>>1)&(len(c.slots)-1)] }

// room reports whether the connection can take one more request.
func (c *conn) room() bool { return !c.dead && c.inflight < c.limit && c.slot(c.next).id == 0 }

// request puts request i, due at that time, into Out.
func (c *conn) request(i int, due time.Duration) {
	s := c.slot(c.next)
	*s = stream{id: c.next, due: due, window: c.initial}
	at := len(c.Out)
	flags := wire.EndHeaders | wire.EndStream
	if c.run.plan.Message > 0 {
		flags = wire.EndHeaders
	}
	c.Out = wire.AppendHeader(c.Out, 0, wire.Headers, flags, c.next)
	c.Out = c.run.blocks.append(c.Out, i, c.next == 1)
	n := len(c.Out) - at - wire.HeaderLen
	c.Out[at], c.Out[at+1], c.Out[at+2] = byte(n>>16), byte(n>>8), byte(n)
	c.next += 2
	c.inflight++
}

// frame acts on what the peer sent.
func (c *conn) frame(f wire.Frame) error {
	switch f.Type {
	case wire.Headers:
		if f.Flags&wire.EndHeaders == 0 {
			return fmt.Errorf("driver: stream %d: a reply's head in more than one frame", f.Stream)
		}
		s := c.slot(f.Stream)
		if s.id != f.Stream {
			return nil
		}
		if !s.head {
			block := f.Bare()
			s.head, s.ok = true, okStatus(block)
			if !s.ok {
				c.run.fail("a reply's head that does not begin with status 200: % x", block[:min(len(block), 16)])
			}
		}
		c.ended(s, f)
	case wire.Data:
		return c.data(f)
	case wire.RSTStream:
		if s := c.slot(f.Stream); s.id == f.Stream {
			c.run.fail("stream reset with error code %d", f.Uint32())
			s.ok = false
			c.over(s)
		}
	case wire.Settings:
		c.settings(f)
	case wire.Ping:
		if f.Flags&wire.Ack == 0 {
			c.Out = append(wire.AppendHeader(c.Out, len(f.Payload), wire.Ping, wire.Ack, 0), f.Payload...)
		}
	case wire.GoAway:
		if len(f.Payload) >= 8 {
			return fmt.Errorf("driver: the proxy ends the connection: GOAWAY with error code %d, %q", binary.BigEndian.Uint32(f.Payload[4:]), f.Payload[8:])
		}
	case wire.WindowUpdate:
		c.opened(f)
	case wire.Continuation: // never: a head in more than one frame is refused above
	}
	return nil
}

// data counts a piece of a body, and opens windows that are half used.
func (c *conn) data(f wire.Frame) error {
	n := int64(len(f.Payload))
	if c.used += n; c.used > connWindow/2 {
		c.Out = wire.AppendWindow(c.Out, 0, uint32(c.used))
		c.used = 0
	}
	s := c.slot(f.Stream)
	if s.id != f.Stream {
		return nil
	}
	if s.used += n; s.used > streamWindow/2 {
		c.Out = wire.AppendWindow(c.Out, f.Stream, uint32(s.used))
		s.used = 0
	}
	body := int64(len(f.Bare()))
	c.run.bytes += body
	if size := int64(c.run.plan.Message); size > 0 {
		whole := (s.body%size + body) / size
		c.run.messages(c, s, int(whole))
	}
	s.body += body
	c.ended(s, f)
	return nil
}

// settings takes over the peer's limits.
func (c *conn) settings(f wire.Frame) {
	if f.Flags&wire.Ack != 0 {
		return
	}
	f.Settings(func(s wire.Setting) {
		switch s.ID {
		case wire.MaxConcurrentStreams:
			c.limit = min(c.run.plan.Streams, int(s.Value))
		case wire.InitialWindowSize:
			for i := range c.slots {
				c.slots[i].window += int64(s.Value) - c.initial
			}
			c.initial = int64(s.Value)
		case wire.HeaderTableSize:
			if s.Value < tableNeeded {
				c.run.fail("the proxy's header table has %d bytes, the driver needs %d", s.Value, tableNeeded)
				c.dead = true
			}
		}
	})
	c.Out = wire.AppendHeader(c.Out, 0, wire.Settings, wire.Ack, 0)
	c.ready = true
}

// ended finishes a stream whose last frame this was.
func (c *conn) ended(s *stream, f wire.Frame) {
	if f.Flags&wire.EndStream == 0 {
		return
	}
	r := c.run
	if s.ok && r.plan.Message == 0 && s.body != int64(r.plan.Body) {
		r.fail("a body of %d bytes, want %d", s.body, r.plan.Body)
		s.ok = false
	}
	if s.ok && r.plan.Message > 0 && !r.closing {
		r.fail("a stream that the other side ended")
		s.ok = false
	}
	if s.ok {
		r.completed(s.due)
	}
	c.over(s)
}

// over forgets a stream.
func (c *conn) over(s *stream) {
	s.id = 0
	c.inflight--
	c.run.inflight--
}
