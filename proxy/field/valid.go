package field

import "encoding/binary"

// tchar is RFC 9110 section 5.6.2; upper holds its capital letters.
var tchar, upper, vchar [256]bool

func init() {
	for c := '0'; c <= '9'; c++ {
		tchar[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		tchar[c], tchar[c-32], upper[c-32] = true, true, true
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		tchar[c] = true
	}
	for c := range 256 { // field-vchar, obs-text, SP and HTAB
		vchar[c] = c >= 0x20 && c != 0x7f || c == '\t'
	}
}

// ValidName reports whether name is a non-empty token (RFC 9110 section 5.1),
// in either case.
func ValidName(name []byte) bool {
	for _, c := range name {
		if !tchar[c] {
			return false
		}
	}
	return len(name) > 0
}

// ValidLowerName reports whether name is a token without capitals, as HTTP/2
// demands (RFC 9113 section 8.2.1).
func ValidLowerName(name []byte) bool {
	for _, c := range name {
		if !tchar[c] || upper[c] {
			return false
		}
	}
	return len(name) > 0
}

// ValidValue reports whether value holds no control character but HTAB and does
// not start or end with white space (RFC 9113 section 8.2.1, RFC 9110 section 5.5).
func ValidValue(value []byte) bool {
	if n := len(value); n > 0 {
		if c := value[0]; c == ' ' || c == '\t' {
			return false
		}
		if c := value[n-1]; c == ' ' || c == '\t' {
			return false
		}
	}
	for len(value) >= 8 {
		if suspect(binary.LittleEndian.Uint64(value)) && !allVchar(value[:8]) {
			return false
		}
		value = value[8:]
	}
	return allVchar(value)
}

// suspect reports whether one of eight bytes is a control character, HTAB
// included.
func suspect(eight uint64) bool {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	del := eight ^ 0x7f*ones
	return ((eight-0x20*ones)&^eight|(del-ones)&^del)&tops != 0
}

func allVchar(value []byte) bool {
	for _, c := range value {
		if !vchar[c] {
			return false
		}
	}
	return true
}

// ASCII reports whether b is ASCII alone.
func ASCII(b []byte) bool {
	const tops = 0x8080808080808080
	for len(b) >= 8 {
		if binary.LittleEndian.Uint64(b)&tops != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

// AppendLower appends name in lower case to dst.
func AppendLower(dst, name []byte) []byte {
	for _, c := range name {
		if upper[c] {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}
