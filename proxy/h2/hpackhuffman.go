package h2

import (
	"errors"

	"golang.org/x/net/http2/hpack"
)

// huffmanBits is how many bits one table look-up takes: 90 % of the symbols in
// header fields have codes that short.
const huffmanBits = 10

// huffman decodes RFC 7541 appendix B. The code is canonical: of one length the
// codes count up, so that long codes need only the first of each length.
type huffman struct {
	short   [1 << huffmanBits]struct{ symbol, length uint8 } // length 0: the code is longer
	first   [31]uint32                                       // the first code of that length
	count   [31]uint32
	base    [31]int // where its symbols begin in symbols
	symbols [256]uint8
}

// codes is made from x/net's encoder: a symbol written eight times takes as many
// bytes as its code has bits.
var codes = func() *huffman {
	h := new(huffman)
	var code [256]uint32
	var length [256]int
	for s := range 256 {
		eight := [8]byte{byte(s), byte(s), byte(s), byte(s), byte(s), byte(s), byte(s), byte(s)}
		b := hpack.AppendHuffmanString(nil, string(eight[:]))
		length[s] = len(b)
		bits := uint64(0)
		for i := range 8 {
			bits <<= 8
			if i < len(b) {
				bits |= uint64(b[i])
			}
		}
		code[s] = uint32(bits >> (64 - length[s]))
	}
	n := 0
	for l := 1; l <= 30; l++ {
		h.base[l] = n
		h.first[l] = 1 << 31
		for s := range 256 {
			if length[s] == l {
				h.first[l] = min(h.first[l], code[s])
				h.count[l]++
			}
		}
		for c := range h.count[l] {
			for s := range 256 {
				if length[s] == l && code[s] == h.first[l]+c {
					h.symbols[n] = uint8(s)
					n++
				}
			}
		}
	}
	for s := range 256 {
		if l := length[s]; l <= huffmanBits {
			from := code[s] << (huffmanBits - l)
			for i := range uint32(1) << (huffmanBits - l) {
				h.short[from+i] = struct{ symbol, length uint8 }{uint8(s), uint8(l)}
			}
		}
	}
	return h
}()

var errHuffman = errors.New("invalid Huffman code")

// appendHuffman appends the decoded p to dst. Padding must be shorter than eight
// bits and all ones (RFC 7541 section 5.2).
func appendHuffman(dst, p []byte) ([]byte, error) {
	var bits uint64 // left-aligned
	n := uint(0)    // of them valid
	for {
		for n <= 56 && len(p) > 0 {
			bits |= uint64(p[0]) << (56 - n)
			p = p[1:]
			n += 8
		}
		if e := codes.short[bits>>(64-huffmanBits)]; e.length > 0 && uint(e.length) <= n {
			dst = append(dst, e.symbol)
			bits <<= e.length
			n -= uint(e.length)
			continue
		}
		if n < 8 && bits == ^uint64(0)<<(64-n) {
			return dst, nil // padding, or nothing left
		}
		l := uint(huffmanBits + 1)
		for ; l <= 30 && l <= n; l++ {
			if i := uint32(bits>>(64-l)) - codes.first[l]; i < codes.count[l] {
				dst = append(dst, codes.symbols[codes.base[l]+int(i)])
				break
			}
		}
		if l > 30 || l > n {
			return dst, errHuffman
		}
		bits <<= l
		n -= l
	}
}
