package field

import (
	"bytes"
	"strings"
)

// authorityByte is unreserved and sub-delims of RFC 3986 section 2, pathByte what a
// request's target may hold: no space or control character, which would end or
// split a request line, and no fragment.
var authorityByte, pathByte [256]bool

func init() {
	for c := range 256 {
		alnum := '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		authorityByte[c] = alnum || c < 0x80 && strings.IndexByte("-._~!$&'()*+,;=", byte(c)) >= 0
		pathByte[c] = c > ' ' && c != 0x7f && c != '#'
	}
}

// ValidAuthority reports whether v is uri-host [ ":" port ] (RFC 9110 section 7.2,
// RFC 3986 section 3.2). User information is not part of it, and it is not empty.
func ValidAuthority(v []byte) bool {
	host, port := v, []byte(nil)
	if len(v) > 0 && v[0] == '[' {
		i := bytes.IndexByte(v, ']')
		if i < 2 {
			return false
		}
		for _, b := range v[1:i] {
			if !authorityByte[b] && b != ':' {
				return false
			}
		}
		host, port = v[:i+1], v[i+1:]
	} else {
		if i := bytes.IndexByte(v, ':'); i >= 0 {
			host, port = v[:i], v[i:]
		}
		if !validRegName(host) {
			return false
		}
	}
	if len(port) > 0 && port[0] != ':' {
		return false
	}
	for i, b := range port {
		if i > 0 && (b < '0' || b > '9') {
			return false
		}
	}
	return len(host) > 0
}

func validRegName(v []byte) bool {
	for i, b := range v {
		switch {
		case authorityByte[b]:
		case b == '%' && i+2 < len(v) && isHex(v[i+1]) && isHex(v[i+2]):
		default:
			return false
		}
	}
	return true
}

func isHex(b byte) bool {
	return '0' <= b && b <= '9' || 'a' <= b && b <= 'f' || 'A' <= b && b <= 'F'
}

// ValidPath reports whether p can be a request's :path: one that begins with "/",
// or "*" (RFC 9113 section 8.3.1), without what would end or split a request line.
func ValidPath(p []byte) bool {
	if len(p) == 0 || p[0] != '/' && string(p) != "*" {
		return false
	}
	for _, b := range p {
		if !pathByte[b] {
			return false
		}
	}
	return true
}
