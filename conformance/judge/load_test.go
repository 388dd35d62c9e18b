package judge

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// pause is between two requests of a worker, so that the management server gets
// its share of the machine.
const pause = time.Millisecond

// load sends requests all the time, on connections that stay open.
type load struct {
	sent, dials atomic.Int64
	cancel      context.CancelFunc
	wg          sync.WaitGroup

	mu     sync.Mutex
	failed map[string]int // by what came instead of a 200
}

// startLoad starts workers that each send one request after another on a
// connection of its own: half of them HTTP/1.1, half HTTP/2.
func startLoad(t *testing.T, g *gateway, workers int, path string) *load {
	t.Helper()
	l := &load{failed: make(map[string]int)}
	ctx, cancel := context.WithCancel(t.Context())
	l.cancel = cancel
	for i := range workers {
		c := client(t, i%2 == 0, func() { l.dials.Add(1) })
		l.wg.Go(func() {
			next := time.NewTicker(pause)
			defer next.Stop()
			for ctx.Err() == nil {
				<-next.C
				// The last request is let come to its end: a canceled one has failed.
				a := g.get(context.WithoutCancel(ctx), c, path)
				l.sent.Add(1)
				if a.err != nil || a.status != 200 {
					l.mu.Lock()
					l.failed[a.String()]++
					l.mu.Unlock()
				}
			}
		})
	}
	t.Cleanup(func() { l.stop() })
	return l
}

// stop ends the load and returns what failed.
func (l *load) stop() map[string]int {
	l.cancel()
	l.wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.failed)
}

// unharmed stops the load and fails the test if a request did, or if a connection
// was ended: nothing that is changed here is the connections' listener's. Envoy's
// connections are counted only.
func (l *load) unharmed(t *testing.T, workers int) {
	t.Helper()
	failed, dials := l.stop(), l.dials.Load()
	if len(failed) > 0 {
		t.Errorf("of %d requests failed: %v", l.sent.Load(), failed)
	}
	if dials != int64(workers) && !envoy {
		t.Errorf("%d connections for %d workers: some were ended", dials, workers)
	}
	t.Logf("%d requests, %d failed, %d connections", l.sent.Load(), len(failed), dials)
}
