package h1

// settle looks, after something ended, what the connection does next.
func (c *Conn) settle() {
	switch s := &c.s; {
	case !s.live:
	case s.tunneled:
		c.settleTunnel(s)
	case c.server:
		c.settleServer(s)
	default:
		c.settleClient(s)
	}
}

func (c *Conn) settleServer(s *Stream) {
	switch {
	case s.released() && !s.wEnd:
		s.live = false // the owner gave up in the middle
		c.abort()
	case s.wDone && !s.rEnd && !c.restIsHere():
		// The caller may still be sending: draining could take for ever, and its
		// next request could not be told from the rest of this one.
		s.live = s.owned
		c.close()
	case s.over() && (!c.keep || c.final):
		s.live = s.owned
		c.close()
	case s.over() && s.released():
		s.live = false
		c.msg = message{}
		c.state = stStart
		c.resume()
	}
}

// restIsHere reports that the whole rest of the request's body is in hand, so
// that an early reply need not cost the connection.
func (c *Conn) restIsHere() bool { return c.state == stLength && c.msg.left <= int64(len(c.cur)) }

func (c *Conn) settleClient(s *Stream) {
	if s.rEnd && !c.keep {
		c.close() // a request that is still being written goes nowhere
	}
	if !s.released() {
		return
	}
	s.live = false
	switch {
	case !s.over():
		c.abort() // also with the response in hand: nobody may ever read the rest of the request
	case c.shut || len(c.cur) > 0 || !c.keep:
		c.close()
	default:
		c.used = true
		c.msg = message{}
		c.state = stStart
		c.h.OnIdle(c)
	}
}

// lose ends the exchange abnormally and tells its owner.
func (c *Conn) lose(e *StreamError) {
	s := &c.s
	if !s.live {
		return
	}
	s.live = false
	s.paused = false
	if s.owned {
		c.h.OnReset(s, e)
	}
}

// Cut says that the end which FeedEOF is about to report was not the peer's will:
// TLS ended without close_notify. What only the connection's end delimits is
// incomplete then (RFC 9112 section 9.8).
func (c *Conn) Cut() { c.wasCut = true }

// FeedEOF says that the peer closed its sending side or that the transport is
// gone. A close-delimited response and a tunnel end cleanly; any other exchange that is not
// over gets OnReset with ConnLost.
func (c *Conn) FeedEOF() {
	s := &c.s
	c.depth++
	defer func() { c.depth-- }()
	if c.state == stUntilEOF && s.live && !c.wasCut {
		c.keep = false
		c.endRead()
		if s.owned {
			c.h.OnData(s, nil, true)
		}
		c.settle()
	}
	if c.state == stTunnel && s.live && !s.rEnd {
		c.endTunnel()
		return
	}
	c.close()
	switch {
	case !s.live || s.over():
	case !c.server && s.rEnd: // the response is complete: that is what counts
	case c.server:
		c.aborted = c.aborted || !s.wDone && s.headDone
		c.lose(&StreamError{Code: Cancel, Remote: true, ConnLost: true, Reason: "the caller closed the connection"})
	default:
		c.lose(&StreamError{
			Code: InternalError, Remote: true, ConnLost: true,
			Unprocessed: !s.headDone || c.used && !s.answered,
			Reason:      "the upstream closed the connection " + c.where(),
		})
	}
}

// where says how far the response has come.
func (c *Conn) where() string {
	switch {
	case !c.s.answered:
		return "before its response"
	case c.state == stStart || c.state == stFields:
		return "inside the head of its response"
	}
	return "inside the body of its response"
}
