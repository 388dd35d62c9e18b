package proxy

import "bytes"

// The forms of a path that normalize_path, merge_slashes and
// path_with_escaped_slashes_action ask for. They work on the path without its
// query, and give what Envoy gives: its canonical form is that of URLs in
// browsers (escapes of unreserved characters are decoded, backslashes are
// slashes, dot segments are gone).

// unescapeSlashes appends p to dst with %2F and %5C decoded. found reports
// whether there was one.
func unescapeSlashes(dst, p []byte) (out []byte, found bool) {
	for i := 0; i < len(p); i++ {
		if c, ok := unescaped(p, i); ok && (c == '/' || c == '\\') {
			dst, found = append(dst, c), true
			i += 2
			continue
		}
		dst = append(dst, p[i])
	}
	return dst, found
}

// unescaped decodes the escape at p[i:], if there is one.
func unescaped(p []byte, i int) (c byte, ok bool) {
	if p[i] != '%' || i+2 >= len(p) {
		return 0, false
	}
	h, l := unhex(p[i+1]), unhex(p[i+2])
	return h<<4 | l, h < 16 && l < 16
}

// unhex returns what a hexadecimal digit stands for, 16 for any other byte.
func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	default:
		return 16
	}
}

// canonicalPath appends p's canonical form to dst. It reports false for a path
// that has none.
func canonicalPath(dst, p []byte) (out []byte, ok bool) {
	base := len(dst)
	badPercent := -1 // where the output has a percent sign that begins no escape
	for i := 0; i < len(p); {
		c := p[i]
		if c == '/' || c == '\\' {
			if n, up, is := dots(p[i+1:]); is { // the segment that begins here is "." or ".."
				dst = append(dst, '/')
				if up {
					dst = dst[:base+parent(dst[base:])]
				}
				i += 1 + n
				if i < len(p) {
					dst = dst[:len(dst)-1] // the slash that follows is written in its turn
					continue
				}
				continue
			}
			dst = append(dst, '/')
			i++
			continue
		}
		switch {
		case c >= 0x80:
			return dst, false
		case c == '%':
			d, is := unescaped(p, i)
			switch {
			case !is:
				badPercent = len(dst)
				dst = append(dst, c)
				i++
			case d == 0:
				return dst, false
			case unreserved(d):
				dst = append(dst, d)
				i += 3
				dst = nestedEscape(dst, p[i:], badPercent)
			default:
				dst = append(dst, p[i:i+3]...)
				i += 3
			}
		case bytes.IndexByte([]byte(`"<>^`+"`{|}"), c) >= 0:
			const digits = "0123456789ABCDEF"
			dst = append(dst, '%', digits[c>>4], digits[c&15])
			i++
		default:
			dst = append(dst, c)
			i++
		}
	}
	if len(dst) == base {
		dst = append(dst, '/')
	}
	return dst, true
}

// dots tells whether a segment is "." or ".." (up), written plainly or escaped,
// and how long it is. One that is written plainly may have parameters.
func dots(p []byte) (n int, up, is bool) {
	count, plain := 0, true
	for n < len(p) && p[n] != '/' && p[n] != '\\' {
		if p[n] == '.' {
			n++
		} else if c, ok := unescaped(p, n); ok && c == '.' {
			n += 3
			plain = false
		} else if p[n] == ';' && plain && count > 0 {
			if i := bytes.IndexByte(p[n:], '/'); i >= 0 {
				return n + i, count == 2, true
			}
			return len(p), count == 2, true
		} else {
			return 0, false, false
		}
		if count++; count > 2 {
			return 0, false, false
		}
	}
	return n, count == 2, count > 0
}

// parent returns the length of p, which ends in a slash, without its last
// segment.
func parent(p []byte) int {
	if len(p) < 2 {
		return len(p)
	}
	return bytes.LastIndexByte(p[:len(p)-1], '/') + 1
}

// unreserved tells the characters whose escapes are decoded (RFC 3986 section
// 2.3).
func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

// nestedEscape looks whether the character just decoded makes an escape of a
// percent sign that was none: then the sign itself is escaped.
func nestedEscape(dst, rest []byte, percent int) []byte {
	last := len(dst) - 1
	switch {
	case percent < 0 || percent < last-2:
		return dst
	case percent == last-1: // "%c": the next character may complete it
		if len(rest) == 0 || unhex(dst[last]) == 16 || unhex(rest[0]) == 16 {
			return dst
		}
		c := dst[last]
		return append(dst[:last], '2', '5', c)
	case percent == last-2:
		if unhex(dst[last-1]) == 16 || unhex(dst[last]) == 16 {
			return dst
		}
		a, b := dst[last-1], dst[last]
		return append(dst[:last-1], '2', '5', a, b)
	}
	return dst
}

// mergeSlashes appends p to dst with runs of slashes made one. A path of nothing
// but slashes keeps two, as in Envoy.
func mergeSlashes(dst, p []byte) []byte {
	base := len(dst)
	for i, c := range p {
		if c == '/' && i > 0 && p[i-1] == '/' {
			continue
		}
		dst = append(dst, c)
	}
	if len(dst) == base+1 && len(p) > 1 {
		dst = append(dst, '/')
	}
	return dst
}
