package h2

// credit gives n received bytes back to the connection's window, in batches of
// half of it: a peer with less than half left is one that we make wait.
func (c *Conn) credit(n int64) {
	c.recvCredit += n
	if c.recvCredit < int64(c.cfg.ConnWindow)/2 || c.err != nil {
		return
	}
	c.out.b = appendWindowUpdate(c.out.b, 0, c.recvCredit)
	c.recvWindow += c.recvCredit
	c.recvCredit = 0
}

// openStreamWindow gives back what the stream's owner is done with, in batches
// of half the window.
func (c *Conn) openStreamWindow(s *Stream) {
	if s.recvEnd || s.closed || s.recvCredit == 0 || s.recvCredit < int64(c.cfg.StreamWindow)/2 {
		return
	}
	c.out.b = appendWindowUpdate(c.out.b, s.id, s.recvCredit)
	s.recvWindow += s.recvCredit
	s.recvCredit = 0
}

// Consume says that n received body bytes were used; the peer may send as many
// more.
func (s *Stream) Consume(n int) {
	c := s.conn
	used := min(int64(n), s.unused)
	if used <= 0 {
		return
	}
	c.enter()
	s.unused -= used
	if c.server {
		c.credit(used)
	}
	s.recvCredit += used
	c.openStreamWindow(s)
	c.leave()
}

func (c *Conn) onWindowUpdate(h frameHeader, p []byte) {
	c.stats.WindowUpdates++
	if h.length != 4 {
		c.fail(FrameSizeError, "WINDOW_UPDATE is not 4 bytes long")
		return
	}
	n := int64(be31(p))
	if c.chargeUpdate(); c.err != nil {
		return
	}
	if h.stream == 0 {
		switch {
		case n == 0:
			c.fail(ProtocolError, "WINDOW_UPDATE of 0")
		case c.sendWindow+n > maxWindow:
			c.fail(FlowControlError, "the connection's window overflows")
		default:
			c.sendWindow += n
		}
		return
	}
	s := c.streams.get(h.stream)
	switch {
	case s == nil && c.idle(h.stream):
		c.fail(ProtocolError, "WINDOW_UPDATE on an idle stream")
	case s == nil: // in flight when the stream closed
	case n == 0:
		c.streamError(s, ProtocolError, "WINDOW_UPDATE of 0")
	case s.sendWindow+n > maxWindow:
		c.streamError(s, FlowControlError, "the stream's window overflows")
	default:
		s.sendWindow += n
		c.queue(s)
	}
}

// resizeWindows applies a change of the peer's SETTINGS_INITIAL_WINDOW_SIZE to
// the open streams; a window may become negative (RFC 9113 section 6.9.2).
func (c *Conn) resizeWindows(size int64) {
	delta := size - c.peerWindow
	c.peerWindow = size
	if delta == 0 {
		return
	}
	for s := c.open.first; s != nil; s = s.links[openLinks].next {
		s.sendWindow += delta
		if s.sendWindow > maxWindow {
			c.fail(FlowControlError, "SETTINGS_INITIAL_WINDOW_SIZE overflows a stream's window")
			return
		}
		c.queue(s)
	}
}
