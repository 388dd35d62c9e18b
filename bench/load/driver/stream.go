package driver

import (
	"github.com/quadnine/quadnine/bench/load/wire"
)

// streams opens every long stream with its first messages owed.
func (r *run) streams() {
	for _, c := range r.conns {
		for range min(r.plan.Streams, c.limit) {
			c.request(0, r.now())
			r.inflight++
		}
	}
}

// start gives every stream its messages to send.
func (r *run) start() {
	for _, c := range r.conns {
		for i := range c.slots {
			if s := &c.slots[i]; s.id != 0 {
				s.owed, s.due = r.plan.Outstanding, r.now()
				r.owing += r.plan.Outstanding
				c.send(s)
			}
		}
	}
}

// messages takes n messages that came back and sends as many anew, while the
// run goes on.
func (r *run) messages(c *conn, s *stream, n int) {
	if n == 0 {
		return
	}
	for range n {
		r.completed(s.due)
	}
	r.owing -= n
	if r.stopped {
		return
	}
	s.due = r.now()
	s.owed += n
	r.owing += n
	c.send(s)
}

// send sends what is owed on s as far as the peer's windows allow. A message
// waits for room for the whole of it: it is one DATA frame.
func (c *conn) send(s *stream) {
	size := int64(c.run.plan.Message)
	for s.owed > 0 && s.window >= size && c.window >= size {
		c.Out = wire.AppendHeader(c.Out, int(size), wire.Data, 0, s.id)
		c.Out = append(c.Out, c.run.message...)
		s.window -= size
		c.window -= size
		s.owed--
	}
}

// opened takes in a WINDOW_UPDATE and sends what waited for it.
func (c *conn) opened(f wire.Frame) {
	grow := int64(f.Uint32())
	if f.Stream == 0 {
		c.window += grow
		for i := range c.slots {
			if s := &c.slots[i]; s.id != 0 {
				c.send(s)
			}
		}
		return
	}
	if s := c.slot(f.Stream); s.id == f.Stream {
		s.window += grow
		c.send(s)
	}
}

// finish ends every long stream.
func (r *run) finish() {
	r.closing = true
	for _, c := range r.conns {
		for i := range c.slots {
			if s := &c.slots[i]; s.id != 0 {
				c.Out = wire.AppendHeader(c.Out, 0, wire.Data, wire.EndStream, s.id)
			}
		}
	}
}
