package h1

import (
	"bytes"

	"github.com/quadnine/quadnine/proxy/field"
)

// A connection that has changed its protocol (RFC 9110 section 7.8) is a tunnel:
// its stream goes on with the bytes of that protocol as if they were two bodies
// without an end of their own. Neither side can end alone: with the first end
// the connection closes, after what was written before.

var upgradeName = []byte("upgrade")

// switchServer writes the head that changes the caller's connection. What the
// caller has sent beyond its request belongs to the new protocol.
func (s *Stream) switchServer(head *field.List) (why string) {
	c := s.c
	protocol := head.Get("upgrade")
	switch {
	case s.Upgrade == "":
		return "101 to a request that asked for no upgrade"
	case !s.rEnd:
		return "101 before the whole request"
	case !validProtocols(protocol):
		return "101 that names no protocol"
	}
	c.out = appendStatusLine(c.out, 101)
	if _, why = c.appendFields(head, true); why != "" {
		return why
	}
	c.out = append(c.out, "connection: upgrade\r\n"...)
	c.out = appendField(c.out, upgradeName, protocol)
	c.out = append(c.out, "\r\n"...)
	s.headDone = true
	s.tunnel()
	return ""
}

// switchClient looks at a 101 and brings it to the owner.
func (c *Conn) switchClient() refusal {
	s := &c.s
	switch {
	case s.Upgrade == "":
		return bad("101 to a request that asked for no upgrade")
	case !s.wDone:
		return bad("101 before the whole request")
	case c.msg.codings > 0: // RFC 9112 section 6.1
		return bad("101 with a transfer-encoding")
	case !c.msg.upgrade || !offered(s.Upgrade, c.upgrade):
		return bad("101 that changes to no protocol that was asked for")
	}
	c.raw.Del("content-length") // RFC 9110 section 8.6
	c.copyFields()
	c.head.AddBytes(upgradeName, c.upgrade)
	s.tunnel()
	if s.owned {
		c.h.OnHead(s, &c.head, false)
	}
	return refusal{}
}

// tunnel makes what follows, both ways, bytes of another protocol.
func (s *Stream) tunnel() {
	s.tunneled = true
	s.mode = modeClose
	s.rEnd, s.wEnd, s.wDone = false, false, false
	s.c.keep = false
	s.c.state = stTunnel
}

// tunnelBytes brings what came through the tunnel.
func (c *Conn) tunnelBytes() {
	p := c.cur
	c.cur = nil
	c.deliver(p, false)
}

// endTunnel is the end of what the peer sends.
func (c *Conn) endTunnel() {
	s := &c.s
	s.rEnd = true
	c.close()
	if s.owned {
		c.h.OnData(s, nil, true)
	}
	c.settle()
}

// settleTunnel closes the connection once our side has ended.
func (c *Conn) settleTunnel(s *Stream) {
	if s.wDone {
		c.close()
	}
	if s.released() {
		s.live = false
		if !s.wDone && !s.rEnd {
			c.abort()
		}
	}
}

// offered reports whether chosen is one of the protocols in list.
func offered(list string, chosen []byte) bool {
	for rest := []byte(list); len(rest) > 0; {
		var e []byte
		if e, rest = nextElement(rest); len(e) > 0 && bytes.EqualFold(e, chosen) {
			return true
		}
	}
	return false
}

// validProtocols checks the value of an Upgrade field (RFC 9110 section 7.8): a
// list of names, each with a version or without.
func validProtocols(v []byte) bool {
	if len(v) == 0 {
		return false
	}
	for rest := v; len(rest) > 0; {
		var e []byte
		e, rest = nextElement(rest)
		name, version, versioned := bytes.Cut(e, []byte{'/'})
		if !field.ValidName(name) || versioned && !field.ValidName(version) {
			return false
		}
	}
	return true
}
