package h2

import (
	"encoding/binary"
	"errors"
	"slices"

	"golang.org/x/net/http2/hpack"
)

// huffmanBits is how many bits one look-up takes. Codes of the symbols in header
// fields mostly have 5 to 7 bits, so that one look-up brings two; the table of 16
// KiB stays in the first cache.
const huffmanBits = 12

// huffman decodes RFC 7541 appendix B. The code is canonical: of one length the
// codes count up, so that long codes need only the first of each length.
type huffman struct {
	short   [1 << huffmanBits]step
	first   [31]uint32 // the first code of that length
	count   [31]uint32
	base    [31]int // where its symbols begin in symbols
	symbols [256]uint8
}

// step is what a look-up brings, from its lowest bits up: two symbols (8 bits
// each), the bits that both take (4), those of the first one alone (4), and how
// many symbols there are: none when the code is longer.
type step uint32

func (e step) bits() uint  { return uint(e>>16) & 15 }
func (e step) first() uint { return uint(e>>20) & 15 }
func (e step) count() uint { return uint(e >> 24) }

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
	var one [1 << huffmanBits]struct{ symbol, length uint32 } // the first symbol
	for s := range uint32(256) {
		if l := length[s]; l <= huffmanBits {
			from := code[s] << (huffmanBits - l)
			for i := range uint32(1) << (huffmanBits - l) {
				one[from+i].symbol, one[from+i].length = s, uint32(l)
			}
		}
	}
	for i, f := range one {
		if f.length == 0 {
			continue
		}
		e := f.symbol | f.length<<16 | f.length<<20 | 1<<24
		if s := one[i<<f.length&(1<<huffmanBits-1)]; s.length > 0 && f.length+s.length <= huffmanBits {
			e = f.symbol | s.symbol<<8 | (f.length+s.length)<<16 | f.length<<20 | 2<<24
		}
		h.short[i] = step(e)
	}
	return h
}()

var errHuffman = errors.New("invalid Huffman code")

// appendHuffman appends the decoded p to dst. Padding must be shorter than eight
// bits and all ones (RFC 7541 section 5.2).
func appendHuffman(dst, p []byte) ([]byte, error) {
	short := &codes.short
	n := len(dst)
	most := len(p)*8/5 + 2 // no code is shorter than 5 bits; two symbols are written at a time
	dst = slices.Grow(dst, most)
	out := dst[n : n+most]
	at, o := uint(0), uint(0) // in bits of p, in out
	for int(at/8)+8 <= len(p) {
		w := binary.BigEndian.Uint64(p[at/8:]) << (at % 8) // 57 bits of it are good
		e := short[w>>(64-huffmanBits)]
		if e.count() == 0 {
			symbol, l := codes.long(w, 57)
			if l == 0 {
				return dst, errHuffman
			}
			out[o] = symbol
			o++
			at += l
			continue
		}
		for good := uint(57); ; {
			binary.LittleEndian.PutUint16(out[o:], uint16(e))
			o += e.count()
			at += e.bits()
			w <<= e.bits()
			if good -= e.bits(); good < huffmanBits {
				break
			}
			if e = short[w>>(64-huffmanBits)]; e.count() == 0 {
				break
			}
		}
	}
	var last [8]byte
	copy(last[:], p[at/8:])
	w := binary.BigEndian.Uint64(last[:]) << (at % 8)
	for left := uint(len(p))*8 - at; ; {
		e := short[w>>(64-huffmanBits)]
		if l := e.bits(); e.count() == 2 && l <= left {
			binary.LittleEndian.PutUint16(out[o:], uint16(e))
			o += 2
			w <<= l
			left -= l
			continue
		}
		l := e.first()
		switch {
		case l > 0 && l <= left:
			out[o] = byte(e)
		case left < 8 && w == ^uint64(0)<<(64-left):
			return dst[:n+int(o)], nil // padding, or nothing left
		default:
			if out[o], l = codes.long(w, left); l == 0 {
				return dst, errHuffman
			}
		}
		o++
		w <<= l
		left -= l
	}
}

// long decodes a code of more than huffmanBits bits at the top of w, of which n
// are good, and returns its length, 0 when there is none.
func (h *huffman) long(w uint64, n uint) (symbol byte, length uint) {
	for l := uint(huffmanBits + 1); l <= min(n, 30); l++ {
		if i := uint32(w>>(64-l)) - h.first[l]; i < h.count[l] {
			return h.symbols[h.base[l]+int(i)], l
		}
	}
	return 0, 0
}
