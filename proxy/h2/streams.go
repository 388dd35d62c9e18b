package h2

import (
	"math/bits"
	"math/rand/v2"
)

// streamTable finds open streams by id: open addressing with linear probing, at
// most half full. A built-in map costs three to four times as much a stream.
type streamTable struct {
	slots []*Stream // a power of two of them, or none
	n     int
	most  int // n at its largest since the table was empty
	shift uint
}

// streamSpread is unknown to callers, who choose ids: of any two, one in half as
// many pairs as there are slots shares a slot (multiply-shift hashing).
var streamSpread = rand.Uint64() | 1

// A table grows from minStreamSlots. One that becomes empty lets go of more than
// keptStreamSlots (2 KiB) that lately were of no use.
const (
	minStreamSlots  = 16
	keptStreamSlots = 256
)

func (t *streamTable) home(id uint32) uint { return uint(uint64(id) * streamSpread >> t.shift) }

// get returns the stream with that id, or nil.
func (t *streamTable) get(id uint32) *Stream {
	if len(t.slots) == 0 {
		return nil
	}
	mask := uint(len(t.slots) - 1)
	for i := t.home(id) & mask; ; i = (i + 1) & mask {
		if s := t.slots[i]; s == nil || s.id == id {
			return s
		}
	}
}

// put adds a stream whose id is not in the table.
func (t *streamTable) put(s *Stream) {
	if t.n++; 2*t.n > len(t.slots) {
		t.grow()
	}
	t.most = max(t.most, t.n)
	t.place(s)
}

func (t *streamTable) place(s *Stream) {
	mask := uint(len(t.slots) - 1)
	i := t.home(s.id) & mask
	for t.slots[i] != nil {
		i = (i + 1) & mask
	}
	t.slots[i] = s
}

func (t *streamTable) grow() {
	old := t.slots
	t.slots = make([]*Stream, max(2*len(old), minStreamSlots))
	t.shift = uint(64 - bits.TrailingZeros(uint(len(t.slots))))
	for _, s := range old {
		if s != nil {
			t.place(s)
		}
	}
}

// remove takes out the stream with that id, and closes the gap that it leaves.
func (t *streamTable) remove(id uint32) {
	mask := uint(len(t.slots) - 1)
	gap := t.home(id) & mask
	for t.slots[gap].id != id {
		gap = (gap + 1) & mask
	}
	t.slots[gap] = nil
	if t.n--; t.n == 0 {
		if len(t.slots) > keptStreamSlots && 8*t.most < len(t.slots) {
			t.slots = nil
		}
		t.most = 0
		return
	}
	for i := (gap + 1) & mask; t.slots[i] != nil; i = (i + 1) & mask {
		// What lies at or behind its home without the gap between stays.
		if home := t.home(t.slots[i].id) & mask; (i-home)&mask >= (i-gap)&mask {
			t.slots[gap], t.slots[i] = t.slots[i], nil
			gap = i
		}
	}
}
