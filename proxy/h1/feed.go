package h1

import (
	"bytes"
	"strconv"

	"github.com/quadnine/quadnine/proxy/field"
)

// state is what the next byte of input belongs to.
type state uint8

const (
	stStart     state = iota // a request line or status line
	stFields                 // a field line of the head, or the empty line after them
	stLength                 // a body with Content-Length
	stChunkSize              // a chunk-size line
	stChunkData              // a chunk's bytes
	stChunkEnd               // the line end after them
	stTrailers               // a trailer field line, or the empty line after them
	stUntilEOF               // a close-delimited body
	stTunnel                 // bytes of another protocol
	stDone                   // the next message, which waits for its turn
	stDiscard                // nothing any more
)

// keepBytes is the largest input or stream buffer that an idle connection keeps.
const keepBytes = 16 << 10

// message is what is known of the message being read.
type message struct {
	line      int // of the head or trailer section
	bytes     int
	fields    int
	blank     bool // an empty line came before the request line
	minor     byte
	isHead    bool
	status    int // client role
	hints     int // client role: 1xx heads so far
	absolute  bool
	authority int // absolute-form: target[:authority] is the authority, the rest the path

	hosts   int
	lengths int
	length  int64
	codings int
	chunked bool
	coding  refusal
	close   bool
	upgrade bool // Connection lists it
	te      bool

	left  int64 // bytes of the body, or of the chunk, still to come
	chunk int   // chunks before this one

	excess int64 // bytes of chunk framing beyond what the data excuses
}

// Feed parses p, which is the connection's next input. now is not used: the
// engine's peer in package h2 needs it. An error, an *Error, is final: the
// answer to the caller is already in the output, the driver flushes and closes.
func (c *Conn) Feed(_ int64, p []byte) error {
	if c.closing {
		return c.err
	}
	if len(c.in) > c.pos {
		if c.pos > 0 {
			c.in = c.in[:copy(c.in, c.in[c.pos:])]
			c.pos = 0
		}
		c.in = append(c.in, p...)
		c.cur, c.own = c.in, true
	} else {
		c.cur, c.own = p, false
	}
	c.run()
	return c.err
}

// resume parses input that had to wait, unless a caller up the stack does.
func (c *Conn) resume() {
	if c.depth > 0 || c.closing || len(c.in) == c.pos || c.state != stTunnel && (c.state != stStart || c.room() <= 0) {
		return
	}
	c.cur, c.own = c.in[c.pos:], true
	c.run()
}

func (c *Conn) run() {
	c.depth++
	more := true
	for more && !c.closing && len(c.cur) > 0 {
		var r refusal
		if more, r = c.step(); r.refused() {
			c.refuse(r)
		}
	}
	c.depth--
	switch {
	case c.closing || len(c.cur) == 0:
		c.in, c.pos, c.scan = c.in[:0], 0, 0
		if cap(c.in) > keepBytes {
			c.in = nil
		}
	case c.own:
		c.pos = len(c.in) - len(c.cur)
	default:
		c.in, c.pos = append(c.in[:0], c.cur...), 0
	}
	c.cur = nil
	c.noteReading()
}

// step consumes the next piece of cur. more is false when it needs more input or
// has to wait.
func (c *Conn) step() (more bool, r refusal) {
	switch c.state {
	case stStart:
		return c.startLine()
	case stFields, stTrailers:
		return c.fieldLine()
	case stLength:
		c.bodyBytes(stDone)
	case stChunkSize:
		return c.chunkSize()
	case stChunkData:
		c.bodyBytes(stChunkEnd)
	case stChunkEnd:
		return c.chunkEnd()
	case stUntilEOF:
		p := c.cur
		c.cur = nil
		c.deliver(p, false)
	case stTunnel:
		c.tunnelBytes()
	case stDone:
		if c.server && (c.keep || c.s.Upgrade != "" && !c.s.headDone) {
			return false, refusal{}
		}
		// After a request that was the last one, or more than the one response
		// that was asked for: neither may be taken for a message.
		c.keep, c.cur = false, nil
		c.settle()
	case stDiscard:
		c.cur = nil
	}
	return true, refusal{}
}

// nextLine takes a line off cur, without its CRLF. ok is false when there is no
// complete line of at most limit bytes: long tells whether there can be none.
func (c *Conn) nextLine(limit int) (line []byte, ok, long bool, r refusal) {
	i := bytes.IndexByte(c.cur[c.scan:], '\n')
	if i < 0 {
		c.scan = len(c.cur)
		return nil, false, len(c.cur) >= limit, refusal{}
	}
	n := c.scan + i
	c.scan = 0
	switch {
	case n+1 > limit:
		return nil, false, true, refusal{}
	case n == 0 || c.cur[n-1] != '\r':
		return nil, false, false, bad("line ends in a bare LF")
	}
	line, c.cur = c.cur[:n-1], c.cur[n+1:]
	return line, true, false, refusal{}
}

// startLine reads a request line or a status line.
func (c *Conn) startLine() (more bool, r refusal) {
	m := &c.msg
	if c.server {
		if c.room() <= 0 {
			return false, refusal{} // the caller does not read its responses: RFC 9112 section 9.3.2 lets it wait
		}
	} else {
		if !c.s.live || !c.s.headDone {
			return false, bad("bytes that no request asked for")
		}
		c.s.answered = true
	}
	if m.bytes == 0 {
		m.line = 1
	}
	// What cannot be HTTP at all, TLS for example, need not wait for a line end.
	if b := c.cur[0]; b != '\r' && b != '\n' && !field.ValidName(c.cur[:1]) {
		return false, bad("not an HTTP/1.1 message: its first byte is no letter")
	}
	line, ok, long, r := c.nextLine(c.cfg.MaxHeaderBytes - m.bytes)
	switch {
	case long:
		return false, refusal{414, "start line over the limit"}
	case !ok:
		return false, r
	}
	m.bytes += len(line) + 2
	if c.server && len(line) == 0 && !m.blank { // RFC 9112 section 2.2
		m.blank = true
		m.line++
		return true, refusal{}
	}
	c.beginHead()
	if c.server {
		r = c.requestLine(line)
	} else {
		r = c.statusLine(line)
	}
	if r.refused() {
		return false, r
	}
	m.line++
	c.state = stFields
	return true, refusal{}
}

func (c *Conn) beginHead() {
	c.head.Void()
	c.raw.Void()
	c.target, c.host, c.upgrade = c.target[:0], c.host[:0], c.upgrade[:0]
	c.expect, c.nominated = c.expect[:0], c.nominated[:0]
}

// refuse ends the connection because of what the peer sent, and in server role
// says so while a response can still be begun.
func (c *Conn) refuse(r refusal) {
	s := &c.s
	e := &Error{Status: r.status, Reason: r.reason}
	switch c.state {
	case stStart, stFields, stTrailers:
		e.Line = c.msg.line
	case stChunkSize, stChunkEnd:
		e.ChunkFlood = r.reason == chunkLine || r.reason == chunkFraming
		e.Reason = "chunk " + strconv.Itoa(c.msg.chunk+1) + ": " + r.reason
	}
	switch {
	case !c.server:
		e.Status = 0
	case !s.live || !s.headDone:
		c.writeError(e)
	}
	c.err = e
	if s.live && s.headDone && !s.wDone {
		c.aborted = true
	}
	c.close()
	c.lose(&StreamError{Code: ProtocolError, Unprocessed: !c.server && !s.headDone, Reason: e.Error()})
}
