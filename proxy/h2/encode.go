package h2

import (
	"bytes"
	"hash/maphash"

	"github.com/quadnine/quadnine/proxy/field"
)

// encoder turns fields into blocks (RFC 7541). Strings are never
// Huffman-coded: on the way to a neighbor bytes are cheaper than time. A field
// enters the table when it is seen for the second time within a while, so that
// values which never repeat (trace ids, dates) do not evict those that do. Where
// the peer it came from said so by an index into a table, that is known for
// certain, and no string is looked at.
type encoder struct {
	table dynamicTable
	index *encoderIndex // made on first use

	smallest int // since the last block, when the size changed
	changed  bool
}

// encoderIndex finds entries of the table.
type encoderIndex struct {
	slots  [2 * tableSlots]uint64 // by hash: the entry's number, +1
	seen   [2 * tableSlots]uint32 // halves of hashes of fields that came by once
	tokens [tableSlots]struct {
		token  uint64
		number uint64 // of the entry, +1
	}
}

// tokenSlot spreads runs of tokens: the factor is 2^64/φ.
func tokenSlot(token uint64) uint64 { return token * 0x9e3779b97f4a7c15 >> 57 }

// hashSeed makes the slots that fields fall into unknown to callers.
var hashSeed = maphash.MakeSeed()

func (e *encoder) init() { e.table.maxSize = defaultTableSize }

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

// begin appends what comes before a block's fields.
func (e *encoder) begin(b []byte) []byte {
	if e.changed {
		e.changed = false
		if e.smallest < e.table.maxSize {
			b = appendInt(b, 0x20, 5, uint64(e.smallest))
		}
		b = appendInt(b, 0x20, 5, uint64(e.table.maxSize))
	}
	if e.index == nil {
		e.index = new(encoderIndex)
	}
	return b
}

// field appends the field f of l.
func (e *encoder) field(b []byte, l *field.List, f *field.Span) []byte {
	switch {
	case f.Sensitive:
		return literal(b, 0x10, 4, l.NameOf(f), l.ValueOf(f), f.Static)
	case f.Token == 0 && f.Literal:
		return literal(b, 0, 4, l.NameOf(f), l.ValueOf(f), f.Static)
	case f.Token == 0:
		return e.search(b, l.NameOf(f), l.ValueOf(f), f.Mark)
	case f.Token <= staticLen:
		return append(b, 0x80|byte(f.Token))
	}
	if t := &e.index.tokens[tokenSlot(f.Token)]; t.token == f.Token && t.number > e.table.first {
		return appendInt(b, 0x80, 7, staticLen+e.table.next+1-t.number)
	}
	return e.search(b, l.NameOf(f), l.ValueOf(f), f.Mark)
}

// search appends a field of which it must find out whether the table has it.
func (e *encoder) search(b, name, value []byte, m field.Mark) []byte {
	if i, ok := staticValue(name, value); ok {
		return append(b, 0x80|byte(i))
	}
	if len(name)+len(value)+entryOverhead > e.table.maxSize/4*3 { // it would evict nearly all others, each time anew
		return literal(b, 0, 4, name, value, m.Static)
	}
	hash := maphash.Bytes(hashSeed, value) ^ (maphash.Bytes(hashSeed, name)<<1 | 1)
	slot := hash % uint64(len(e.index.slots))
	if n := e.index.slots[slot]; n > e.table.first && n <= e.table.next {
		if at := e.table.slot(n - 1); at.id == hash {
			if en, ev := e.table.entry(n - 1); bytes.Equal(en, name) && bytes.Equal(ev, value) {
				e.learn(m.Token, n)
				return appendInt(b, 0x80, 7, staticLen+e.table.next+1-n)
			}
		}
	}
	if once := uint32(hash >> 32); m.Token == 0 && e.index.seen[slot] != once {
		e.index.seen[slot] = once
		return literal(b, 0, 4, name, value, m.Static)
	}
	b = literal(b, 0x40, 6, name, value, m.Static)
	e.table.insert(name, value, tableEntry{id: hash})
	if e.table.next > e.table.first {
		e.index.slots[slot] = e.table.next
		e.learn(m.Token, e.table.next)
	}
	return b
}

// learn remembers where the field with that token is.
func (e *encoder) learn(token, number uint64) {
	if token != 0 {
		t := &e.index.tokens[tokenSlot(token)]
		t.token, t.number = token, number
	}
}

// literal appends a field that is not in a table, its name by index if it can.
func literal(b []byte, kind byte, prefix uint, name, value []byte, static uint8) []byte {
	if static == 0 {
		static = staticIndex(name)
	}
	if static != noStatic {
		b = appendInt(b, kind, prefix, uint64(static))
	} else {
		b = append(appendInt(append(b, kind), 0, 7, uint64(len(name))), name...)
	}
	return append(appendInt(b, 0, 7, uint64(len(value))), value...)
}

// staticValue finds the fields of the static table that requests and responses
// really carry.
func staticValue(name, value []byte) (uint64, bool) {
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
