package proxy

import "math/rand/v2"

// appendUUID appends a random UUID (RFC 9562 section 5.4). It names a request in
// logs and is no secret.
func appendUUID(dst []byte) []byte {
	const hex = "0123456789abcdef"
	hi, lo := rand.Uint64(), rand.Uint64()
	hi = hi&^0xf000 | 0x4000 // version 4
	lo = lo&^(3<<62) | 1<<63 // variant 10
	for i := range 32 {
		switch i {
		case 8, 12, 16, 20:
			dst = append(dst, '-')
		}
		n := hi
		if i >= 16 {
			n = lo
		}
		dst = append(dst, hex[n>>(60-4*(i%16))&15])
	}
	return dst
}
