package h1

import "github.com/quadnine/quadnine/proxy/field"

// maxHints bounds the 1xx heads of one exchange: a server that sends nothing
// else would otherwise keep it open for ever.
const maxHints = 64

// statusLine parses a status line (RFC 9112 section 4). The reason phrase, and
// the space before an empty one, mean nothing and may be missing.
func (c *Conn) statusLine(line []byte) refusal {
	m := &c.msg
	if len(line) < 12 || string(line[:8]) != "HTTP/1.1" && string(line[:8]) != "HTTP/1.0" || line[8] != ' ' {
		return bad("status line does not start with HTTP/1.1 or HTTP/1.0")
	}
	m.minor = line[7] - '0'
	code := line[9:12]
	if !digit(code[0]) || !digit(code[1]) || !digit(code[2]) || len(line) > 12 && line[12] != ' ' {
		return bad("status is not three digits")
	}
	m.status = int(code[0]-'0')*100 + int(code[1]-'0')*10 + int(code[2]-'0')
	if m.status < 100 || m.status > 599 { // RFC 9110 section 15
		return bad("status is outside 100 to 599")
	}
	if !field.ValidValue(trim(line[12:])) {
		return bad("control character in the reason phrase")
	}
	c.head.AddBytes(statusName, code)
	return refusal{}
}

// endResponseHead checks the head as a whole and brings it to the owner.
func (c *Conn) endResponseHead() refusal {
	m, s := &c.msg, &c.s
	if r := m.framing(); r.refused() {
		return r
	}
	if m.status < 200 {
		return c.endHint()
	}
	c.keep = c.keep && m.minor == 1 && !m.close
	if m.status == 204 {
		// It has no body, so these fields are wrong. Whether the server thinks
		// there is one is unknown: the connection cannot be used again.
		if c.raw.Del("content-length") > 0 && m.length > 0 || m.chunked {
			c.keep = false
		}
	}
	c.copyFields()
	end := false
	switch { // RFC 9112 section 6.3
	case s.isHead || m.status == 204 || m.status == 304 || m.lengths == 1 && m.length == 0:
		end = true
		c.endRead()
	case m.chunked:
		c.state = stChunkSize
	case m.lengths == 1:
		c.state, m.left = stLength, m.length
	default:
		c.state, c.keep = stUntilEOF, false
	}
	if s.owned {
		c.h.OnHead(s, &c.head, end)
	}
	c.settle()
	return refusal{}
}

// endHint brings a 1xx head to the owner and waits for the next one.
func (c *Conn) endHint() refusal {
	hints := c.msg.hints + 1
	switch {
	case c.msg.status == 101:
		return c.switchClient()
	case hints > maxHints:
		return bad("too many 1xx responses")
	}
	c.raw.Del("content-length") // RFC 9110 section 8.6: it must not be here
	c.copyFields()
	c.msg = message{hints: hints}
	c.state = stStart
	if c.s.owned {
		c.h.OnHead(&c.s, &c.head, false)
	}
	return refusal{}
}
