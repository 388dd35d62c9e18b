package policy

import "sync/atomic"

// sliceCount is how finely a window slides: a tenth of it is forgotten at a time.
const sliceCount = 10

// window counts failures and successes over the last ten slices of time, without a
// lock. Each slice is one word:
//
//	tick 24 | salt 8 | failures 16 | successes 16
//
// The tick says which tenth of a window the counts belong to, the salt which
// epoch and which length of window: a word with another tick or salt counts as
// empty, so nothing is ever cleared to start anew. The zero window is empty.
type window [sliceCount]atomic.Uint64

const (
	tickMask  = 1<<24 - 1
	countMask = 1<<16 - 1
)

func sliceHead(tick int64, salt uint8) uint64 {
	return uint64(tick)&tickMask<<40 | uint64(salt)<<32
}

// add counts one request in the slice of tick.
func (w *window) add(tick int64, salt uint8, failed bool) {
	s := &w[uint64(tick)%sliceCount]
	head := sliceHead(tick, salt)
	for {
		old := s.Load()
		f, n := old>>16&countMask, old&countMask
		if old&^(1<<32-1) != head {
			f, n = 0, 0
		}
		if f == countMask || n == countMask {
			f, n = f/2, n/2 // keeps the rate, and more than any threshold on it needs
		}
		if failed {
			f++
		} else {
			n++
		}
		if s.CompareAndSwap(old, head|f<<16|n) {
			return
		}
	}
}

// sum returns the failures and all requests within the window that ends with
// tick. Slices that are too old are emptied on the way, so that a tick that
// wraps (after 3.2 years of 6 s slices) finds none of them.
func (w *window) sum(tick int64, salt uint8) (failures, requests int) {
	now := uint64(tick) & tickMask
	for i := range w {
		word := w[i].Load()
		if word == 0 {
			continue
		}
		age := (now - word>>40) & tickMask
		if word>>32&0xff == uint64(salt) && (age < sliceCount || age > tickMask-sliceCount) { // "older than now" by a few ticks: another goroutine read the time later
			f, s := int(word>>16&countMask), int(word&countMask)
			failures += f
			requests += f + s
			continue
		}
		w[i].CompareAndSwap(word, 0)
	}
	return failures, requests
}

// idle reports whether the window that ends with tick holds no failure.
func (w *window) idle(tick int64, salt uint8) bool {
	f, _ := w.sum(tick, salt)
	return f == 0
}
