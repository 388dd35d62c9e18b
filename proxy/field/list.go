package field

import "strconv"

// Overhead is what RFC 9113 section 6.5.2 adds per field to a header list's size.
const Overhead = 32

type span struct {
	name, value uint32 // offsets into arena
	nameLen     uint32
	valueLen    uint32
	sensitive   bool
	deleted     bool
}

// List is an ordered list of fields. The zero value is empty and ready.
//
// Slices returned by Name and Value alias the arena: they are valid until the
// next call that adds a field, or Reset.
type List struct {
	arena []byte
	spans []span
}

// Reset empties the list and keeps its memory.
func (l *List) Reset() {
	l.arena = l.arena[:0]
	l.spans = l.spans[:0]
}

// Len returns the number of slots, including deleted ones: loop over it and
// skip the fields for which Name is nil.
func (l *List) Len() int { return len(l.spans) }

// Name returns the i-th field's name, or nil when the field was deleted.
func (l *List) Name(i int) []byte {
	s := &l.spans[i]
	if s.deleted {
		return nil
	}
	return l.arena[s.name : s.name+s.nameLen : s.name+s.nameLen]
}

// Value returns the i-th field's value.
func (l *List) Value(i int) []byte {
	s := &l.spans[i]
	return l.arena[s.value : s.value+s.valueLen : s.value+s.valueLen]
}

// Sensitive reports whether the i-th field must never enter a compression
// table (RFC 7541 section 7.1.3).
func (l *List) Sensitive(i int) bool { return l.spans[i].sensitive }

// SetSensitive marks the i-th field.
func (l *List) SetSensitive(i int) { l.spans[i].sensitive = true }

// Add appends a field. The name must be lower-case.
func (l *List) Add(name, value string) {
	n := uint32(len(l.arena))
	l.arena = append(l.arena, name...)
	v := uint32(len(l.arena))
	l.arena = append(l.arena, value...)
	l.spans = append(l.spans, span{name: n, nameLen: uint32(len(name)), value: v, valueLen: uint32(len(value))})
}

// AddBytes is Add for byte slices, which it copies. They may alias the arena.
func (l *List) AddBytes(name, value []byte) {
	n := uint32(len(l.arena))
	l.arena = append(l.arena, name...)
	v := uint32(len(l.arena))
	l.arena = append(l.arena, value...)
	l.spans = append(l.spans, span{name: n, nameLen: uint32(len(name)), value: v, valueLen: uint32(len(value))})
}

// AddValue is AddBytes with a constant name.
func (l *List) AddValue(name string, value []byte) {
	n := uint32(len(l.arena))
	l.arena = append(l.arena, name...)
	v := uint32(len(l.arena))
	l.arena = append(l.arena, value...)
	l.spans = append(l.spans, span{name: n, nameLen: uint32(len(name)), value: v, valueLen: uint32(len(value))})
}

// AddInt appends a field whose value is n in decimal.
func (l *List) AddInt(name string, n int64) {
	o := uint32(len(l.arena))
	l.arena = append(l.arena, name...)
	v := uint32(len(l.arena))
	l.arena = strconv.AppendInt(l.arena, n, 10)
	l.spans = append(l.spans, span{name: o, nameLen: uint32(len(name)), value: v, valueLen: uint32(len(l.arena)) - v})
}

// Index returns the first field called name, or -1.
func (l *List) Index(name string) int { return l.IndexFrom(name, 0) }

// IndexFrom returns the first field called name at or after i, or -1.
func (l *List) IndexFrom(name string, i int) int {
	for ; i < len(l.spans); i++ {
		s := &l.spans[i]
		if int(s.nameLen) == len(name) && !s.deleted && string(l.arena[s.name:s.name+s.nameLen]) == name {
			return i
		}
	}
	return -1
}

// Get returns the first value of name, or nil when there is none. A field that
// is present and empty gives a non-nil empty slice.
func (l *List) Get(name string) []byte {
	if i := l.Index(name); i >= 0 {
		return l.Value(i)
	}
	return nil
}

// Has reports whether there is a field called name.
func (l *List) Has(name string) bool { return l.Index(name) >= 0 }

// Count returns how many fields are called name.
func (l *List) Count(name string) int {
	n := 0
	for i := l.Index(name); i >= 0; i = l.IndexFrom(name, i+1) {
		n++
	}
	return n
}

// Set gives the first field called name this value and deletes the others; it
// appends the field when there is none. A pseudo-header field must exist.
func (l *List) Set(name, value string) {
	i := l.Index(name)
	if i < 0 {
		l.Add(name, value)
		return
	}
	v := uint32(len(l.arena))
	l.arena = append(l.arena, value...)
	l.spans[i].value, l.spans[i].valueLen = v, uint32(len(value))
	for i = l.IndexFrom(name, i+1); i >= 0; i = l.IndexFrom(name, i+1) {
		l.spans[i].deleted = true
	}
}

// SetValue is Set for a byte slice, which it copies and which may alias the
// arena.
func (l *List) SetValue(name string, value []byte) {
	i := l.Index(name)
	if i < 0 {
		l.AddValue(name, value)
		return
	}
	v := uint32(len(l.arena))
	l.arena = append(l.arena, value...)
	l.spans[i].value, l.spans[i].valueLen = v, uint32(len(value))
	for i = l.IndexFrom(name, i+1); i >= 0; i = l.IndexFrom(name, i+1) {
		l.spans[i].deleted = true
	}
}

// Del deletes every field called name and returns how many there were.
func (l *List) Del(name string) int {
	n := 0
	for i := l.Index(name); i >= 0; i = l.IndexFrom(name, i+1) {
		l.spans[i].deleted = true
		n++
	}
	return n
}

// DelAt deletes the i-th field.
func (l *List) DelAt(i int) { l.spans[i].deleted = true }

// Size returns the header list size of RFC 9113 section 6.5.2, in bytes.
func (l *List) Size() int {
	n := 0
	for i := range l.spans {
		if s := &l.spans[i]; !s.deleted {
			n += int(s.nameLen) + int(s.valueLen) + Overhead
		}
	}
	return n
}

// CopyFrom makes l a copy of o, without o's deleted fields' names.
func (l *List) CopyFrom(o *List) {
	l.arena = append(l.arena[:0], o.arena...)
	l.spans = append(l.spans[:0], o.spans...)
}

// Bytes returns how much memory the list holds, in bytes.
func (l *List) Bytes() int { return cap(l.arena) + cap(l.spans)*20 }
