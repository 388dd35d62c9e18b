package policy

import "sync/atomic"

// leases are the probes that a half-open breaker has out, one word each:
//
//	epoch 16 | deadline 48, in units of 1,024 ns
//
// Zero is free; a word of another epoch, or whose deadline has passed, is free
// too. Whoever swaps its own word in holds the slot, and only the holder can
// swap it out again: the result of a probe whose slot was taken over is thereby
// known to be late.
type leases [maxProbes]atomic.Uint64

const deadlineMask = 1<<48 - 1

// acquire takes one of the first SuccessThreshold slots.
func (l *leases) acquire(t *tuning, epoch uint32, now int64) (slot uint8, lease uint64, ok bool) {
	deadline := uint64(now+int64(t.ProbeLease)+1023) >> 10 & deadlineMask
	lease = uint64(epoch&0xffff)<<48 | deadline
	for i := range l[:t.SuccessThreshold] {
		old := l[i].Load()
		if old != 0 && old>>48 == uint64(epoch&0xffff) && !passed(old, now) {
			continue
		}
		if l[i].CompareAndSwap(old, lease) {
			return uint8(i), lease, true
		}
	}
	return 0, 0, false
}

// passed reports whether a lease's deadline lies behind now. The difference is
// taken modulo 2^48 units, so that now may count from any origin.
func passed(lease uint64, now int64) bool {
	left := int64(lease-uint64(now)>>10) << 16 >> 16
	return left <= 0
}

// release frees a slot that still holds lease.
func (l *leases) release(slot uint8, lease uint64) bool {
	return l[slot].CompareAndSwap(lease, 0)
}

// out counts the probes of epoch whose leases run at now.
func (l *leases) out(epoch uint32, now int64) (n int) {
	if l == nil {
		return 0
	}
	for i := range l {
		if w := l[i].Load(); w != 0 && w>>48 == uint64(epoch&0xffff) && !passed(w, now) {
			n++
		}
	}
	return n
}
