package h2

import "github.com/quadnine/quadnine/internal/bufpool"

// room reports whether body data may move into the output.
func (c *Conn) room() bool { return len(c.out.b)+c.backlog < c.cfg.OutputLimit }

// sendable returns how much of n body bytes of s may go out in one frame now. A
// window smaller than n still lets its part through.
func (c *Conn) sendable(s *Stream, n int) int {
	if !c.room() || c.err != nil {
		return 0
	}
	return int(max(min(int64(n), sendFrame, s.sendWindow, c.sendWindow), 0))
}

// writeData puts one DATA frame into the output.
func (c *Conn) writeData(s *Stream, p []byte, end bool) {
	flags := uint8(0)
	if end {
		flags = flagEndStream
		s.sentEnd = true
	}
	c.out.b = append(appendHeader(bufpool.Grow(c.out.b, frameHeaderLen+len(p)), len(p), frameData, flags, s.id), p...)
	s.sendWindow -= int64(len(p))
	c.sendWindow -= int64(len(p))
	c.stats.DataOut++
	c.earnData()
}

// queue lets a stream that has body bytes and a window take its turn.
func (c *Conn) queue(s *Stream) {
	if !s.closed && s.sendWindow > 0 && s.pending() > 0 {
		c.ready.push(s)
	}
}

// pump moves waiting body data into the output, one frame of each stream in
// turn. It runs when the engine is about to rest, so a nested call cannot happen.
func (c *Conn) pump() {
	for c.ready.first != nil && c.sendWindow > 0 && c.room() && c.err == nil {
		s := c.ready.first
		c.ready.remove(s)
		n := c.sendable(s, s.pending())
		if n == 0 {
			continue // a setting took the window back; queue comes when it opens
		}
		all := n == s.pending()
		c.writeData(s, s.buf[s.off:s.off+n], all && s.writeEnded && !s.trailing)
		s.off += n
		if all {
			s.emptyBuf()
			if s.trailing {
				s.trailing, s.sentEnd = false, true
				c.writeBlock(s.id, s.trailers, true)
			}
		}
		c.queue(s)
		if !s.released {
			c.h.OnSent(s, n)
		}
		c.settle(s)
	}
}
