package driver

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"golang.org/x/net/http2/hpack"
)

// dynamic is the index of the newest entry of the dynamic table (RFC 7541,
// section 2.3.3). A connection's first request adds what all have in common,
// traceparent last; later ones point at it. Path and traceparent are literals
// that are never added, as nghttp2 encodes paths, so the table stays as it is.
const dynamic = 62

// The dynamic table's entries need this many bytes; a peer that allows fewer
// cannot be driven.
const tableNeeded = 512

// blocks makes the header blocks of a run's requests.
type blocks struct {
	first, later []byte   // all but path and traceparent
	paths        [][]byte // ":path" as a literal, Huffman-coded
	unique       bool     // a traceparent of its own for each request
	rng          *rand.ChaCha8
}

// newBlocks encodes what the plan's requests have in common.
func newBlocks(p Plan) *blocks {
	b := &blocks{unique: p.Unique, rng: rand.NewChaCha8([32]byte{1: byte(p.Connections), 2: byte(p.Streams)})}
	added := []field{{1, "", p.Addr}, {58, "", "bench/1.0"}, {19, "", "*/*"}} // :authority, user-agent, accept
	method := byte(0x82)                                                      // :method GET
	if p.Message > 0 {
		method = 0x83 // POST
		added = append(added, field{31, "", "application/grpc"}, field{0, "te", "trailers"})
	}
	if p.Unique {
		added = append(added, field{0, "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"})
	}
	b.first = []byte{method, 0x86} // :scheme http
	b.later = []byte{method, 0x86}
	for i, f := range added {
		b.first = append(b.first, 0x40|f.index)
		if f.index == 0 {
			b.first = appendString(b.first, f.name)
		}
		b.first = appendString(b.first, f.value)
		if f.name != "traceparent" {
			b.later = append(b.later, byte(0x80|(dynamic+len(added)-1-i)))
		}
	}
	for t := range max(p.Tenants, 1) {
		for m := range max(p.Metrics, 1) {
			path := p.Path
			if p.Tenants > 0 {
				path = fmt.Sprintf("%s?tenant=t-%03d&metric=m-%03d", p.Path, t, m)
			}
			b.paths = append(b.paths, appendString([]byte{0x04}, path)) // literal, not added, name 4
		}
	}
	return b
}

// field is one header field; index names it in the static table, 0: name does.
type field struct {
	index       byte
	name, value string
}

// append appends request i's block. Pseudo-header fields come first (RFC 9113,
// section 8.3), so the path goes behind the scheme.
func (b *blocks) append(dst []byte, i int, first bool) []byte {
	head := b.later
	if first {
		head = b.first
	}
	dst = append(dst, head[:2]...)
	dst = append(dst, b.paths[i%len(b.paths)]...)
	dst = append(dst, head[2:]...)
	if b.unique && !first {
		dst = b.appendTraceparent(dst)
	}
	return dst
}

// traceLen is the length of "00-" 32 hex "-" 16 hex "-00".
const traceLen = 3 + 32 + 1 + 16 + 3

// appendTraceparent appends a traceparent of random ids, not sampled: a literal
// that is not added, its name by index, its value Huffman-coded.
func (b *blocks) appendTraceparent(dst []byte) []byte {
	dst = append(dst, 0x0f, dynamic-15, 0) // 0: the length, below
	at := len(dst)
	var acc uint64
	var bits uint
	put := func(c code) {
		acc, bits = acc<<c.bits|uint64(c.value), bits+uint(c.bits)
		for ; bits >= 8; bits -= 8 {
			dst = append(dst, byte(acc>>(bits-8)))
		}
	}
	hexes := func(id uint64) {
		for shift := 56; shift >= 0; shift -= 8 {
			put(hexPairs[byte(id>>shift)])
		}
	}
	put(hexPairs[0])
	put(dash)
	hexes(b.rng.Uint64())
	hexes(b.rng.Uint64())
	put(dash)
	hexes(b.rng.Uint64())
	put(dash)
	put(hexPairs[0])
	if bits > 0 { // filled up with ones (RFC 7541, section 5.2)
		dst = append(dst, byte(acc<<(8-bits))|byte(1<<(8-bits)-1))
	}
	dst[at-1] = 0x80 | byte(len(dst)-at) // at most 55 × 6 bits: below 127 bytes
	return dst
}

// code is a Huffman code, or two behind each other.
type code struct {
	value uint32
	bits  uint8
}

// The codes of RFC 7541, appendix B, for the characters of a traceparent.
var (
	dash     = code{0x16, 6}
	hexCodes = [16]code{{0x0, 5}, {0x1, 5}, {0x2, 5}, {0x19, 6}, {0x1a, 6}, {0x1b, 6}, {0x1c, 6}, {0x1d, 6}, {0x1e, 6}, {0x1f, 6}, {0x3, 5}, {0x23, 6}, {0x4, 5}, {0x24, 6}, {0x5, 5}, {0x25, 6}} //nolint:gochecknoglobals // a table of the RFC
	hexPairs = pairs()                                                                                                                                                                            //nolint:gochecknoglobals // the same, two digits at once
)

// pairs returns the codes of the two hex digits of every byte.
func pairs() (t [256]code) {
	for i := range t {
		hi, lo := hexCodes[i>>4], hexCodes[i&15]
		t[i] = code{hi.value<<lo.bits | lo.value, hi.bits + lo.bits}
	}
	return t
}

// appendString appends a string Huffman-coded.
func appendString(dst []byte, s string) []byte {
	n := hpack.HuffmanEncodeLength(s)
	if n < 127 {
		dst = append(dst, 0x80|byte(n))
	} else {
		dst = binary.AppendUvarint(append(dst, 0xff), n-127) // the same groups of 7 bits (RFC 7541, section 5.1)
	}
	return hpack.AppendHuffmanString(dst, s)
}

// okStatus reports whether a response's block begins with ":status: 200",
// behind changes of the table's size (RFC 7541, section 6.3). Nothing else of a
// reply is decoded: it would cost the client more than the request.
func okStatus(block []byte) bool {
	for len(block) > 0 && block[0]&0xe0 == 0x20 {
		n := 1
		if block[0]&0x1f == 0x1f {
			for n < len(block) && block[n]&0x80 != 0 {
				n++
			}
			n++
		}
		block = block[min(n, len(block)):]
	}
	if len(block) == 0 {
		return false
	}
	if block[0] == 0x88 {
		return true
	}
	// A literal with the name's index 8, in one of three forms, plain or Huffman-coded.
	if b := block[0]; b != 0x48 && b != 0x08 && b != 0x18 {
		return false
	}
	v := string(block[1:min(len(block), 5)])
	return v == "\x03200" || len(v) >= 3 && v[:3] == "\x82\x10\x01"
}
