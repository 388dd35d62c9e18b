package policy

import (
	"iter"
	"math/bits"
	"sync/atomic"

	"github.com/quadnine/quadnine"
)

// entry is one key's, or one tenant's, place in a table.
type entry struct {
	breaker

	hash   uint64
	key    quadnine.Key // a tenant's has no Metric
	tenant *entry       // whose quota it counts against; nil for a tenant's
	keys   atomic.Int64 // a tenant's: how many keys count against it
	barren atomic.Int64 // a tenant's: until when, ns, the search for a victim among its keys is left alone
	level  Level
}

// table finds entries by key without a lock. A bucket is an immutable slice
// that is replaced as a whole; segments of buckets are made when first used.
type table struct {
	limit    int64
	live     atomic.Int64 // entries, and places reserved for entries about to be added
	mask     uint64
	hand     atomic.Uint64 // where the search for a victim goes on
	barren   atomic.Int64  // until when, ns, that search is left alone
	segments []atomic.Pointer[segment]
}

type (
	segment [segmentSize]atomic.Pointer[bucket]
	bucket  []*entry
)

const (
	segmentSize = 256 // 2 kB of pointers
	perBucket   = 4   // entries a bucket when the table is full
)

func newTable(limit int) *table {
	n := max(segmentSize, 1<<bits.Len(uint(limit-1)/perBucket))
	return &table{limit: int64(limit), mask: uint64(n - 1), segments: make([]atomic.Pointer[segment], n/segmentSize)}
}

// reserve takes a place for an entry, or returns false when all are taken.
func (t *table) reserve() bool { return reserve(&t.live, t.limit) }

func (t *table) full() bool { return t.live.Load() >= t.limit }

// reserve raises n by one unless that passes limit.
func reserve(n *atomic.Int64, limit int64) bool {
	for {
		v := n.Load()
		if v >= limit {
			return false
		}
		if n.CompareAndSwap(v, v+1) {
			return true
		}
	}
}

func (t *table) bucket(hash uint64) bucket {
	i := hash & t.mask
	s := t.segments[i/segmentSize].Load()
	if s == nil {
		return nil
	}
	if b := s[i%segmentSize].Load(); b != nil {
		return *b
	}
	return nil
}

// find returns the entry of k, or nil.
func (t *table) find(hash uint64, k quadnine.Key) *entry { return t.bucket(hash).find(hash, k) }

func (b bucket) find(hash uint64, k quadnine.Key) *entry {
	for _, e := range b {
		if e.hash == hash && e.key == k && stateOf(e.word.Load()) != stateGone {
			return e
		}
	}
	return nil
}

// insert adds e, for which a place was reserved. When its key came in first by
// another way, it returns that entry and gives the place back.
func (t *table) insert(e *entry) *entry {
	i := e.hash & t.mask
	head := &t.segments[i/segmentSize]
	if head.Load() == nil {
		head.CompareAndSwap(nil, new(segment))
	}
	p := &head.Load()[i%segmentSize]
	for {
		old := p.Load()
		var next bucket
		if old != nil {
			if other := old.find(e.hash, e.key); other != nil {
				t.live.Add(-1)
				return other
			}
			next = append(make(bucket, 0, len(*old)+1), *old...)
		}
		next = append(next, e)
		if p.CompareAndSwap(old, &next) {
			return e
		}
	}
}

// retire takes e out if its state word is still w, and reports whether it did.
func (t *table) retire(e *entry, w uint64) bool {
	if !e.word.CompareAndSwap(w, word(epochOf(w), 0, stateGone)) {
		return false
	}
	i := e.hash & t.mask
	p := &t.segments[i/segmentSize].Load()[i%segmentSize]
	for {
		old := p.Load()
		var next *bucket
		if len(*old) > 1 {
			b := make(bucket, 0, len(*old)-1)
			for _, o := range *old {
				if o != e {
					b = append(b, o)
				}
			}
			next = &b
		}
		if p.CompareAndSwap(old, next) {
			break
		}
	}
	t.live.Add(-1)
	if e.tenant != nil {
		e.tenant.keys.Add(-1)
	}
	return true
}

// walk yields the entries of the next n buckets behind the hand, which goes on
// round the table. Segments that were never used are passed over for free.
func (t *table) walk(n int) iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for skipped := 0; n > 0 && skipped <= len(t.segments); n-- {
			i := (t.hand.Add(1) - 1) & t.mask
			if t.segments[i/segmentSize].Load() == nil {
				t.hand.Store(i | (segmentSize - 1) + 1)
				skipped++
				n++
				continue
			}
			for _, e := range t.bucket(i) {
				if !yield(e) {
					return
				}
			}
		}
	}
}

// all yields every entry.
func (t *table) all() iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for i := range t.segments {
			s := t.segments[i].Load()
			if s == nil {
				continue
			}
			for j := range s {
				b := s[j].Load()
				if b == nil {
					continue
				}
				for _, e := range *b {
					if stateOf(e.word.Load()) != stateGone && !yield(e) {
						return
					}
				}
			}
		}
	}
}
