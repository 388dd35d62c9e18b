package h1

import (
	"bytes"

	"github.com/quadnine/quadnine/proxy/field"
)

// fieldLine reads one line of a head or of a trailer section.
func (c *Conn) fieldLine() (more bool, r refusal) {
	m := &c.msg
	line, ok, long, r := c.nextLine(c.cfg.MaxHeaderBytes - m.bytes)
	switch {
	case long:
		return c.tooLarge("head over the limit")
	case !ok:
		return false, r
	}
	m.bytes += len(line) + 2
	if len(line) == 0 {
		if c.state == stTrailers {
			c.endTrailers()
			return true, refusal{}
		}
		if c.server {
			return true, c.endRequestHead()
		}
		return true, c.endResponseHead()
	}
	if m.fields++; m.fields > c.cfg.MaxHeaderFields {
		return c.tooLarge("more fields than the limit")
	}
	name, value, r := splitField(line)
	if r.refused() {
		return false, r
	}
	c.name = field.AppendLower(c.name[:0], name)
	if c.state == stTrailers {
		if field.ForbiddenTrailer(c.name) {
			return false, bad("field not allowed in a trailer section")
		}
		c.raw.AddBytes(c.name, value)
	} else if r = c.takeField(c.name, value); r.refused() {
		return false, r
	}
	m.line++
	return true, refusal{}
}

// splitField cuts a field line (RFC 9112 section 5) into name and value.
func splitField(line []byte) (name, value []byte, r refusal) {
	if line[0] == ' ' || line[0] == '\t' {
		return nil, nil, bad("line folding") // RFC 9112 section 5.2
	}
	i := bytes.IndexByte(line, ':')
	if i < 0 {
		return nil, nil, bad("field line without a colon")
	}
	name = line[:i]
	if i > 0 && (line[i-1] == ' ' || line[i-1] == '\t') {
		return nil, nil, bad("space before colon") // RFC 9112 section 5.1
	}
	if !field.ValidName(name) {
		return nil, nil, bad("field name is not a token")
	}
	value = trim(line[i+1:])
	if !field.ValidValue(value) {
		return nil, nil, bad("control character in a field value")
	}
	return name, value, refusal{}
}

// trim cuts optional white space (RFC 9110 section 5.6.3) off both ends.
func trim(v []byte) []byte {
	for len(v) > 0 && (v[0] == ' ' || v[0] == '\t') {
		v = v[1:]
	}
	for len(v) > 0 && (v[len(v)-1] == ' ' || v[len(v)-1] == '\t') {
		v = v[:len(v)-1]
	}
	return v
}

// takeField files a field of a head: what belongs to this connection alone stays
// here, the rest goes to raw.
func (c *Conn) takeField(name, value []byte) refusal {
	m := &c.msg
	switch string(name) {
	case "host":
		if c.server {
			m.hosts++
			c.host = append(c.host[:0], value...)
			return refusal{}
		}
	case "content-length":
		m.lengths++
		n, ok := parseLength(value)
		if !ok {
			return bad("content-length is not one decimal number")
		}
		m.length = n
	case "transfer-encoding":
		m.codings++
		m.chunked = bytes.EqualFold(value, chunkedBytes)
		if !m.chunked {
			m.coding = codingRefusal(value)
		}
		return refusal{}
	case "connection":
		return c.takeOptions(value)
	case "keep-alive", "proxy-connection":
		return refusal{}
	case "upgrade":
		if len(c.upgrade) > 0 {
			c.upgrade = append(c.upgrade, ", "...)
		}
		c.upgrade = append(c.upgrade, value...)
		return refusal{}
	case "te":
		for rest := value; len(rest) > 0; {
			var e []byte
			e, rest = nextElement(rest)
			m.te = m.te || bytes.EqualFold(e, trailersBytes)
		}
		return refusal{}
	case "trailer": // it announces what would be refused when it came
		for rest := value; len(rest) > 0; {
			var e []byte
			e, rest = nextElement(rest)
			at := len(name)
			c.name = field.AppendLower(name, e)
			if len(e) > 0 && (!field.ValidName(e) || field.ForbiddenTrailer(c.name[at:])) {
				return bad("trailer names a field that is not allowed there")
			}
			name = c.name[:at]
		}
	case "expect":
		if c.server {
			if len(c.expect) > 0 {
				c.expect = append(c.expect, ", "...)
			}
			c.expect = append(c.expect, value...)
			return refusal{}
		}
	}
	c.raw.AddBytes(name, value)
	return refusal{}
}

var (
	chunkedBytes  = []byte("chunked")
	trailersBytes = []byte("trailers")
)

// nextElement cuts the first element off a comma-separated list.
func nextElement(v []byte) (element, rest []byte) {
	element, rest, _ = bytes.Cut(v, []byte{','}) // rest is nil when there is no comma
	return trim(element), rest
}

// takeOptions reads a Connection field's value (RFC 9110 section 7.6.1).
func (c *Conn) takeOptions(value []byte) refusal {
	for len(value) > 0 {
		var e []byte
		e, value = nextElement(value)
		switch {
		case len(e) == 0:
			continue
		case !field.ValidName(e):
			return bad("connection option is not a token")
		}
		at := len(c.nominated)
		c.nominated = field.AppendLower(c.nominated, e)
		switch string(c.nominated[at:]) {
		case "close":
			c.msg.close = true
		case "upgrade":
			c.msg.upgrade = true
		}
		c.nominated = append(c.nominated, ',')
	}
	return refusal{}
}

// isNominated reports whether Connection lists name. The message's framing does
// not belong to a connection, whatever the peer says.
func (c *Conn) isNominated(name []byte) bool {
	if string(name) == "content-length" {
		return false
	}
	for rest := c.nominated; len(rest) > 0; {
		i := bytes.IndexByte(rest, ',')
		if bytes.Equal(rest[:i], name) {
			return true
		}
		rest = rest[i+1:]
	}
	return false
}

// copyFields appends the end-to-end fields of raw to head.
func (c *Conn) copyFields() {
	for i := range c.raw.Len() {
		name := c.raw.Name(i)
		if name == nil || len(c.nominated) > 0 && c.isNominated(name) {
			continue
		}
		c.head.AddBytes(name, c.raw.Value(i))
	}
	if c.msg.te {
		c.head.Add("te", "trailers")
	}
}

// parseLength parses 1*DIGIT that fits an int64: no sign, no list, no space.
func parseLength(v []byte) (n int64, ok bool) {
	if len(v) == 0 || len(v) > 18 {
		return 0, false
	}
	for _, b := range v {
		if b < '0' || b > '9' {
			return 0, false
		}
		n = n*10 + int64(b-'0')
	}
	return n, true
}

// codingRefusal tells a coding we do not have from an attempt to hide one.
func codingRefusal(v []byte) refusal {
	for rest := v; len(rest) > 0; {
		var e []byte
		e, rest = nextElement(rest)
		if !field.ValidName(e) || rest == nil && !bytes.EqualFold(e, chunkedBytes) {
			return bad("transfer-encoding does not end in chunked")
		}
	}
	if len(v) == 0 {
		return bad("transfer-encoding is empty")
	}
	return refusal{501, "transfer coding other than chunked"}
}

// framing checks what the fields say about the body's length (RFC 9112 section 6).
func (m *message) framing() refusal {
	switch {
	case m.lengths > 1:
		return bad("more than one content-length")
	case m.codings > 1:
		return bad("more than one transfer-encoding")
	case m.codings == 1 && m.lengths == 1:
		return bad("both transfer-encoding and content-length")
	case m.codings == 1 && m.minor == 0:
		return bad("transfer-encoding in an HTTP/1.0 message")
	case m.codings == 1 && !m.chunked:
		return m.coding
	}
	return refusal{}
}
