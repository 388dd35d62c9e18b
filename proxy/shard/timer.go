package shard

import (
	"math/bits"
	"time"
)

// Expirer is told when one of its timers is due.
type Expirer interface {
	Expire(t *Timer, now int64)
}

// Timer is a deadline on a shard's wheel. It is part of what it times; the zero
// value with To set is ready. Timers fire at most one tick (1 ms) late and never
// early.
type Timer struct {
	To Expirer

	deadline   int64 // ns; may lie later than the slot: then firing moves it on
	when       int64 // ticks: where it is queued
	prev, next *Timer
	slot       int16 // level*slotsPerLevel + index, firing, or idle
	queued     bool
}

// Armed reports whether the timer will fire.
func (t *Timer) Armed() bool { return t.queued }

const (
	tick          = int64(time.Millisecond)
	levelBits     = 6
	slotsPerLevel = 1 << levelBits
	levels        = 6 // 63*64^5 ms: more than two years

	// maxTicks is how far ahead a timer is queued; one that is further is queued
	// again when it comes to that. One slot of the top level short of a whole
	// round: past it, a timer could land in the slot of the current digit, which
	// is due at once, for ever.
	maxTicks = (slotsPerLevel - 1) << (levelBits * (levels - 1))
	firing   = int16(-1)
)

// wheel is a hierarchical timer wheel (Varghese and Lauck, 1987). A timer lies
// at the level of the highest 6-bit digit in which its tick differs from the
// current one, so each level only holds slots ahead of the current digit and the
// first occupied slot of the lowest occupied level is the next one due.
type wheel struct {
	now      int64 // ticks processed
	target   int64 // ticks that advance is on its way to: what it arms is due later
	occupied [levels]uint64
	slots    [levels * slotsPerLevel]*Timer
	fire     *Timer // the list being fired
	armed    int
}

// arm sets t to fire at deadline (ns). Moving a deadline later leaves the timer
// where it is: most deadlines are moved many times and never reached.
func (w *wheel) arm(t *Timer, deadline int64) {
	if t.queued && t.slot != firing && deadline >= t.deadline {
		t.deadline = deadline
		return
	}
	if t.queued {
		w.unlink(t)
	}
	t.deadline = deadline
	w.insert(t)
}

func (w *wheel) stop(t *Timer) {
	if t.queued {
		w.unlink(t)
	}
}

func (w *wheel) insert(t *Timer) {
	when := t.deadline / tick
	if t.deadline%tick > 0 {
		when++ // never early; rounding up by adding first would overflow
	}
	when = min(max(when, w.now+1, w.target+1), w.now+maxTicks)
	t.when = when
	level := (63 - bits.LeadingZeros64(uint64(w.now^when)|(slotsPerLevel-1))) / levelBits
	level = min(level, levels-1)
	index := int(when>>(levelBits*level)) & (slotsPerLevel - 1)
	slot := level*slotsPerLevel + index
	t.slot, t.queued = int16(slot), true
	t.prev, t.next = nil, w.slots[slot]
	if t.next != nil {
		t.next.prev = t
	}
	w.slots[slot] = t
	w.occupied[level] |= 1 << index
	w.armed++
}

func (w *wheel) unlink(t *Timer) {
	if t.next != nil {
		t.next.prev = t.prev
	}
	switch {
	case t.prev != nil:
		t.prev.next = t.next
	case t.slot == firing:
		w.fire = t.next
	default:
		w.slots[t.slot] = t.next
		if t.next == nil {
			w.occupied[t.slot>>levelBits] &^= 1 << (t.slot & (slotsPerLevel - 1))
		}
	}
	t.prev, t.next, t.queued = nil, nil, false
	w.armed--
}

// next returns the tick at which the earliest occupied slot is due.
func (w *wheel) next() (tick int64, level, index int, ok bool) {
	for level = range levels {
		occ := w.occupied[level]
		if occ == 0 {
			continue
		}
		shift := levelBits * level
		// The top level wraps: slots before the current digit are of the next round.
		if level == levels-1 {
			cur := int(w.now>>shift) & (slotsPerLevel - 1)
			rot := bits.RotateLeft64(occ, -cur)
			ahead := bits.TrailingZeros64(rot)
			return (w.now>>shift + int64(ahead)) << shift, level, (cur + ahead) & (slotsPerLevel - 1), true
		}
		index = bits.TrailingZeros64(occ)
		base := w.now >> (shift + levelBits) << (shift + levelBits)
		return base | int64(index)<<shift, level, index, true
	}
	return 0, 0, 0, false
}

// deadline returns when the wheel wants to be advanced next, in ns.
func (w *wheel) deadline() (int64, bool) {
	t, _, _, ok := w.next()
	return t * tick, ok
}

// advance fires what is due at now (ns).
func (w *wheel) advance(now int64) {
	to := now / tick
	w.target = to
	for {
		due, level, index, ok := w.next()
		if !ok || due > to {
			break
		}
		w.now = max(w.now, due)
		slot := level*slotsPerLevel + index
		w.fire = w.slots[slot]
		w.slots[slot] = nil
		w.occupied[level] &^= 1 << index
		for t := w.fire; t != nil; t = t.next {
			t.slot = firing
		}
		for w.fire != nil {
			t := w.fire
			w.unlink(t)
			if t.deadline > now || t.when > to { // moved later, or armed by this advance
				w.insert(t)
				continue
			}
			t.To.Expire(t, now)
		}
	}
	w.now = max(w.now, to)
	w.target = w.now
}
