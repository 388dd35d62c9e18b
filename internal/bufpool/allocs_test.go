//go:build !race

package bufpool

import "testing"

// The race detector has a sync.Pool forget at random, so this is not for it.
func TestGrowDoesNotAllocate(t *testing.T) {
	p := make([]byte, 16<<10)
	allocs := testing.AllocsPerRun(100, func() {
		b := Get(0)
		for range 16 {
			b = append(Grow(b, len(p)), p...)
		}
		Free(b)
	})
	if allocs >= 1 { // a collection in the middle empties the pools
		t.Errorf("%.1f allocations to fill and free a buffer", allocs)
	}
}
