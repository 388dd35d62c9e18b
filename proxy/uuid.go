package proxy

import (
	"encoding/binary"
	"math/rand/v2"
)

// appendUUID appends a random UUID (RFC 9562 section 5.4). It names a request in
// logs and is no secret.
func appendUUID(dst []byte) []byte {
	hi, lo := rand.Uint64(), rand.Uint64()
	hi = hi&^0xf000 | 0x4000 // version 4
	lo = lo&^(3<<62) | 1<<63 // variant 10
	var hex [32]byte
	for i, n := range [...]uint64{hi >> 32, hi & 0xffffffff, lo >> 32, lo & 0xffffffff} {
		binary.BigEndian.PutUint64(hex[8*i:], hexOf(n))
	}
	var u [36]byte
	copy(u[:8], hex[:8])
	u[8] = '-'
	copy(u[9:13], hex[8:12])
	u[13] = '-'
	copy(u[14:18], hex[12:16])
	u[18] = '-'
	copy(u[19:23], hex[16:20])
	u[23] = '-'
	copy(u[24:], hex[20:])
	return append(dst, u[:]...)
}

// hexOf returns the eight digits of n, which has 32 bits, a byte each: all at
// once, as a loop over them is the dearest part of a request's new fields.
func hexOf(n uint64) uint64 {
	const ones = 0x0101010101010101
	n = (n | n<<16) & 0x0000ffff0000ffff
	n = (n | n<<8) & 0x00ff00ff00ff00ff
	n = (n | n<<4) & (0x0f * ones)
	letters := (n + 6*ones) >> 4 & ones
	return n + '0'*ones + ('a'-'0'-10)*letters
}
