package proxy

import (
	"sync/atomic"

	"github.com/quadnine/quadnine/internal/invariant"
)

// budget bounds the bytes that all exchanges of the process hold in buffered
// replies. It is safe for concurrent use.
type budget struct {
	limit int64
	used  atomic.Int64
}

// take reserves n bytes, or reports false and reserves none.
func (b *budget) take(n int) bool {
	if b.used.Add(int64(n)) > b.limit {
		b.used.Add(-int64(n))
		return false
	}
	return true
}

func (b *budget) give(n int) {
	if n != 0 {
		left := b.used.Add(-int64(n))
		invariant.Check(left >= 0, "more bytes given back to the budget than were taken")
	}
}
