package h2

// Feed processes bytes from the peer. now is monotonic time in nanoseconds; p is
// not kept. An error is final: it is a *ConnError, ErrNotHTTP2 or ErrClosed, every
// stream got OnReset, and what the peer should still hear is in the output.
func (c *Conn) Feed(now int64, p []byte) error {
	if c.err != nil {
		return c.err
	}
	c.enter()
	c.now = now
	for len(p) > 0 && c.err == nil {
		switch {
		case c.prefaceLeft > 0:
			p = c.readPreface(p)
		case c.body.left+c.body.pad > 0:
			p = c.readBody(p)
		default:
			p = c.readFrame(p)
		}
	}
	c.leave()
	return c.err
}

// readFrame acts on the next frame when it is complete (of DATA, its header),
// in place when p has all of it.
func (c *Conn) readFrame(p []byte) []byte {
	frame, kept := p, len(c.in) > 0
	if kept {
		p = c.fill(p)
		frame = c.in
	}
	n := c.wanted(frame)
	if len(frame) < n {
		if !kept {
			c.in = append(c.in, frame...)
		}
		if !c.server && !c.gotSettings && len(c.in) >= 5 && string(c.in[:5]) == "HTTP/" {
			c.notHTTP2(true)
		}
		return nil
	}
	if !kept {
		p = p[n:]
	}
	c.frame(parseHeader(frame), frame[frameHeaderLen:n])
	if kept {
		c.in = c.in[:0]
		if cap(c.in) > 4096 { // an idle connection holds no large buffer
			c.in = nil
		}
	}
	return p
}

// fill moves from p to the kept start of a frame what that frame still lacks.
func (c *Conn) fill(p []byte) []byte {
	for {
		n := min(c.wanted(c.in)-len(c.in), len(p))
		if n <= 0 {
			return p
		}
		c.in = append(c.in, p[:n]...)
		p = p[n:]
	}
}

// wanted returns how many bytes of the frame must be there before it is acted
// on. A frame that will be refused is wanted only as far as its header.
func (c *Conn) wanted(frame []byte) int {
	if len(frame) < frameHeaderLen {
		return frameHeaderLen
	}
	h := parseHeader(frame)
	switch {
	case h.length > int(c.cfg.MaxFrameSize), !c.gotSettings && h.typ != frameSettings:
		return frameHeaderLen
	case h.typ == frameData:
		if h.has(flagPadded) && h.length > 0 {
			return frameHeaderLen + 1
		}
		return frameHeaderLen
	default:
		return frameHeaderLen + h.length
	}
}

// frame acts on one frame.
func (c *Conn) frame(h frameHeader, p []byte) {
	c.stats.Frames++
	switch {
	case !c.gotSettings && (h.typ != frameSettings || h.has(flagAck) || h.stream != 0):
		if !c.server {
			c.notHTTP2(h.typ > frameContinuation) // text never looks like a frame of HTTP/2
			return
		}
		c.fail(ProtocolError, "the first frame is not SETTINGS")
		return
	case h.length > int(c.cfg.MaxFrameSize):
		c.fail(FrameSizeError, "a frame is larger than SETTINGS_MAX_FRAME_SIZE")
		return
	case c.block.stream != 0 && (h.typ != frameContinuation || h.stream != c.block.stream):
		c.fail(ProtocolError, "a header block is interrupted by another frame")
		return
	}
	switch h.typ {
	case frameData:
		c.onData(h, p)
	case frameHeaders:
		c.onHeaders(h, p)
	case frameContinuation:
		c.onContinuation(h, p)
	case framePriority:
		c.onPriority(h, p)
	case frameRSTStream:
		c.onRSTStream(h, p)
	case frameWindowUpdate:
		c.onWindowUpdate(h, p)
	case frameSettings, framePing, frameGoAway:
		c.onControl(h, p)
	case framePushPromise:
		c.fail(ProtocolError, "PUSH_PROMISE is not allowed here")
	default: // RFC 9113 section 4.1: unknown types are ignored
		c.stats.Unknown++
		c.flood(FloodUnknown)
	}
}

// notHTTP2 ends a client connection whose peer does not begin as HTTP/2 demands.
// foreign says that it speaks another protocol: it cannot have read our frames.
func (c *Conn) notHTTP2(foreign bool) {
	c.err = ErrNotHTTP2
	c.lose(HTTP11Required, "the peer does not speak HTTP/2", foreign)
}

// idle reports whether the stream was never opened (RFC 9113 section 5.1). No
// stream has an even id: nobody pushes.
func (c *Conn) idle(id uint32) bool {
	if c.server {
		return id&1 == 0 || id > c.lastPeer
	}
	return id&1 == 0 || id >= c.nextID
}

// onPriority checks a deprecated frame (RFC 9113 section 6.3) and ignores it.
func (c *Conn) onPriority(h frameHeader, p []byte) {
	c.stats.Priorities++
	switch {
	case h.stream == 0:
		c.fail(ProtocolError, "PRIORITY on stream 0")
	case h.length != 5:
		c.priorityError(h.stream, FrameSizeError, "PRIORITY is not 5 bytes long")
	case be31(p) == h.stream:
		c.priorityError(h.stream, ProtocolError, "a stream depends on itself")
	default:
		c.chargePriority()
	}
}

func (c *Conn) onRSTStream(h frameHeader, p []byte) {
	switch {
	case h.stream == 0:
		c.fail(ProtocolError, "RST_STREAM on stream 0")
	case h.length != 4:
		c.fail(FrameSizeError, "RST_STREAM is not 4 bytes long")
	case c.idle(h.stream):
		c.fail(ProtocolError, "RST_STREAM on an idle stream")
	default:
		s := c.streams.get(h.stream)
		if s == nil {
			if !c.server && c.updates > 0 { // a server may answer so each DATA frame of ours that came too late
				c.updates--
				return
			}
			c.chargeLate()
			return
		}
		c.stats.ResetsIn++
		code := ErrCode(be32(p))
		c.shut(s, endPeerReset)
		c.tellReset(s, &StreamError{Code: code, Remote: true, Unprocessed: code == RefusedStream})
		c.chargeReset()
	}
}
