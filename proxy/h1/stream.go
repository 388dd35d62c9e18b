package h1

import "github.com/quadnine/quadnine/proxy/field"

// Stream is one exchange. Its methods never block and do nothing once the
// exchange is over or Release was called. It belongs to its Conn's goroutine.
type Stream struct {
	Owner    any  // the owner's; nil at the start of an exchange in server role
	TooLarge bool // server role: the head was over a limit and is cut; answer 431, the connection closes afterwards
	// Upgrade is the protocols to change to ("websocket", "h2c"). Server role: those
	// that the caller asks for; a 101 with an "upgrade" field takes one of them up.
	// Client role: set it before WriteHead, and the request asks for them. After a
	// 101 the stream carries the bytes of the new protocol, both ways.
	Upgrade string

	c     *Conn
	live  bool // open on the wire, or over and not yet released
	owned bool // not yet released

	rEnd     bool // the peer's message is complete
	answered bool // client role: a byte of a response arrived
	paused   bool
	waiting  int // body bytes that the owner has not consumed

	isHead   bool // the request's method is HEAD
	old      bool // server role: the caller speaks HTTP/1.0
	headDone bool // our final head is in the output
	whole    bool // all of our message is there when its head is written
	mode     mode
	left     int64 // in modeLength: bytes that the owner has yet to write
	wEnd     bool  // the owner has ended our message
	wDone    bool  // and all of it is in the output
	pend     []byte
	off      int // pend[off:] waits for room in the output
	trail    field.List
	trailing bool // trail waits

	tunneled bool // the protocol was changed
}

// mode is how our message's body is delimited.
type mode uint8

const (
	modeNone    mode = iota // there is none: what the owner writes is dropped
	modeLength              // Content-Length
	modeChunked             // RFC 9112 section 7.1
	modeClose               // by the end of the connection
)

// begin makes the stream ready for an exchange and keeps its memory.
func (s *Stream) begin() {
	*s = Stream{c: s.c, live: true, owned: true, pend: s.pend[:0], trail: s.trail}
}

func (s *Stream) over() bool     { return s.rEnd && s.wDone }
func (s *Stream) released() bool { return !s.owned }
func (s *Stream) usable() bool   { return s.live && s.owned }

// Consume says that n received body bytes were used.
func (s *Stream) Consume(n int) {
	if !s.usable() {
		return
	}
	s.waiting = max(0, s.waiting-n)
	if s.paused && s.waiting <= s.c.cfg.BodyWindow/2 {
		s.paused = false
		s.c.noteReading()
	}
}

// Reset aborts the exchange and with it the connection. OnReset does not follow.
// The code is not sent, as HTTP/1.1 has no place for it; a response that is
// already complete stays valid.
func (s *Stream) Reset(uint32) {
	if !s.usable() || s.over() {
		return
	}
	c := s.c
	s.live = false
	s.paused = false
	if (c.server || s.tunneled) && s.wDone {
		c.close()
		return
	}
	c.abort()
}

// fail is the end of an exchange whose owner gave us what cannot be sent.
func (s *Stream) fail(reason string) {
	s.c.abort()
	s.c.lose(&StreamError{Code: InternalError, Reason: reason})
}

// Buffered returns how many body bytes wait for room in the output, plus 1 when
// the end of the message waits too.
func (s *Stream) Buffered() int {
	if !s.live || s.wDone || s.dropping() {
		return 0
	}
	n := len(s.pend) - s.off
	if s.wEnd {
		n++
	}
	return n
}

// dropping reports that the response came to its end and that the connection
// ends with it, so that the rest of the request is of no use to anyone; or that
// the other end of a tunnel is gone.
func (s *Stream) dropping() bool { return (!s.c.server || s.tunneled) && s.c.closing && s.rEnd }

// WriteEnded reports whether the owner ended the message it writes.
func (s *Stream) WriteEnded() bool { return s.wEnd }

// ReadEnded reports whether the peer's message is complete.
func (s *Stream) ReadEnded() bool { return s.rEnd }

// Release says that the owner is done with s. If its message was not ended, the
// exchange is aborted; if the peer's was not, the connection is not used again.
// Release may call OnIdle, or OnHead for a pipelined request.
func (s *Stream) Release() {
	if !s.owned {
		return
	}
	s.owned = false
	s.Owner = nil
	s.paused = false
	s.c.settle()
	s.c.noteReading()
}
