package h2

import (
	"bytes"
	"hash/maphash"
)

// encoder writes fields into the output (RFC 7541). Strings are never
// Huffman-coded: on the way to a neighbor bytes are cheaper than time. A field
// enters the table when it is seen for the second time within a while, so that
// values which never repeat (trace ids, dates) do not evict those that do.
type encoder struct {
	out   *output
	table dynamicTable
	slots [tableSlots]uint64 // number+1 of the entry with that hash, if still alive
	seen  [tableSlots]uint64 // hashes of fields that came by once

	smallest int // since the last block, when the size changed
	changed  bool
}

// hashSeed makes the slots that fields fall into unknown to callers.
var hashSeed = maphash.MakeSeed()

func (e *encoder) init(out *output) {
	e.out = out
	e.table.maxSize = defaultTableSize
}

// resize obeys the peer's SETTINGS_HEADER_TABLE_SIZE, up to the default size. The
// next block begins by saying so (RFC 7541 section 4.2).
func (e *encoder) resize(size uint32) {
	n := int(min(size, defaultTableSize))
	if n == e.table.maxSize {
		return
	}
	if !e.changed {
		e.changed, e.smallest = true, n
	}
	e.smallest = min(e.smallest, n)
	e.table.resize(n)
}

// field writes one field.
func (e *encoder) field(name, value []byte, sensitive bool) {
	if e.changed {
		e.changed = false
		if e.smallest < e.table.maxSize {
			e.out.b = appendInt(e.out.b, 0x20, 5, uint64(e.smallest))
		}
		e.out.b = appendInt(e.out.b, 0x20, 5, uint64(e.table.maxSize))
	}
	if sensitive {
		e.literal(0x10, 4, name, value)
		return
	}
	if i, ok := staticField(name, value); ok {
		e.out.b = append(e.out.b, 0x80|byte(i))
		return
	}
	hash := maphash.Bytes(hashSeed, value) ^ (maphash.Bytes(hashSeed, name)<<1 | 1)
	slot := hash % tableSlots
	if n := e.slots[slot]; n > e.table.first && n <= e.table.next {
		if at := &e.table.entries[(n-1)%tableSlots]; at.hash == hash {
			if en, ev := e.table.entry(n - 1); bytes.Equal(en, name) && bytes.Equal(ev, value) {
				e.out.b = appendInt(e.out.b, 0x80, 7, staticLen+e.table.next-(n-1))
				return
			}
		}
	}
	if e.seen[slot] != hash {
		e.seen[slot] = hash
		e.literal(0, 4, name, value)
		return
	}
	e.literal(0x40, 6, name, value)
	e.table.insert(name, value, hash)
	if e.table.next > e.table.first {
		e.slots[slot] = e.table.next
	}
}

// literal writes a field that is not in a table, its name by index if it can.
func (e *encoder) literal(kind byte, prefix uint, name, value []byte) {
	if i, ok := staticNames[string(name)]; ok {
		e.out.b = appendInt(e.out.b, kind, prefix, i)
	} else {
		e.out.b = append(e.out.b, kind)
		e.out.b = append(appendInt(e.out.b, 0, 7, uint64(len(name))), name...)
	}
	e.out.b = append(appendInt(e.out.b, 0, 7, uint64(len(value))), value...)
}

// staticField finds the fields of the static table that requests and responses
// really carry.
func staticField(name, value []byte) (uint64, bool) {
	if len(name) < 5 || name[0] != ':' {
		return 0, false
	}
	switch name[1] {
	case 'm':
		switch string(value) {
		case "GET":
			return 2, true
		case "POST":
			return 3, true
		}
	case 's':
		switch string(value) {
		case "200":
			return 8, true
		case "204":
			return 9, true
		case "206":
			return 10, true
		case "304":
			return 11, true
		case "400":
			return 12, true
		case "404":
			return 13, true
		case "500":
			return 14, true
		case "http":
			return 6, true
		case "https":
			return 7, true
		}
	case 'p':
		if string(value) == "/" {
			return 4, true
		}
	}
	return 0, false
}

// appendInt appends v with an n-bit prefix under the bits of kind (RFC 7541
// section 5.1).
func appendInt(dst []byte, kind byte, n uint, v uint64) []byte {
	limit := uint64(1)<<n - 1
	if v < limit {
		return append(dst, kind|byte(v))
	}
	dst = append(dst, kind|byte(limit))
	for v -= limit; v >= 0x80; v >>= 7 {
		dst = append(dst, byte(v)|0x80)
	}
	return append(dst, byte(v))
}
