package h2

import (
	"hash/maphash"

	"golang.org/x/net/http2/hpack"
)

// Strings up to internLen bytes are remembered in internSlots slots, because
// x/net's encoder takes strings and most fields repeat.
const (
	internLen   = 64
	internSlots = 64
)

// encoder writes fields into the output.
type encoder struct {
	e    *hpack.Encoder
	size uint32 // of the table
	seed maphash.Seed
	seen [internSlots]string
}

func (e *encoder) init(w *output) {
	e.e = hpack.NewEncoder(w)
	e.size = defaultTableSize
	e.seed = maphash.MakeSeed()
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
		f.Value = string(value)
	} else {
		f.Value = e.intern(value)
	}
	_ = e.e.WriteField(f)
}

func (e *encoder) intern(p []byte) string {
	if len(p) > internLen {
		return string(p)
	}
	slot := &e.seen[maphash.Bytes(e.seed, p)%internSlots]
	if *slot != string(p) {
		*slot = string(p)
	}
	return *slot
}
