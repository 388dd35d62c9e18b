package h2

import (
	"bytes"

	"github.com/quadnine/quadnine/proxy/field"
)

type request struct {
	head    bool  // the method is HEAD
	connect bool  // it is CONNECT
	length  int64 // content-length, or noLength
}

// pseudo-header fields of a request, as bits of what was seen.
const (
	pMethod = 1 << iota
	pScheme
	pAuthority
	pPath
	pProtocol
)

// checkRequest judges the received head in c.head (RFC 9113 section 8.3.1). The
// list it returns has :authority whenever the request names a host, and no host
// field. Of a cut list only what is there is judged.
func (c *Conn) checkRequest(cut bool) (r request, head *field.List, bad string) {
	head = &c.head
	r.length = noLength
	seen, host, regular := 0, -1, false
	spans := head.Spans()
	for i := range spans {
		kind := spans[i].Kind
		if kind == kindPlain {
			regular = true
			continue
		}
		name := head.Name(i)
		if len(name) == 0 || name[0] != ':' {
			regular = true
			if bad = checkField(head, i, &r.length); bad != "" {
				return r, head, bad
			}
			if string(name) == "host" {
				if host >= 0 {
					return r, head, "more than one host"
				}
				host = i
			}
			continue
		}
		if regular {
			return r, head, "a pseudo-header field follows a field"
		}
		bit := pseudoBits[kind]
		if bit == 0 {
			bit, bad = c.checkPseudo(string(name), head.Value(i))
		}
		switch {
		case bad != "":
			return r, head, bad
		case seen&bit != 0:
			return r, head, "a pseudo-header field is repeated"
		}
		seen |= bit
	}
	method := head.Get(":method")
	r.head, r.connect = string(method) == "HEAD", string(method) == "CONNECT"
	if !cut {
		if bad = checkTarget(head, method, seen, host >= 0); bad != "" {
			return r, head, bad
		}
	}
	if host >= 0 {
		if head, bad = c.foldHost(host, seen); bad != "" {
			return r, head, bad
		}
	}
	return r, head, ""
}

// checkPseudo judges one pseudo-header field of a request by itself.
func (c *Conn) checkPseudo(name string, value []byte) (bit int, bad string) {
	switch name {
	case ":method":
		if !field.ValidName(value) {
			return 0, ":method is not a token"
		}
		return pMethod, ""
	case ":scheme":
		if !validScheme(value) {
			return 0, ":scheme is not valid"
		}
		return pScheme, ""
	case ":authority":
		if !field.ValidAuthority(value) {
			return 0, ":authority is not valid"
		}
		return pAuthority, ""
	case ":path":
		if !field.ValidPath(value) {
			return 0, ":path is not valid"
		}
		return pPath, ""
	case ":protocol":
		if !c.cfg.ExtendedConnect || !field.ValidName(value) {
			return 0, ":protocol is not allowed"
		}
		return pProtocol, ""
	}
	return 0, "an unknown pseudo-header field"
}

// checkTarget judges the pseudo-header fields together.
func checkTarget(head *field.List, method []byte, seen int, host bool) string {
	connect := string(method) == "CONNECT"
	switch {
	case seen&pMethod == 0:
		return ":method is missing"
	case seen&pProtocol != 0 && !connect:
		return ":protocol without CONNECT"
	case connect && seen&pAuthority == 0: // RFC 9113 section 8.5
		return "CONNECT without :authority"
	case connect && head.Has("content-length"): // RFC 9110 section 9.3.6
		return "CONNECT with content-length"
	case connect && seen&pProtocol == 0:
		if seen&(pScheme|pPath) != 0 {
			return "CONNECT with :scheme or :path"
		}
		return ""
	case seen&pScheme == 0:
		return ":scheme is missing"
	case seen&pPath == 0:
		return ":path is missing"
	case string(head.Get(":path")) == "*" && string(method) != "OPTIONS":
		return ":path is * and the method is not OPTIONS"
	case seen&pAuthority == 0 && !host:
		return "neither :authority nor host"
	}
	return ""
}

// foldHost makes :authority the only name of the host (RFC 9113 section 8.3.1).
func (c *Conn) foldHost(host, seen int) (head *field.List, bad string) {
	head = &c.head
	value := head.Value(host)
	if !field.ValidAuthority(value) {
		return head, "host is not valid"
	}
	if seen&pAuthority != 0 {
		if !bytes.EqualFold(value, head.Get(":authority")) {
			return head, "host differs from :authority"
		}
		head.DelAt(host)
		return head, ""
	}
	c.spare.Reset()
	added := false
	for i := range head.Len() {
		name := head.Name(i)
		if !added && (len(name) == 0 || name[0] != ':') {
			c.spare.AddBytes([]byte(":authority"), value)
			added = true
		}
		if i == host || name == nil {
			continue
		}
		c.spare.AddBytes(name, head.Value(i))
		if head.Sensitive(i) {
			c.spare.SetSensitive(c.spare.Len() - 1)
		}
	}
	return &c.spare, ""
}

// validScheme: RFC 3986 section 3.1.
func validScheme(p []byte) bool {
	for i, b := range p {
		switch {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z':
		case i > 0 && ('0' <= b && b <= '9' || b == '+' || b == '-' || b == '.'):
		default:
			return false
		}
	}
	return len(p) > 0
}
