package h2

// dynamicTable is RFC 7541 section 2.3.2: the newest entries first, bounded by
// their size. The bytes lie in a ring, so that an insertion allocates nothing
// once the ring and the queue have grown.
type dynamicTable struct {
	ring    []byte // twice the largest size, made on first use: a live entry is never overwritten
	at      int    // where the next entry's bytes go
	entries []tableEntry
	first   uint64 // number of the oldest live entry; numbers count insertions from 0
	next    uint64 // number of the next entry
	size    int
	maxSize int
}

type tableEntry struct {
	off, name, value uint32 // in the ring
	hash             uint64 // the encoder's
}

// entryOverhead is what RFC 7541 section 4.1 adds to an entry's length.
const entryOverhead = 32

// tableSlots is a power of two over the entries that a table of the default size
// can hold (4096/32).
const tableSlots = 256

func (t *dynamicTable) len() uint64 { return t.next - t.first }

// entry returns the entry with that number.
func (t *dynamicTable) entry(number uint64) (name, value []byte) {
	e := &t.entries[number%tableSlots]
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
		e := &t.entries[t.first%tableSlots]
		t.size -= int(e.name) + int(e.value) + entryOverhead
		t.first++
	}
}

// insert adds a field. One that is larger than the table empties it (RFC 7541
// section 4.4). name may be part of an entry, also of one that is evicted.
func (t *dynamicTable) insert(name, value []byte, hash uint64) {
	n := len(name) + len(value)
	t.evict(n + entryOverhead)
	if n+entryOverhead > t.maxSize {
		return
	}
	if t.ring == nil {
		t.ring = make([]byte, 2*defaultTableSize)
		t.entries = make([]tableEntry, tableSlots)
	}
	if t.at+n > len(t.ring) {
		t.at = 0
	}
	// An evicted entry's bytes may be overwritten by copying its own name: copy
	// moves overlapping bytes correctly, and value never comes from the ring.
	copy(t.ring[t.at:], name)
	copy(t.ring[t.at+len(name):], value)
	t.entries[t.next%tableSlots] = tableEntry{uint32(t.at), uint32(len(name)), uint32(len(value)), hash}
	t.at += n
	t.next++
	t.size += n + entryOverhead
}
