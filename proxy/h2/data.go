package h2

// bodyIn is the DATA frame whose payload is arriving.
type bodyIn struct {
	stream *Stream // nil: the payload is discarded
	left   int     // payload bytes to come
	pad    int     // padding bytes to come after them
	end    bool    // END_STREAM
}

// onData acts on the header of a DATA frame: the whole frame is charged to the
// windows at once (RFC 9113 section 6.9.1). p holds the pad length, if any.
func (c *Conn) onData(h frameHeader, p []byte) {
	if h.stream == 0 {
		c.fail(ProtocolError, "DATA on stream 0")
		return
	}
	payload, pad, over := h.length, 0, 0
	if h.has(flagPadded) {
		if len(p) == 0 {
			c.fail(FrameSizeError, "padded DATA without a pad length")
			return
		}
		pad = int(p[0])
		over = pad + 1
		if payload -= over; payload < 0 {
			c.fail(ProtocolError, "DATA has more padding than payload")
			return
		}
	}
	if int64(h.length) > c.recvWindow {
		c.fail(FlowControlError, "DATA exceeds the connection's window")
		return
	}
	c.recvWindow -= int64(h.length)
	c.credit(int64(over))
	c.body = bodyIn{left: payload, pad: pad, end: h.has(flagEndStream)}
	s := c.streams.get(h.stream)
	if s == nil {
		c.onClosedData(h.stream)
		return
	}
	if !c.admit(s, int64(h.length), int64(payload), h.has(flagEndStream)) {
		return
	}
	empty := payload == 0 && !h.has(flagEndStream)
	if empty {
		c.stats.EmptyData++
	}
	if c.chargeEmpty(empty); c.err != nil {
		return
	}
	s.recvCredit += int64(over)
	c.openStreamWindow(s)
	c.body.stream = s
	if payload == 0 && h.has(flagEndStream) {
		c.deliver(nil)
	}
}

// admit checks a DATA frame against its stream; false: it became a stream error.
func (c *Conn) admit(s *Stream, size, payload int64, end bool) bool {
	switch {
	case s.recvEnd:
		c.streamError(s, StreamClosed, "DATA after the end of the stream")
	case !s.gotHead:
		c.malformed(s, "DATA before the response's head")
	case size > s.recvWindow:
		c.streamError(s, FlowControlError, "DATA exceeds the stream's window")
	case s.bodyLeft >= 0 && (payload > s.bodyLeft || end && payload != s.bodyLeft):
		c.malformed(s, badLength)
	default:
		s.recvWindow -= size
		if s.bodyLeft >= 0 {
			s.bodyLeft -= payload
		}
		return true
	}
	return false
}

// readBody takes what p has of the current DATA frame.
func (c *Conn) readBody(p []byte) []byte {
	b := &c.body
	if b.left > 0 {
		n := min(len(p), b.left)
		b.left -= n
		c.deliver(p[:n])
		return p[n:]
	}
	n := min(len(p), b.pad)
	b.pad -= n
	return p[n:]
}

// deliver hands payload to the stream's owner, or gives its window back.
func (c *Conn) deliver(p []byte) {
	s := c.body.stream
	if s == nil {
		c.credit(int64(len(p)))
		return
	}
	end := c.body.end && c.body.left == 0
	s.recvEnd = end
	if c.body.left == 0 {
		c.body.stream = nil // s may be recycled while padding is still to come
	}
	if s.released {
		c.credit(int64(len(p)))
	} else {
		s.unused += int64(len(p))
		if !c.server {
			// One slow caller must not stall its neighbors on the shared upstream
			// connection. Memory stays bounded by streams × stream window.
			c.credit(int64(len(p)))
		}
		c.h.OnData(s, p, end)
	}
	c.settle(s)
}

// onClosedData judges DATA on a stream that is not open. Its payload is
// discarded and its window given back.
func (c *Conn) onClosedData(id uint32) {
	switch {
	case c.idle(id):
		c.fail(ProtocolError, "DATA on an idle stream")
	case !c.server, c.final && id > c.lastTaken, c.closed.how(id) == endReset:
		// Sent before the peer saw our RST_STREAM or GOAWAY.
		if c.body.left == 0 {
			c.chargeLate()
		}
		c.chargeStray(c.body.left + c.body.pad)
	case c.closed.how(id) == endClean:
		c.fail(StreamClosed, "DATA on a closed stream")
	default:
		c.rejectStream(id, StreamClosed)
		c.chargeReset()
	}
}
