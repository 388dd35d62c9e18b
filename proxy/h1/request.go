package h1

import (
	"bytes"
	"strings"

	"github.com/quadnine/quadnine/proxy/field"
)

var (
	methodName    = []byte(":method")
	authorityName = []byte(":authority")
	pathName      = []byte(":path")
	statusName    = []byte(":status")
	expectName    = []byte("expect")
	continueBytes = []byte("100-continue")
)

// requestLine parses a request line (RFC 9112 section 3).
func (c *Conn) requestLine(line []byte) refusal {
	i, j := bytes.IndexByte(line, ' '), bytes.LastIndexByte(line, ' ')
	if i < 0 || i == j {
		return bad("request line is not method, target and version")
	}
	method, target, version := line[:i], line[i+1:j], line[j+1:]
	if !field.ValidName(method) {
		return bad("method is not a token")
	}
	c.msg.isHead = string(method) == "HEAD"
	switch string(version) {
	case "HTTP/1.1":
		c.msg.minor = 1
	case "HTTP/1.0":
	default:
		if len(version) == 8 && string(version[:5]) == "HTTP/" && version[6] == '.' && digit(version[5]) && digit(version[7]) {
			return refusal{505, "version is not HTTP/1.1 or HTTP/1.0"}
		}
		return bad("version is not HTTP/1.1 or HTTP/1.0")
	}
	c.head.AddBytes(methodName, method)
	return c.takeTarget(string(method) == "CONNECT", string(method) == "OPTIONS", target)
}

func digit(b byte) bool { return '0' <= b && b <= '9' }

// takeTarget checks the request-target (RFC 9112 section 3.2) and keeps it.
func (c *Conn) takeTarget(connect, options bool, target []byte) refusal {
	for _, b := range target {
		if b <= ' ' || b == 0x7f {
			return bad("space or control character in the target")
		}
		if b == '#' {
			return bad("fragment in the target")
		}
	}
	switch {
	case connect:
		return refusal{501, "CONNECT is not supported"}
	case len(target) == 0:
		return bad("target is empty")
	case target[0] == '/', len(target) == 1 && target[0] == '*' && options:
		c.target = append(c.target[:0], target...)
		return refusal{}
	}
	rest, ok := c.cutScheme(target)
	if !ok {
		return bad("target is neither a path nor an absolute URL of this connection's scheme")
	}
	n := bytes.IndexAny(rest, "/?")
	if n < 0 {
		n = len(rest)
	}
	if !field.ValidAuthority(rest[:n]) {
		return bad("target's host is malformed")
	}
	c.msg.absolute, c.msg.authority = true, n
	c.target = append(c.target[:0], rest[:n]...)
	switch {
	case n == len(rest) && options: // RFC 9112 section 3.2.4
		c.target = append(c.target, '*')
	case n == len(rest) || rest[n] == '?':
		c.target = append(c.target, '/')
	}
	c.target = append(c.target, rest[n:]...)
	return refusal{}
}

// cutScheme takes "http://" off an absolute-form target.
func (c *Conn) cutScheme(target []byte) (rest []byte, ok bool) {
	n := len(c.cfg.Scheme)
	if len(target) < n+3 || !strings.EqualFold(string(target[:n]), c.cfg.Scheme) || string(target[n:n+3]) != "://" {
		return nil, false
	}
	return target[n+3:], true
}

// endRequestHead checks the head as a whole and starts the exchange.
func (c *Conn) endRequestHead() refusal {
	m := &c.msg
	switch {
	case m.hosts > 1:
		return bad("more than one host")
	case m.hosts == 0 && m.minor == 1:
		return bad("host is missing")
	case m.hosts == 1 && !field.ValidAuthority(c.host):
		return bad("host is malformed")
	}
	if r := m.framing(); r.refused() {
		return r
	}
	expects := false
	if m.minor == 1 && len(c.expect) > 0 { // RFC 9110 section 10.1.1
		if !bytes.EqualFold(c.expect, continueBytes) {
			return refusal{417, "expectation other than 100-continue"}
		}
		expects = !c.cfg.PassExpect
		if c.cfg.PassExpect {
			c.raw.AddBytes(expectName, continueBytes)
		}
	}
	s := c.beginRequest()
	if m.minor == 1 && m.upgrade && len(c.upgrade) > 0 {
		s.Upgrade = string(c.upgrade)
	}
	end := false
	switch {
	case m.chunked:
		c.state = stChunkSize
	case m.length > 0:
		c.state, m.left = stLength, m.length
	default:
		end = true
		c.endRead()
	}
	c.h.OnHead(s, &c.head, end)
	if expects && !s.rEnd && s.live && !s.headDone {
		c.out = append(c.out, "HTTP/1.1 100 Continue\r\n\r\n"...)
		c.touch()
	}
	c.settle()
	return refusal{}
}

// beginRequest completes head and makes the stream for it.
func (c *Conn) beginRequest() *Stream {
	m, s := &c.msg, &c.s
	c.head.Add(":scheme", c.cfg.Scheme)
	path := c.target
	switch {
	case m.absolute: // whatever the host field says (RFC 9112 section 3.2.2)
		c.head.AddBytes(authorityName, c.target[:m.authority])
		path = c.target[m.authority:]
	case len(c.host) > 0:
		c.head.AddBytes(authorityName, c.host)
	}
	c.head.AddBytes(pathName, path)
	c.copyFields()
	s.begin()
	s.isHead, s.old = m.isHead, m.minor == 0
	c.keep = m.minor == 1 && !m.close
	return s
}

// tooLarge ends a head or trailer section that is over a limit. A request whose
// target is known becomes a stream, so that its owner answers 431 and counts it.
func (c *Conn) tooLarge(reason string) (more bool, r refusal) {
	if !c.server || c.state == stTrailers {
		return false, refusal{431, reason}
	}
	if c.msg.hosts != 1 || !field.ValidAuthority(c.host) {
		c.host = c.host[:0]
	}
	s := c.beginRequest()
	s.TooLarge = true
	c.endRead()
	c.state, c.keep, c.cur = stDiscard, false, nil
	c.h.OnHead(s, &c.head, true)
	c.settle()
	return true, refusal{}
}
