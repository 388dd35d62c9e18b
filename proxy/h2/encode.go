package h2

import (
	"encoding/binary"

	"golang.org/x/net/http2/hpack"
)

// x/net's encoder takes strings, and most fields repeat: strings of up to
// internLen bytes are remembered in internSets sets of internWays.
const (
	internLen  = 64
	internSets = 32
	internWays = 4
)

// encoder writes fields into the output.
type encoder struct {
	e    *hpack.Encoder
	size uint32 // of the table
	seen [internSets][internWays]string
	next uint8 // the way to be replaced next
}

func (e *encoder) init(w *output) {
	e.e = hpack.NewEncoder(w)
	e.size = defaultTableSize
}

// resize obeys the peer's SETTINGS_HEADER_TABLE_SIZE, up to the default size.
func (e *encoder) resize(size uint32) {
	size = min(size, defaultTableSize)
	if size != e.size {
		e.size = size
		e.e.SetMaxDynamicTableSize(size)
	}
}

// field writes one field. The output cannot fail.
func (e *encoder) field(name, value []byte, sensitive bool) {
	f := hpack.HeaderField{Name: e.intern(name), Sensitive: sensitive}
	if sensitive {
		f.Value = string(value) // nothing remembers it
	} else {
		f.Value = e.intern(value)
	}
	_ = e.e.WriteField(f)
}

// intern returns p as a string without allocating when p was seen lately.
func (e *encoder) intern(p []byte) string {
	if len(p) > internLen {
		return string(p)
	}
	set := &e.seen[internSet(p)]
	for i := range set {
		if set[i] == string(p) {
			return set[i]
		}
	}
	s := string(p)
	set[e.next%internWays] = s
	e.next++
	return s
}

// internSet spreads strings by their length and both ends. A peer that makes
// them meet only makes its own strings be copied.
func internSet(p []byte) uint64 {
	h := uint64(len(p))
	if len(p) >= 8 {
		h += binary.LittleEndian.Uint64(p) ^ binary.LittleEndian.Uint64(p[len(p)-8:])*31
	} else {
		for _, b := range p {
			h = h<<8 | uint64(b)
		}
	}
	return h * 0x9e3779b97f4a7c15 >> 59 // the golden ratio's 5 highest bits: 32 sets
}
