package h1

import (
	"strconv"

	"github.com/quadnine/quadnine/proxy/field"
)

// WriteHead writes a response's head (":status" first; 1xx heads may precede the
// final one, with end false; 101 is one where Upgrade allows it) or a request's (":method", ":authority", ":path").
// Connection-specific fields are left out, deleted ones skipped. The body is
// delimited by the list's content-length, else by chunks, for an HTTP/1.0 caller
// by the end of the connection. A head that cannot be sent aborts the exchange.
func (s *Stream) WriteHead(head *field.List, end bool) {
	if !s.usable() || s.headDone {
		return
	}
	mark := len(s.c.out)
	var why string
	if s.c.server {
		why = s.writeResponse(head, end)
	} else {
		why = s.writeRequest(head, end)
	}
	if why != "" {
		s.c.out = s.c.out[:mark]
		s.headDone = false
		s.fail(why)
		return
	}
	s.c.touch()
	if end && s.headDone {
		s.wEnd, s.wDone = true, true
		s.c.settle()
	}
}

// Whole says that all of the message is there that the next WriteHead begins. A
// response that is over before its request ends the connection, and its head
// can then say so.
func (s *Stream) Whole() { s.whole = true }

func (s *Stream) writeResponse(head *field.List, end bool) (why string) {
	c := s.c
	code := head.Get(":status")
	if len(code) != 3 || code[0] < '1' || code[0] > '9' || !digit(code[1]) || !digit(code[2]) {
		return ":status is not three digits"
	}
	hint := code[0] == '1'
	switch {
	case hint && end:
		return "1xx response that ends the exchange"
	case string(code) == "101":
		return s.switchServer(head)
	case hint && s.old: // RFC 9110 section 15.2
		return ""
	}
	status := int(code[0]-'0')*100 + int(code[1]-'0')*10 + int(code[2]-'0')
	c.out = appendStatusLine(c.out, status)
	length, why := c.appendFields(head, hint || status == 204)
	if why != "" {
		return why
	}
	if hint {
		c.out = append(c.out, "\r\n"...)
		return ""
	}
	s.headDone = true
	switch {
	case s.isHead || status == 204 || status == 304:
		s.mode = modeNone
	case length >= 0:
		s.mode, s.left = modeLength, length
	case end:
		s.mode = modeLength
		c.out = append(c.out, "content-length: 0\r\n"...)
	case s.old:
		s.mode = modeClose // keep is false for such a caller
	default:
		s.mode = modeChunked
		c.out = append(c.out, "transfer-encoding: chunked\r\n"...)
	}
	if end && s.left > 0 {
		return "response ends before its content-length"
	}
	if c.shut || (end || s.whole) && !s.rEnd && !c.restIsHere() {
		c.keep = false
	}
	if !c.keep {
		c.out = append(c.out, "connection: close\r\n"...)
	}
	c.out = append(c.out, "\r\n"...)
	return ""
}

func (s *Stream) writeRequest(head *field.List, end bool) (why string) {
	c := s.c
	method, path := head.Get(":method"), head.Get(":path")
	host := head.Get(":authority")
	if host == nil {
		host = head.Get("host")
	}
	switch {
	case !field.ValidName(method) || string(method) == "CONNECT":
		return ":method is missing, malformed or CONNECT"
	case !field.ValidPath(path):
		return ":path is missing or malformed"
	case len(host) > 0 && !field.ValidAuthority(host):
		return ":authority is malformed"
	}
	s.isHead = string(method) == "HEAD"
	c.out = append(c.out, method...)
	c.out = append(c.out, ' ')
	c.out = append(c.out, path...)
	c.out = append(c.out, " HTTP/1.1\r\nhost: "...)
	c.out = append(c.out, host...)
	c.out = append(c.out, "\r\n"...)
	length, why := c.appendFields(head, false)
	if why != "" {
		return why
	}
	if s.Upgrade != "" {
		if !validProtocols([]byte(s.Upgrade)) {
			return "the protocol to change to is malformed"
		}
		c.out = append(c.out, "connection: upgrade\r\n"...)
		c.out = appendField(c.out, upgradeName, []byte(s.Upgrade))
	}
	s.headDone = true
	switch {
	case length >= 0:
		s.mode, s.left = modeLength, length
	case !end:
		s.mode = modeChunked
		c.out = append(c.out, "transfer-encoding: chunked\r\n"...)
	case string(method) == "POST" || string(method) == "PUT" || string(method) == "PATCH": // RFC 9110 section 8.6
		c.out = append(c.out, "content-length: 0\r\n"...)
	}
	if end && s.left > 0 {
		return "request ends before its content-length"
	}
	c.out = append(c.out, "\r\n"...)
	return ""
}

// appendFields writes head's end-to-end fields and returns its content-length,
// -1 when there is none. noLength leaves it out.
func (c *Conn) appendFields(head *field.List, noLength bool) (length int64, why string) {
	length = -1
	for i := range head.Len() {
		name, value := head.Name(i), head.Value(i)
		if len(name) == 0 || name[0] == ':' {
			continue
		}
		switch string(name) {
		case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "http2-settings":
			continue
		case "host":
			if !c.server {
				continue
			}
		case "te":
			if c.server || string(value) != "trailers" {
				continue
			}
			c.out = append(c.out, "connection: te\r\n"...) // RFC 9110 section 10.1.4
		case "content-length":
			if noLength {
				continue
			}
			n, ok := parseLength(value)
			if !ok || length >= 0 {
				return -1, "content-length is not one decimal number"
			}
			length = n
		}
		if !field.ValidName(name) || !field.ValidValue(value) {
			return -1, "field " + strconv.Quote(string(name)) + " cannot be sent"
		}
		c.out = appendField(c.out, name, value)
	}
	return length, ""
}

func appendField(dst, name, value []byte) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, value...)
	return append(dst, "\r\n"...)
}

// writeError answers a request that was refused, in one line that says why.
func (c *Conn) writeError(e *Error) {
	text := e.Error()
	c.out = appendStatusLine(c.out, e.Status)
	c.out = append(c.out, "content-type: text/plain; charset=utf-8\r\ncontent-length: "...)
	c.out = strconv.AppendInt(c.out, int64(len(text)+1), 10)
	c.out = append(c.out, "\r\nconnection: close\r\n\r\n"...)
	if !c.msg.isHead {
		c.out = append(append(c.out, text...), '\n')
	}
	c.touch()
}
