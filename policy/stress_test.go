package policy

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quadnine/quadnine"
)

// TestStress runs one key's whole life from many goroutines. Transitions must
// alternate as the state machine says, each told once; no more probes than
// SuccessThreshold may be out in one half-open epoch.
func TestStress(t *testing.T) {
	const probes, workers, rounds = 2, 8, 4000
	b := newBreakers(t, func(c *BreakerConfig) { c.SuccessThreshold, c.ProbeLease = probes, time.Hour })
	var (
		wg     sync.WaitGroup
		now    atomic.Int64
		events [len(eventNames)]atomic.Int64
		out    sync.Map // epoch → *atomic.Int64, probes out
	)
	for g := range uint64(workers) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(g, 1))
			for range rounds {
				at := now.Add(int64(time.Second))
				d, p := b.Decide(acme, at)
				events[p.Event()].Add(1)
				if d == Reject {
					continue
				}
				if d == Probe {
					v, _ := out.LoadOrStore(p.epoch, new(atomic.Int64))
					n := v.(*atomic.Int64)
					if got := n.Add(1); got > probes {
						t.Errorf("%d probes out in epoch %d", got, p.epoch)
					}
					n.Add(-1) // before Record: afterwards another may have the slot
				}
				events[b.Record(p, Outcome(r.IntN(3)), Upstream5xx, at)].Add(1)
			}
		})
	}
	wg.Wait()
	opened, half, closed := events[Opened].Load(), events[HalfOpened].Load(), events[Closed].Load()
	e := b.keys.find(func() (uint64, quadnine.Key) { h, _ := b.hash(acme); return h, acme }())
	if e == nil {
		t.Fatal("the key has no breaker")
	}
	if got := int64(epochOf(e.word.Load()) - firstEpoch); got != opened+half+closed {
		t.Errorf("%d epochs were begun, %d transitions told", got, opened+half+closed)
	}
	if d := opened - half; d != 0 && d != 1 {
		t.Errorf("opened %d times, half-opened %d", opened, half)
	}
	if half == 0 || closed == 0 || closed > half {
		t.Errorf("opened %d, half-opened %d, closed %d: the test tests too little", opened, half, closed)
	}
}

// TestStressProbesHeld keeps probes out while others ask.
func TestStressProbesHeld(t *testing.T) {
	const probes, workers = 3, 8
	for range 200 {
		b := newBreakers(t, func(c *BreakerConfig) { c.SuccessThreshold = probes })
		trip(t, b, acme, 0)
		var (
			wg         sync.WaitGroup
			given, hop atomic.Int64
		)
		for range workers {
			wg.Go(func() {
				for range 4 {
					d, p := b.Decide(acme, openFor)
					if d == Probe {
						given.Add(1)
					}
					if p.Event() == HalfOpened {
						hop.Add(1)
					}
				}
			})
		}
		wg.Wait()
		if given.Load() != probes || hop.Load() != 1 {
			t.Fatalf("%d probes given, half-opened told %d times; want %d, 1", given.Load(), hop.Load(), probes)
		}
	}
}

// TestStressTable makes, drops and decays keys of a small table from many
// goroutines and then checks its books.
func TestStressTable(t *testing.T) {
	const workers, rounds = 8, 3000
	b := newBreakers(t, func(c *BreakerConfig) {
		c.MaxKeys, c.MaxKeysPerTenant, c.MaxTenants = 64, 24, 4
		c.FailureThreshold, c.Window, c.DecayAfter = 2, time.Second, time.Second
	})
	var (
		wg  sync.WaitGroup
		now atomic.Int64
	)
	for g := range uint64(workers) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(g, 2))
			for range rounds {
				at := now.Add(int64(time.Millisecond))
				k := numbered(string(rune('a'+r.IntN(8))), r.IntN(40))
				send(b, k, Outcome(r.IntN(3)), at)
				if r.IntN(50) == 0 {
					b.Sweep(16, at)
				}
				if keys, tenants := b.Counts(); keys > 64 || tenants > 4 {
					t.Errorf("%d keys, %d tenants: past the bounds", keys, tenants)
					return
				}
			}
		})
	}
	wg.Wait()
	seen := map[quadnine.Key]bool{}
	keys := 0
	for e := range b.keys.all() {
		if seen[e.key] {
			t.Errorf("%v is there twice", e.key)
		}
		seen[e.key] = true
		keys++
	}
	if live, _ := b.Counts(); keys != live {
		t.Errorf("%d entries, %d counted", keys, live)
	}
	end := now.Load() + int64(time.Hour)
	for range 4 { // keys first, then tenants with nothing left
		b.Sweep(everything, end)
		end += int64(time.Hour)
	}
	if keys, tenants := b.Counts(); keys != 0 || tenants != 0 || b.other.keys.Load() != 0 {
		t.Errorf("%d keys, %d tenants, %d of others are left", keys, tenants, b.other.keys.Load())
	}
}
