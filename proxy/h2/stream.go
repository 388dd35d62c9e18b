package h2

import "github.com/quadnine/quadnine/proxy/field"

// Stream is one request and its response. Its methods never block, and do
// nothing once the stream is closed. After Release it must not be used.
type Stream struct {
	Owner    any  // the handler's own
	TooLarge bool // server role: the header list is over the limit and cut; answer 431

	conn  *Conn
	id    uint32 // client role: 0 until the head is written
	links [linkCount]links
	next  *Stream // in Conn.free or Conn.dead

	isHead   bool // the method is HEAD
	tunnels  bool // the method is CONNECT, and the response, if there is one, a success
	noBody   bool // server role: the response cannot have a body
	released bool
	closed   bool // gone from the connection; only unused may still matter

	// Receiving.
	gotHead    bool
	recvEnd    bool
	recvWindow int64 // what the peer may still send
	recvCredit int64 // done with, not yet given back
	unused     int64 // delivered, not yet consumed
	bodyLeft   int64 // by content-length, or noLength

	// Sending.
	headDone   bool // the final head is in the output
	writeEnded bool // the owner wrote the end
	sentEnd    bool // END_STREAM is in the output
	trailing   bool // trailers wait for the body
	sendWindow int64
	buf        []byte // buf[off:] waits for a window or for room
	off        int
	trailers   *field.List
}

// maxKeptBuf is how large a send buffer a recycled Stream keeps, in bytes: a
// hundred idle Streams hold at most 1.6 MB.
const maxKeptBuf = 16 << 10

// Conn returns the stream's connection.
func (s *Stream) Conn() *Conn { return s.conn }

// ID returns the stream's identifier; in the client role 0 before WriteHead.
func (s *Stream) ID() uint32 { return s.id }

// WriteEnded reports whether the owner has written the end of its message.
func (s *Stream) WriteEnded() bool { return s.writeEnded }

// ReadEnded reports whether the peer's message is complete.
func (s *Stream) ReadEnded() bool { return s.recvEnd }

// Buffered returns how many body bytes are not in the output yet. An end or
// trailers that wait count as one.
func (s *Stream) Buffered() int {
	if s.closed {
		return 0
	}
	n := s.pending()
	if s.writeEnded && !s.sentEnd {
		n++
	}
	return n
}

func (s *Stream) pending() int { return len(s.buf) - s.off }

// CanOpen reports whether OpenStream would succeed.
func (c *Conn) CanOpen() bool { return c.openError() == nil }

func (c *Conn) openError() error {
	switch {
	case c.err != nil:
		return ErrClosed
	case c.server || c.goAwayIn || c.draining || c.nextID > maxStreamID:
		return ErrGoingAway
	case c.active >= int(c.peerStreams):
		return ErrFull
	}
	return nil
}

// OpenStream opens a stream for a request (client role). The error is ErrFull,
// ErrGoingAway or ErrClosed. The stream has no id, and the peer does not know of
// it, until WriteHead.
func (c *Conn) OpenStream(owner any) (*Stream, error) {
	if err := c.openError(); err != nil {
		return nil, err
	}
	s := c.newStream()
	s.Owner = owner
	return s, nil
}

func (c *Conn) newStream() *Stream {
	s := c.free
	if s == nil {
		s = new(Stream)
	} else {
		c.free = s.next
	}
	buf, trailers := s.buf[:0], s.trailers
	*s = Stream{}
	s.conn, s.buf, s.trailers = c, buf, trailers
	s.recvWindow, s.sendWindow, s.bodyLeft = c.recvInit, c.peerWindow, noLength
	c.open.push(s)
	c.active++
	c.stats.Streams++
	c.earnStream()
	return s
}

// Reset aborts the stream with an error code of RFC 9113 section 7. No OnReset
// follows.
func (s *Stream) Reset(code uint32) {
	c := s.conn
	if s.closed {
		return
	}
	c.enter()
	c.reset(s, ErrCode(code))
	c.leave()
}

// Release says that the owner is done with the stream: call it exactly once for
// every stream, whether it is closed or not. What the owner wrote completely is
// still sent (server role); anything else is reset.
func (s *Stream) Release() {
	c := s.conn
	if s.released {
		return
	}
	c.enter()
	s.released = true
	s.Owner = nil
	if c.server {
		c.credit(s.unused)
	}
	s.unused = 0
	switch {
	case s.closed:
		c.retire(s)
	case s.recvEnd && s.sentEnd:
		c.shut(s, endClean)
	case !c.server:
		c.reset(s, Cancel)
	case !s.writeEnded:
		c.reset(s, InternalError)
	default:
		c.settle(s)
	}
	c.leave()
}

// settle closes a stream whose ends are both done, or that nobody reads.
func (c *Conn) settle(s *Stream) {
	switch {
	case s.closed || !s.sentEnd:
	case s.recvEnd:
		c.shut(s, endClean)
	case s.released: // RFC 9113 section 8.1: the rest of the request is not wanted
		c.reset(s, NoError)
	}
}

// shut takes a stream off the connection.
func (c *Conn) shut(s *Stream, how ending) {
	if s.closed {
		return
	}
	s.closed = true
	c.active--
	c.open.remove(s)
	c.ready.remove(s)
	if s.id != 0 {
		c.streams.remove(s.id)
		if c.server {
			if how == endClean {
				c.completed()
			}
			c.closed.add(s.id, how)
		}
	}
	if c.body.stream == s {
		c.body.stream = nil
	}
	if how == endReset {
		c.expectStrays()
	}
	if how != endClean {
		s.emptyBuf()
		if c.server {
			c.credit(s.unused)
		}
		s.unused = 0
	}
	if s.released {
		c.retire(s)
	}
}

// retire keeps a closed and released Stream for another use. It is not used
// again before the engine is at rest: callers up the stack may still look at it.
func (c *Conn) retire(s *Stream) {
	s.next = c.dead
	c.dead = s
}

// bury makes the dead Streams free.
func (c *Conn) bury() {
	for s := c.dead; s != nil; s = c.dead {
		c.dead = s.next
		s.next = c.free
		c.free = s
	}
}

// reset sends RST_STREAM and closes the stream without telling its owner.
func (c *Conn) reset(s *Stream, code ErrCode) {
	if s.id != 0 && !s.closed {
		c.stats.ResetsOut++
		c.out.b = appendRSTStream(c.out.b, s.id, code)
	}
	c.shut(s, endReset)
}

// tellReset tells the owner of a stream that was just shut.
func (c *Conn) tellReset(s *Stream, err *StreamError) {
	if !s.released {
		c.h.OnReset(s, err)
	}
}

// abort resets a stream and tells its owner.
func (c *Conn) abort(s *Stream, code ErrCode, reason string) {
	c.reset(s, code)
	c.tellReset(s, &StreamError{Code: code, Reason: reason})
}

// streamError aborts a stream for what the peer did (RFC 9113 section 5.4.2).
func (c *Conn) streamError(s *Stream, code ErrCode, reason string) {
	c.stats.StreamErrors++
	c.abort(s, code, reason)
	c.chargeReset()
}

// malformed aborts a stream whose message is malformed (RFC 9113 section 8.1.1).
func (c *Conn) malformed(s *Stream, reason string) {
	c.stats.Malformed++
	c.stats.LastMalformed = reason
	c.streamError(s, ProtocolError, reason)
}

// rejectStream sends RST_STREAM for a stream that has no Stream.
func (c *Conn) rejectStream(id uint32, code ErrCode) {
	c.stats.ResetsOut++
	c.out.b = appendRSTStream(c.out.b, id, code)
	c.closed.add(id, endReset)
	c.expectStrays()
}

// priorityError is a stream error of PRIORITY, which may name any stream: an idle
// one cannot be reset.
func (c *Conn) priorityError(id uint32, code ErrCode, reason string) {
	switch s := c.streams.get(id); {
	case s != nil:
		c.streamError(s, code, reason)
	case c.idle(id):
		c.fail(code, reason)
	default:
		c.rejectStream(id, code)
		c.chargeReset()
	}
}
