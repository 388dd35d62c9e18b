package h1

import (
	"bytes"
	"strings"
)

// validHost checks uri-host [ ":" port ] (RFC 9110 section 7.2, RFC 3986
// section 3.2.2). User information is not part of it.
func validHost(v []byte) bool {
	host, port := v, []byte(nil)
	if len(v) > 0 && v[0] == '[' {
		i := bytes.IndexByte(v, ']')
		if i < 2 {
			return false
		}
		for _, b := range v[1:i] {
			if !hostByte(b) && b != ':' {
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
		if i > 0 && !digit(b) {
			return false
		}
	}
	return len(host) > 0
}

func validRegName(v []byte) bool {
	for i, b := range v {
		switch {
		case hostByte(b):
		case b == '%' && i+2 < len(v) && unhex(v[i+1]) >= 0 && unhex(v[i+2]) >= 0:
		default:
			return false
		}
	}
	return true
}

// hostByte is unreserved or sub-delims of RFC 3986 section 2.
func hostByte(b byte) bool {
	switch {
	case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', digit(b):
		return true
	}
	return strings.IndexByte("-._~!$&'()*+,;=", b) >= 0
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
