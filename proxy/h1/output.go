package h1

import (
	"strconv"

	"github.com/quadnine/quadnine/internal/bufpool"
	"github.com/quadnine/quadnine/proxy/field"
)

// WriteData writes body bytes and takes all of them: p is copied if it must wait
// for room in the output. It returns how many went there at once; OnSent tells
// of the others. Bytes for which the message has no place (a response to HEAD)
// or that nobody wants (the upstream has answered and closes) count as sent.
func (s *Stream) WriteData(p []byte, end bool) (sent int) {
	if !s.usable() || s.wEnd {
		return 0
	}
	switch {
	case !s.headDone:
		s.fail("body before its head")
		return 0
	case s.dropping():
		s.wEnd = end
		return len(p)
	case s.mode == modeLength && int64(len(p)) > s.left:
		s.fail("body is longer than its content-length")
		return 0
	case s.mode == modeLength:
		s.left -= int64(len(p))
		if end && s.left > 0 {
			s.fail("body ends before its content-length")
			return 0
		}
	}
	sent = len(p)
	if s.mode != modeNone && len(p) > 0 {
		sent = 0
		if len(s.pend) == s.off {
			sent = s.put(p)
		}
		if sent < len(p) {
			s.hold(p[sent:])
		}
	}
	s.wEnd = end
	if s.finish() {
		s.c.settle()
	}
	return sent
}

// hold keeps a copy of p until there is room. What was already moved makes
// place first, so that a body that never catches up does not grow the buffer.
func (s *Stream) hold(p []byte) {
	if s.off > len(s.pend)/2 {
		s.pend = s.pend[:copy(s.pend, s.pend[s.off:])]
		s.off = 0
	}
	s.pend = append(bufpool.Grow(s.pend, len(p)), p...)
}

// emptyPend forgets what waits, and keeps the room for it if that is small.
func (s *Stream) emptyPend() {
	if cap(s.pend) > keepBytes {
		bufpool.Free(s.pend)
		s.pend = nil
	}
	s.pend, s.off = s.pend[:0], 0
}

// chunkOverhead is the most that a chunk needs besides its bytes: its size in hex
// and two line ends.
const chunkOverhead = 16 + 2 + 2

// put moves as much of p to the output as it has room for.
func (s *Stream) put(p []byte) int {
	c := s.c
	n := min(len(p), c.room())
	if n <= 0 {
		return 0
	}
	c.out = bufpool.Grow(c.out, n+chunkOverhead)
	if s.mode == modeChunked {
		c.out = strconv.AppendInt(c.out, int64(n), 16)
		c.out = append(c.out, "\r\n"...)
	}
	c.out = append(c.out, p[:n]...)
	if s.mode == modeChunked {
		c.out = append(c.out, "\r\n"...)
	}
	c.touch()
	return n
}

// finish ends the message when the owner has and nothing waits any more.
func (s *Stream) finish() bool {
	if s.wDone || !s.wEnd || len(s.pend) > s.off {
		return false
	}
	c := s.c
	s.wDone = true
	if s.mode == modeChunked {
		if s.trailing {
			c.out = append(c.out, "0\r\n"...)
			for i := range s.trail.Len() {
				if name := s.trail.Name(i); len(name) > 0 && name[0] != ':' && !field.ForbiddenTrailer(name) {
					c.out = appendField(c.out, name, s.trail.Value(i))
				}
			}
			c.out = append(c.out, "\r\n"...)
		} else {
			c.out = append(c.out, "0\r\n\r\n"...)
		}
		c.touch()
	}
	s.emptyPend()
	return true
}

// pump moves waiting body bytes to the output.
func (c *Conn) pump() {
	s := &c.s
	if !s.live || len(s.pend) == s.off || s.dropping() {
		return
	}
	n := s.put(s.pend[s.off:])
	if n == 0 {
		return
	}
	s.off += n
	if s.off == len(s.pend) {
		s.emptyPend()
	}
	s.finish() // first, so that the owner who is told of the last bytes finds Buffered 0
	if s.owned {
		c.h.OnSent(s, n)
	}
	c.settle()
}

// WriteTrailers ends the message, after the data that waits. Only a chunked
// message has a place for trailers; otherwise, and where RFC 9110 section 6.5.1
// forbids one, they are left out.
func (s *Stream) WriteTrailers(t *field.List) {
	if !s.usable() || s.wEnd {
		return
	}
	if s.mode == modeChunked {
		for i := range t.Len() {
			name := t.Name(i)
			if len(name) > 0 && name[0] != ':' && (!field.ValidName(name) || !field.ValidValue(t.Value(i))) {
				s.fail("trailer " + strconv.Quote(string(name)) + " cannot be sent")
				return
			}
		}
		s.trail.CopyFrom(t)
		s.trailing = true
	}
	s.WriteData(nil, true)
}
