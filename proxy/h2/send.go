package h2

import (
	"slices"

	"github.com/quadnine/quadnine/internal/bufpool"
	"github.com/quadnine/quadnine/proxy/field"
)

// WriteHead sends a message's head: the response's (server role; interim heads
// may precede the final one), or the request's (client role). Pseudo-header
// fields come first. Connection-specific fields are left out, and host where
// there is :authority.
func (s *Stream) WriteHead(head *field.List, end bool) {
	c := s.conn
	if s.closed || s.headDone {
		return
	}
	c.enter()
	if c.server {
		c.writeResponse(s, head, end)
	} else {
		c.writeRequest(s, head, end)
	}
	c.leave()
}

func (c *Conn) writeResponse(s *Stream, head *field.List, end bool) {
	status := statusOf(head)
	switch {
	case status == 0:
		c.abort(s, InternalError, "the response's head has no valid :status")
		return
	case status < 200 && !end:
		c.writeBlock(s.id, head, false)
		return
	}
	s.headDone = true
	s.noBody = s.isHead || bodiless(status)
	s.writeEnded = end
	s.sentEnd = end
	c.writeBlock(s.id, head, end)
	c.settle(s)
}

func (c *Conn) writeRequest(s *Stream, head *field.List, end bool) {
	if c.nextID > maxStreamID {
		c.shut(s, endLost)
		c.tellReset(s, &StreamError{Code: RefusedStream, Unprocessed: true, Reason: "the connection has no stream ids left"})
		c.tellAway()
		return
	}
	s.id = c.nextID
	c.nextID += 2
	c.streams.put(s)
	method := head.Get(":method")
	s.isHead = string(method) == "HEAD"
	s.tunnels = string(method) == "CONNECT"
	s.headDone = true
	s.writeEnded = end
	s.sentEnd = end
	c.writeBlock(s.id, head, end)
	if c.nextID > maxStreamID {
		c.tellAway()
	}
}

// WriteData sends body bytes, all of them: what cannot go out at once is copied
// and goes when the peer's windows and Config.OutputLimit allow. It returns how
// many went to the output at once; OnSent reports the others.
func (s *Stream) WriteData(p []byte, end bool) (sent int) {
	c := s.conn
	if s.closed || s.writeEnded {
		return 0
	}
	c.enter()
	switch {
	case !s.headDone:
		c.abort(s, InternalError, "body before the head")
	default:
		if s.noBody {
			sent, p = len(p), nil
		}
		s.writeEnded = end
		if s.pending() == 0 && c.ready.first == nil { // nobody is passed over
			for len(p) > 0 {
				n := c.sendable(s, len(p))
				if n == 0 {
					break
				}
				c.writeData(s, p[:n], end && n == len(p))
				p = p[n:]
				sent += n
			}
		}
		switch {
		case len(p) > 0:
			s.hold(p)
			c.queue(s)
		case end && !s.sentEnd && s.pending() == 0:
			c.writeData(s, nil, true)
		}
		c.settle(s)
	}
	c.leave()
	return sent
}

// WriteTrailers sends trailers after what is buffered, and ends the message.
func (s *Stream) WriteTrailers(t *field.List) {
	c := s.conn
	if s.closed || s.writeEnded {
		return
	}
	if s.noBody || empty(t) {
		s.WriteData(nil, true)
		return
	}
	c.enter()
	switch {
	case !s.headDone:
		c.abort(s, InternalError, "trailers before the head")
	case s.pending() > 0:
		if s.trailers == nil {
			s.trailers = new(field.List)
		}
		s.trailers.CopyFrom(t)
		s.trailing = true
		s.writeEnded = true
	default:
		s.writeEnded = true
		s.sentEnd = true
		c.writeBlock(s.id, t, true)
		c.settle(s)
	}
	c.leave()
}

func empty(l *field.List) bool {
	for i := range l.Len() {
		if l.Name(i) != nil {
			return false
		}
	}
	return true
}

// hold copies p behind what waits.
func (s *Stream) hold(p []byte) {
	if s.off > 0 && len(s.buf)+len(p) > cap(s.buf) {
		n := copy(s.buf, s.buf[s.off:])
		s.buf, s.off = s.buf[:n], 0
	}
	s.buf = append(bufpool.Grow(s.buf, len(p)), p...)
}

// emptyBuf forgets what waits, and keeps the room for it if that is small.
func (s *Stream) emptyBuf() {
	if cap(s.buf) > maxKeptBuf {
		bufpool.Free(s.buf)
		s.buf = nil
	}
	s.buf, s.off = s.buf[:0], 0
}

// writeBlock sends a header list as HEADERS and, when it is long, CONTINUATION.
func (c *Conn) writeBlock(id uint32, l *field.List, end bool) {
	start := len(c.out.b)
	b := c.enc.begin(appendHeader(c.out.b, 0, frameHeaders, 0, id))
	spans := l.Spans()
	if l.MayHave(hopNames) {
		named := l.Has(":authority")
		for i := range spans {
			name := l.Name(i)
			if name != nil && !hopField(name, l.Value(i)) && (!named || string(name) != "host") {
				b = c.enc.field(b, l, &spans[i])
			}
		}
	} else {
		for i := range spans {
			if s := &spans[i]; !s.Deleted {
				b = c.enc.field(b, l, s)
			}
		}
	}
	c.out.b = b
	block := c.out.b[start+frameHeaderLen:]
	var rest []byte
	if len(block) > sendFrame {
		rest = slices.Clone(block[sendFrame:])
		c.out.b = c.out.b[:start+frameHeaderLen+sendFrame]
		block = block[:sendFrame]
	}
	flags := uint8(0)
	if end {
		flags |= flagEndStream
	}
	if len(rest) == 0 {
		flags |= flagEndHeaders
	}
	_ = appendHeader(c.out.b[:start], len(block), frameHeaders, flags, id) // over the one without length
	for len(rest) > 0 {
		n := min(len(rest), sendFrame)
		flags = 0
		if n == len(rest) {
			flags = flagEndHeaders
		}
		c.out.b = append(appendHeader(c.out.b, n, frameContinuation, flags, id), rest[:n]...)
		rest = rest[n:]
	}
}
