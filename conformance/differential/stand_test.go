package differential

import (
	"context"
	"testing"
	"time"

	"github.com/quadnine/quadnine/bench/proc"
)

// deadline returns a context that ends with the test or after d.
func deadline(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// until asks ok every 5 ms until it says yes; false when ctx ends first.
func until(ctx context.Context, ok func() bool) bool {
	tick := time.NewTicker(5 * time.Millisecond)
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

// addrs returns n free loopback addresses.
func addrs(t *testing.T, n int) []string {
	t.Helper()
	a, err := proc.Addrs(n)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
