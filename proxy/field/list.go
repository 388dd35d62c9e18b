package field

import (
	"slices"
	"strconv"

	"github.com/quadnine/quadnine/internal/invariant"
)

// Overhead is what RFC 9113 section 6.5.2 adds per field to a header list's size.
const Overhead = 32

// Span is one field of a list: where its name and value are, which only the list
// knows, and what codecs know of it.
type Span struct {
	Mark
	Sensitive bool // it must never enter a compression table (RFC 7541 section 7.1.3)
	Deleted   bool

	digest      uint8  // of the name
	name, value uint32 // offsets into arena
	nameLen     uint32
	valueLen    uint32
}

// Mark is what the codec that read a field knows of it and tells the codec that
// writes it. The zero Mark knows nothing. Changing a value forgets it.
type Mark struct {
	Token   uint64 // names one pair of name and value for the life of the process; 0: none
	Kind    uint8  // the reader's judgement
	Static  uint8  // index of the name in HPACK's static table; 0: none
	Literal bool   // it was spelled out: its reader's peer does not expect it to come again
}

// List is an ordered list of fields. The zero value is empty and ready.
//
// Slices returned by Name and Value alias the arena: they are valid until the
// next call that adds a field, or Reset.
type List struct {
	arena []byte
	spans []Span
	sieve uint64 // a bit for the digest of each name that was added
	third uint32 // a bit for its third letter
}

// digest maps a name to one of 64. The factors keep apart the names that the data
// plane asks for and those that are mostly there: most look-ups are in vain, and
// end at the sieve.
func digest[T string | []byte](name T) uint8 {
	n := len(name)
	if n == 0 {
		return 0
	}
	return (uint8(n)*6 ^ name[n-1]*3) & 63
}

// Reset empties the list and keeps its memory.
func (l *List) Reset() {
	l.arena = l.arena[:0]
	l.spans = l.spans[:0]
	l.sieve, l.third = 0, 0
}

// Void is Reset for a list that nobody may look at any more: with the build tag
// invariants, who does finds nothing of what it held.
func (l *List) Void() {
	l.Reset()
	if invariant.Enabled {
		invariant.Poison(l.arena)
		spans := l.spans[:cap(l.spans)]
		for i := range spans { // past the end of any arena, and of a token that nobody has
			spans[i] = Span{Mark: Mark{Token: 1<<64 - 1}, name: 1 << 31, value: 1 << 31}
		}
	}
}

// Swap exchanges the contents of l and o, which costs no copy.
func (l *List) Swap(o *List) { *l, *o = *o, *l }

// Len returns the number of slots, including deleted ones: loop over it and
// skip the fields for which Name is nil.
func (l *List) Len() int { return len(l.spans) }

// Name returns the i-th field's name, or nil when the field was deleted.
func (l *List) Name(i int) []byte {
	s := &l.spans[i]
	if s.Deleted {
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
func (l *List) Sensitive(i int) bool { return l.spans[i].Sensitive }

// SetSensitive marks the i-th field.
func (l *List) SetSensitive(i int) { l.spans[i].Sensitive = true }

// Spans returns the fields, deleted ones included, for codecs to look at and not
// to change. They are valid until the next call that changes the list.
func (l *List) Spans() []Span { return l.spans }

// NameOf returns the name of one of the list's Spans.
func (l *List) NameOf(s *Span) []byte { return l.arena[s.name : s.name+s.nameLen : s.name+s.nameLen] }

// ValueOf returns the value of one of the list's Spans.
func (l *List) ValueOf(s *Span) []byte {
	return l.arena[s.value : s.value+s.valueLen : s.value+s.valueLen]
}

// Add appends a field. The name must be lower-case.
func (l *List) Add(name, value string) { add(l, name, value) }

// AddBytes is Add for byte slices, which it copies. They may alias the arena.
func (l *List) AddBytes(name, value []byte) { add(l, name, value) }

// AddValue is AddBytes with a constant name.
func (l *List) AddValue(name string, value []byte) { add(l, name, value) }

// AddMarked is AddBytes for a field of which m is known.
func (l *List) AddMarked(name, value []byte, m Mark) {
	add(l, name, value)
	l.spans[len(l.spans)-1].Mark = m
}

// Slack is how many bytes AddPair likes to find in p past what it adds, which it
// then copies in one piece.
const Slack = 64

// AddPair is AddMarked for a field whose value follows its name in p.
func (l *List) AddPair(p []byte, name int, m Mark) {
	o := len(l.arena)
	if len(p) <= Slack && cap(p) >= Slack && cap(l.arena)-o >= Slack {
		l.arena = l.arena[:o+len(p)]
		*(*[Slack]byte)(l.arena[o : o+Slack]) = *(*[Slack]byte)(p[:Slack])
	} else {
		l.arena = append(l.arena, p...)
	}
	n := uint32(name)
	s := l.span(p[:name])
	s.Mark = m
	s.name, s.nameLen, s.value, s.valueLen = uint32(o), n, uint32(o)+n, uint32(len(p))-n
}

func add[N, V string | []byte](l *List, name N, value V) {
	n := uint32(len(l.arena))
	l.arena = append(l.arena, name...)
	v := uint32(len(l.arena))
	l.arena = append(l.arena, value...)
	s := l.span(l.arena[n:v])
	s.Mark = Mark{}
	s.name, s.nameLen, s.value, s.valueLen = n, uint32(len(name)), v, uint32(len(value))
}

// span appends a field of that name for the caller to fill in, one word at a time:
// a Span built elsewhere and copied costs more than the rest.
func (l *List) span(name []byte) *Span {
	n := len(l.spans)
	if n == cap(l.spans) {
		l.spans = slices.Grow(l.spans, n+8)
	}
	l.spans = l.spans[:n+1]
	s := &l.spans[n]
	s.Sensitive, s.Deleted = false, false
	if len(name) > 2 {
		l.third |= 1 << (name[2] & 31)
	}
	s.digest = digest(name)
	l.sieve |= 1 << s.digest
	return s
}

// MayBegin reports whether a name in the list may begin with prefix, which has at
// least three letters: false is certain.
func (l *List) MayBegin(prefix string) bool { return l.third&(1<<(prefix[2]&31)) != 0 }

// AddInt appends a field whose value is n in decimal.
func (l *List) AddInt(name string, n int64) {
	add(l, name, "")
	from := len(l.arena)
	l.arena = strconv.AppendInt(l.arena, n, 10)
	l.spans[len(l.spans)-1].valueLen = uint32(len(l.arena) - from)
}

// MayHave reports whether one of the names that Names gathered may be in the
// list: false is certain.
func (l *List) MayHave(names Names) bool { return l.sieve&uint64(names) != 0 }

// Names is a set of names, as far as MayHave tells them apart.
type Names uint64

// NamesOf gathers names.
func NamesOf(names ...string) (n Names) {
	for _, name := range names {
		n |= 1 << digest(name)
	}
	return n
}

// Index returns the first field called name, or -1.
func (l *List) Index(name string) int { return l.IndexFrom(name, 0) }

// IndexFrom returns the first field called name at or after i, or -1.
func (l *List) IndexFrom(name string, i int) int {
	d := digest(name)
	if l.sieve&(1<<d) == 0 {
		return -1
	}
	for ; i < len(l.spans); i++ {
		s := &l.spans[i]
		if s.digest == d && int(s.nameLen) == len(name) && !s.Deleted && string(l.arena[s.name:s.name+s.nameLen]) == name {
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
	l.spans[i].change(v, len(value))
	for i = l.IndexFrom(name, i+1); i >= 0; i = l.IndexFrom(name, i+1) {
		l.spans[i].Deleted = true
	}
}

// SetOnce is SetValue for a value that does not come again, such as a request's
// identifier: codecs spell it out and do not look for it in their tables.
func (l *List) SetOnce(name string, value []byte) {
	m := Mark{Literal: true}
	if i := l.Index(name); i >= 0 {
		l.replace(i, name, value, m)
		return
	}
	add(l, name, value)
	l.spans[len(l.spans)-1].Mark = m
}

// replace gives the i-th field, which is the first called name, another value of
// which m is known, and deletes the others.
func (l *List) replace(i int, name string, value []byte, m Mark) {
	v := uint32(len(l.arena))
	l.arena = append(l.arena, value...)
	s := &l.spans[i]
	m.Static = s.Static
	s.change(v, len(value))
	s.Mark = m
	for i = l.IndexFrom(name, i+1); i >= 0; i = l.IndexFrom(name, i+1) {
		l.spans[i].Deleted = true
	}
}

// change gives s another value, of which nothing is known.
func (s *Span) change(value uint32, n int) {
	s.value, s.valueLen = value, uint32(n)
	s.Mark = Mark{Static: s.Static}
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
	l.spans[i].change(v, len(value))
	for i = l.IndexFrom(name, i+1); i >= 0; i = l.IndexFrom(name, i+1) {
		l.spans[i].Deleted = true
	}
}

// Del deletes every field called name and returns how many there were.
func (l *List) Del(name string) int {
	n := 0
	for i := l.Index(name); i >= 0; i = l.IndexFrom(name, i+1) {
		l.spans[i].Deleted = true
		n++
	}
	return n
}

// DelAt deletes the i-th field.
func (l *List) DelAt(i int) { l.spans[i].Deleted = true }

// Size returns the header list size of RFC 9113 section 6.5.2, in bytes.
func (l *List) Size() int {
	n := 0
	for i := range l.spans {
		if s := &l.spans[i]; !s.Deleted {
			n += int(s.nameLen) + int(s.valueLen) + Overhead
		}
	}
	return n
}

// CopyFrom makes l a copy of o, without o's deleted fields' names.
func (l *List) CopyFrom(o *List) {
	l.arena = append(l.arena[:0], o.arena...)
	l.spans = append(l.spans[:0], o.spans...)
	l.sieve, l.third = o.sieve, o.third
}

// Bytes returns how much memory the list holds, in bytes.
func (l *List) Bytes() int { return cap(l.arena) + cap(l.spans)*40 }
