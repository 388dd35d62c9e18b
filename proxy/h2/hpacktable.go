package h2

import "github.com/quadnine/quadnine/proxy/field"

// dynamicTable is RFC 7541 section 2.3.2: the newest entries first, bounded by
// their size. The bytes lie in a ring, so that an insertion allocates nothing
// once the ring and the queue have grown.
type dynamicTable struct {
	ring    []byte       // at least twice what is live: a live entry is never overwritten
	at      int          // where the next entry's bytes go
	entries []tableEntry // by number, modulo its length, which is a power of two
	first   uint64       // number of the oldest live entry; numbers count insertions from 0
	next    uint64       // number of the next entry
	size    int
	maxSize int
}

type tableEntry struct {
	off, name, value uint32 // in the ring
	kind             uint8  // the decoder's judgement
	static           uint8  // index of the name in the static table, or noStatic
	id               uint64 // the encoder's hash, the decoder's token
}

// entryOverhead is what RFC 7541 section 4.1 adds to an entry's length.
const entryOverhead = 32

// tableSlots is how many entries a table of the default size can hold, a power of
// two.
const tableSlots = defaultTableSize / entryOverhead

func (t *dynamicTable) len() uint64 { return t.next - t.first }

func (t *dynamicTable) slot(number uint64) *tableEntry {
	return &t.entries[number&uint64(len(t.entries)-1)]
}

// entry returns the entry with that number.
func (t *dynamicTable) entry(number uint64) (name, value []byte) {
	e := t.slot(number)
	mid := e.off + e.name
	return t.ring[e.off:mid:mid], t.ring[mid : mid+e.value : mid+e.value]
}

// resize evicts what does not fit any more (RFC 7541 section 4.3).
func (t *dynamicTable) resize(size int) {
	t.maxSize = size
	t.evict(0)
}

// evict makes room for an entry of that size.
func (t *dynamicTable) evict(size int) {
	for t.first < t.next && t.size+size > t.maxSize {
		e := t.slot(t.first)
		t.size -= int(e.name) + int(e.value) + entryOverhead
		t.first++
	}
}

// insert adds a field, with e's marks. One that is larger than the table empties it (RFC 7541
// section 4.4). name may be part of an entry, also of one that is evicted.
func (t *dynamicTable) insert(name, value []byte, e tableEntry) {
	n := len(name) + len(value)
	t.evict(n + entryOverhead)
	if n+entryOverhead > t.maxSize {
		return
	}
	if live := t.size - int(t.len())*entryOverhead; 2*(live+n) > len(t.ring) || t.len() == uint64(len(t.entries)) {
		t.grow(live + n)
	}
	if t.at+n > len(t.ring) {
		t.at = 0
	}
	// An evicted entry's bytes may be overwritten by copying its own name: copy
	// moves overlapping bytes correctly, and value never comes from the ring.
	copy(t.ring[t.at:], name)
	copy(t.ring[t.at+len(name):], value)
	e.off, e.name, e.value = uint32(t.at), uint32(len(name)), uint32(len(value))
	*t.slot(t.next) = e
	t.at += n
	t.next++
	t.size += n + entryOverhead
}

// A new table has room for a few fields: most connections see no more, and there
// may be thousands.
const (
	firstRing  = 1 << 10
	firstSlots = 16
)

// grow makes room for one more entry, with that many live bytes in all.
func (t *dynamicTable) grow(live int) {
	size, slots := max(len(t.ring), firstRing), max(len(t.entries), firstSlots)
	for size < 2*live {
		size *= 2
	}
	for uint64(slots) <= t.len() {
		slots *= 2
	}
	next := dynamicTable{ring: make([]byte, size, size+field.Slack), entries: make([]tableEntry, slots)}
	for i := t.first; i < t.next; i++ {
		e := *t.slot(i)
		from := int(e.off)
		e.off = uint32(next.at)
		next.at += copy(next.ring[next.at:], t.ring[from:from+int(e.name)+int(e.value)])
		*next.slot(i) = e
	}
	t.ring, t.at, t.entries = next.ring, next.at, next.entries
}
