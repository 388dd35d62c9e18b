package conformance

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// TestDrainLosesNothing sends SIGTERM while 64 requests are in flight: all of
// them get their whole answer, and the process ends with status 0.
func TestDrainLosesNothing(t *testing.T) {
	const inFlight = 64
	body := strings.Repeat("whole ", 1000)
	for name, h2 := range protocols {
		t.Run(name, func(t *testing.T) {
			for range soak(1, 20) {
				var arrived atomic.Int64
				all, release := make(chan struct{}), make(chan struct{})
				upstream := serve(t, func(w http.ResponseWriter, r *http.Request) {
					if arrived.Add(1) == inFlight {
						close(all)
					}
					select {
					case <-release:
					case <-r.Context().Done():
					}
					_, _ = w.Write([]byte(body)) // a lost caller is counted on its own side
				})
				s := startSidecar(t, nil, "--upstream", "h2c://"+upstream, "--drain-time", "20s")
				ctx := deadline(t, 2*within)
				c := client(t, h2)
				var lost atomic.Int64
				var wg sync.WaitGroup
				for range inFlight {
					wg.Go(func() {
						status, got, err := get(ctx, c, s.url("/slow"))
						if err != nil || status != http.StatusOK || string(got) != body {
							lost.Add(1)
							t.Logf("lost: %d, %d bytes, %v", status, len(got), err)
						}
					})
				}
				select {
				case <-all:
				case <-ctx.Done():
					t.Fatalf("%d of %d requests reached the upstream", arrived.Load(), inFlight)
				}
				if err := s.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
				// The drain has begun when nobody is let in any more.
				if err := s.Await(ctx, "refuse new connections after SIGTERM", func(ctx context.Context) bool { return refused(ctx, s.addr) }); err != nil {
					t.Fatal(err)
				}
				close(release)
				wg.Wait()
				if n := lost.Load(); n != 0 {
					t.Errorf("%d of %d requests in flight were lost", n, inFlight)
				}
				if err := s.Wait(ctx); err != nil {
					t.Errorf("a drained process ends with 0, got %v", err)
				}
			}
		})
	}
}

// refused reports whether addr takes no new connection, or takes it only to
// close it.
func refused(ctx context.Context, addr string) bool {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return ctx.Err() == nil
	}
	return c.Close() != nil
}
