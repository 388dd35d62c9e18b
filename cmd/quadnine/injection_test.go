package main

import (
	"fmt"
	"math"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quadnine/quadnine/loader/delta"
)

// TestNothingIsRoutedToAVersionThatWasTakenBack ships versions whose answers are
// no numbers under load, QUADNINE_INJECTIONS of them (20), and prints how long
// after its taking back the last request was routed to one. It holds counts only:
// each is taken back, and no reply names one.
func TestNothingIsRoutedToAVersionThatWasTakenBack(t *testing.T) {
	injections := uint64(20)
	if n, err := strconv.ParseUint(os.Getenv("QUADNINE_INJECTIONS"), 10, 32); err == nil {
		injections = n
	}
	var mu sync.Mutex
	last := make(map[string]time.Time) // guarded by mu
	dir, log := t.TempDir(), newAuditLog(t)
	s := newStand(t, standConfig{shards: 2, logTo: log, models: modelsConfig{dir: dir, store: t.TempDir()}, onRouted: func(version string, _ int64) {
		mu.Lock()
		defer mu.Unlock()
		last[version] = time.Now()
	}})
	c := s.client(true)
	canary := delta.Canary{Weight: 50, PromoteAfter: time.Hour, MinRequests: 20}
	dropVersion(t, dir, 1, weights{2, 1}, canary)
	for version := ""; version != "score@1"; {
		_, version, _ = s.score(c, "u")
	}
	var stop atomic.Bool
	var wrong, asked atomic.Int64
	var wg sync.WaitGroup
	for w := range 8 {
		c := s.client(w%2 == 0) // connections of their own, on both loops
		wg.Go(func() {
			for i := w; !stop.Load(); i += 8 {
				asked.Add(1)
				if _, version, a := s.score(c, "u"+strconv.Itoa(i%200)); a.status != http.StatusOK || version != "score@1" {
					wrong.Add(1)
				}
			}
		})
	}
	at := make(map[string]time.Time)
	for n := uint64(2); n < 2+injections; n++ {
		dropVersion(t, dir, n, weights{math.NaN(), float64(n)}, canary)
		log.await("model.rolled_back", fmt.Sprintf(" from=%d ", n))
		at["score@"+strconv.FormatUint(n, 10)] = s.side.models.loader.Refused(demoModel)[n].At
	}
	stop.Store(true)
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	took := make([]time.Duration, 0, len(at))
	for version, t0 := range at {
		if last[version].IsZero() {
			t.Errorf("%s was taken back without a request", version)
		}
		took = append(took, max(last[version].Sub(t0), 0))
	}
	if wrong.Load() != 0 {
		t.Errorf("%d of %d replies were not whole answers of the active version", wrong.Load(), asked.Load())
	}
	slices.Sort(took)
	t.Logf("%d injections, %d requests: taken back → last request routed to it: p50 %v, p99 %v, longest %v",
		len(took), asked.Load(), took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
}
