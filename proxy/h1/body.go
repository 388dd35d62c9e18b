package h1

import "github.com/quadnine/quadnine/proxy/field"

// maxExcess bounds chunk framing that carries next to no data: extensions and
// one-byte chunks. 16 KiB is net/http's bound (CVE-2023-39326).
const maxExcess = 16 << 10

// How chunks are refused that are made to cost.
const (
	chunkLine    = "chunk-size line over the limit"
	chunkFraming = "chunks are mostly framing"
)

// maxSizeDigits keeps a chunk size inside an int64.
const maxSizeDigits = 15

// bodyBytes brings what cur holds of a body or chunk; after its last byte comes next.
func (c *Conn) bodyBytes(next state) {
	m := &c.msg
	n := int(min(m.left, int64(len(c.cur))))
	p := c.cur[:n]
	c.cur = c.cur[n:]
	m.left -= int64(n)
	end := false
	if m.left == 0 {
		c.state = next
		if end = next == stDone; end {
			c.endRead()
		}
	}
	c.deliver(p, end)
	if end {
		c.settle()
	}
}

// endRead notes that the peer's message is complete.
func (c *Conn) endRead() {
	c.state = stDone
	c.s.rEnd = true
}

// deliver brings body bytes to the owner, if there still is one.
func (c *Conn) deliver(p []byte, end bool) {
	s := &c.s
	if !s.usable() {
		return
	}
	s.waiting += len(p)
	if s.waiting > c.cfg.BodyWindow && !end {
		s.paused = true
	}
	c.h.OnData(s, p, end)
}

// chunkSize reads a chunk-size line (RFC 9112 section 7.1).
func (c *Conn) chunkSize() (more bool, r refusal) {
	line, ok, long, r := c.nextLine(c.cfg.MaxLineBytes)
	switch {
	case long:
		return false, bad(chunkLine)
	case !ok:
		return false, r
	}
	m := &c.msg
	var size int64
	n := 0
	for ; n < len(line); n++ {
		d := unhex(line[n])
		if d < 0 {
			break
		}
		size = size<<4 | int64(d)
		if n == maxSizeDigits {
			return false, bad("chunk size is too large")
		}
	}
	if n == 0 || n < len(line) && line[n] != ';' {
		return false, bad("chunk size is not a hexadecimal number")
	}
	if !field.ValidValue(trim(line[n:])) { // the extensions are ignored, not passed on
		return false, bad("control character in a chunk extension")
	}
	m.excess = max(0, m.excess+int64(len(line))+2-16-2*size)
	if m.excess > maxExcess {
		return false, bad(chunkFraming)
	}
	if size == 0 {
		c.state = stTrailers
		m.line, m.bytes, m.fields = 1, 0, 0
		c.raw.Reset()
		return true, refusal{}
	}
	c.state, m.left = stChunkData, size
	return true, refusal{}
}

// chunkEnd reads the CRLF after a chunk's bytes, and nothing else.
func (c *Conn) chunkEnd() (more bool, r refusal) {
	if c.cur[0] != '\r' || len(c.cur) > 1 && c.cur[1] != '\n' {
		return false, bad("chunk is longer than its size")
	}
	if len(c.cur) < 2 {
		return false, refusal{}
	}
	c.cur = c.cur[2:]
	c.state = stChunkSize
	c.msg.chunk++
	return true, refusal{}
}

// endTrailers ends a chunked message.
func (c *Conn) endTrailers() {
	s := &c.s
	c.endRead()
	switch {
	case !s.usable():
	case c.raw.Len() > 0:
		c.h.OnTrailers(s, &c.raw)
	default:
		c.h.OnData(s, nil, true)
	}
	c.settle()
}

// unhex returns a hexadecimal digit's value, or -1.
func unhex(b byte) int {
	switch {
	case digit(b):
		return int(b - '0')
	case 'a' <= b && b <= 'f':
		return int(b-'a') + 10
	case 'A' <= b && b <= 'F':
		return int(b-'A') + 10
	}
	return -1
}
