package conformance

import (
	"context"
	"time"
)

// until asks ok every 10 ms until it says yes; false when ctx ends first.
func until(ctx context.Context, ok func() bool) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}
