package h2

import (
	"slices"

	"github.com/quadnine/quadnine/proxy/field"
)

// blockIn is a header block whose END_HEADERS has not come yet. At most one is
// under way on a connection (RFC 9113 section 4.3).
type blockIn struct {
	stream        uint32
	end           bool // END_STREAM
	selfDep       bool // the stream depends on itself
	continuations int
	buf           []byte
}

// maxBlock is how many bytes of a header block are read, relative to the allowed
// header list: the worst HPACK coding of a list (30-bit Huffman codes for every
// byte) takes not quite four times its size.
const maxBlock = 4

func (c *Conn) onHeaders(h frameHeader, p []byte) {
	if h.stream == 0 {
		c.fail(ProtocolError, "HEADERS on stream 0")
		return
	}
	b := blockIn{stream: h.stream, end: h.has(flagEndStream)}
	pad := 0
	if h.has(flagPadded) {
		if len(p) == 0 {
			c.fail(FrameSizeError, "padded HEADERS without a pad length")
			return
		}
		pad, p = int(p[0]), p[1:]
	}
	if h.has(flagPriority) {
		if len(p) < 5 {
			c.fail(FrameSizeError, "HEADERS is too short for its priority")
			return
		}
		b.selfDep = be31(p) == h.stream
		p = p[5:]
	}
	if pad > len(p) {
		c.fail(ProtocolError, "HEADERS has more padding than payload")
		return
	}
	p = p[:len(p)-pad]
	if h.has(flagEndHeaders) {
		c.onBlock(b, p)
		return
	}
	b.buf = slices.Clone(p)
	c.block = b
}

func (c *Conn) onContinuation(h frameHeader, p []byte) {
	b := &c.block
	if b.stream == 0 {
		c.fail(ProtocolError, "CONTINUATION without HEADERS")
		return
	}
	c.stats.Continuations++
	b.continuations++
	if b.continuations > c.cfg.MaxContinuations || len(b.buf)+len(p) > maxBlock*int(c.cfg.MaxHeaderBytes)+minMaxFrame {
		c.over(FloodContinuation)
		return
	}
	if c.chargeEmpty(len(p) == 0); c.err != nil {
		return
	}
	b.buf = append(b.buf, p...)
	if !h.has(flagEndHeaders) {
		return
	}
	done := *b
	c.block = blockIn{}
	c.continued++
	c.onBlock(done, done.buf)
}

// onBlock acts on a complete header block. It is decoded whatever becomes of its
// stream, or the compression state would be lost.
func (c *Conn) onBlock(b blockIn, p []byte) {
	cut, err := c.dec.decode(p, &c.head)
	if err != nil {
		c.fail(CompressionError, err.Error())
		return
	}
	c.dispatch(b, cut)
	c.head.Void()
	c.spare.Void()
	if c.head.Bytes() > maxKept {
		c.head = field.List{}
	}
	if c.spare.Bytes() > maxKept {
		c.spare = field.List{}
	}
}

// maxKept is how much scratch a connection keeps from one message to the next.
const maxKept = 16 << 10

func (c *Conn) dispatch(b blockIn, cut bool) {
	s := c.streams.get(b.stream)
	switch {
	case s == nil && c.idle(b.stream):
		if !c.server || b.stream&1 == 0 {
			c.fail(ProtocolError, "HEADERS on a stream that the peer cannot open")
			return
		}
		c.onRequest(b, cut)
	case s == nil:
		c.onClosedHeaders(b.stream)
	case s.recvEnd:
		c.streamError(s, StreamClosed, "HEADERS after the end of the stream")
	case b.selfDep:
		c.streamError(s, ProtocolError, "a stream depends on itself")
	case c.server || s.gotHead:
		c.onTrailers(s, b.end, cut)
	default:
		c.onResponse(s, b.end, cut)
	}
}

// onRequest opens a stream (server role).
func (c *Conn) onRequest(b blockIn, cut bool) {
	c.lastPeer = b.stream
	if c.final && b.stream > c.lastTaken {
		c.expectStrays()
		return // RFC 9113 section 6.8: the peer will send it elsewhere
	}
	if c.active >= int(c.cfg.MaxConcurrentStreams) {
		c.stats.Refused++
		c.rejectStream(b.stream, RefusedStream)
		if c.settingsAcked {
			c.chargeReset()
		} else { // the peer may not know the limit yet
			c.flood(FloodRefused)
		}
		return
	}
	if b.selfDep {
		c.rejectStream(b.stream, ProtocolError)
		c.stats.StreamErrors++
		c.chargeReset()
		return
	}
	req, head, bad := c.checkRequest(cut)
	if bad == "" && b.end && req.length > 0 {
		bad = badLength
	}
	if bad != "" {
		c.stats.Malformed++
		c.stats.LastMalformed = bad
		c.rejectStream(b.stream, ProtocolError)
		c.chargeReset()
		return
	}
	s := c.newStream()
	s.id = b.stream
	s.TooLarge = cut
	s.isHead, s.tunnels = req.head, req.connect
	s.bodyLeft = req.length
	s.gotHead = true
	s.recvEnd = b.end
	c.streams.put(s)
	c.h.OnHead(s, head, b.end)
	c.settle(s)
}

// onResponse receives a head of a response, interim or final (client role).
func (c *Conn) onResponse(s *Stream, end, cut bool) {
	res, bad := c.checkResponse(s.isHead)
	if s.tunnels && res.success { // RFC 9110 section 9.3.6: what follows is no content
		c.head.Del("content-length")
		res.length = noLength
	}
	switch {
	case cut:
		bad = "the response's header list is over the limit"
	case bad == "" && res.interim && end:
		bad = "an interim response ends the stream"
	case bad == "" && end && res.length > 0:
		bad = badLength
	}
	if bad != "" {
		c.malformed(s, bad)
		return
	}
	if res.interim {
		c.stats.Interim++
		if c.flood(FloodInterim); c.err != nil {
			return
		}
	} else {
		s.gotHead = true
		s.tunnels = s.tunnels && res.success
		s.bodyLeft = res.length
		s.recvEnd = end
	}
	if !s.released {
		c.h.OnHead(s, &c.head, end)
	}
	c.settle(s)
}

func (c *Conn) onTrailers(s *Stream, end, cut bool) {
	bad := c.checkTrailers()
	switch {
	case s.tunnels: // RFC 9113 section 8.5
		bad = "a header block in a tunnel"
	case !end:
		bad = "a second header block does not end the stream"
	case cut:
		bad = "the trailers are over the limit"
	case bad == "" && s.bodyLeft > 0:
		bad = badLength
	}
	if bad != "" {
		c.malformed(s, bad)
		return
	}
	s.recvEnd = true
	if !s.released {
		c.h.OnTrailers(s, &c.head)
	}
	c.settle(s)
}

// onClosedHeaders judges HEADERS on a stream that is gone (RFC 9113 section 5.1).
// In the client role they answer a request that it gave up.
func (c *Conn) onClosedHeaders(id uint32) {
	switch {
	case !c.server:
		c.chargeLate()
		return
	case c.final && id > c.lastTaken:
		return
	}
	switch c.closed.how(id) {
	case endReset: // sent before the peer saw our RST_STREAM
		c.chargeLate()
	case endPeerReset:
		c.rejectStream(id, StreamClosed)
		c.chargeReset()
	case endClean:
		c.fail(StreamClosed, "HEADERS on a closed stream")
	default:
		c.fail(ProtocolError, "stream ids must increase")
	}
}
