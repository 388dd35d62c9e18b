package loader

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quadnine/quadnine/internal/mmap"
)

// Readers see whole versions only while two of them change places 5,000 times,
// and everything is freed in the end.
func TestReadersSeeWholeVersions(t *testing.T) {
	const swaps = 5000
	before := mmap.Mappings()
	r := newRig(t, nil)
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	r.drop(2, 1, atOnce)
	r.await(EventActive, 2)

	var stop atomic.Bool
	var reads, torn atomic.Int64
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 1))
			for !stop.Load() {
				lease, err := r.l.Acquire("score", rnd.Uint64())
				if err != nil {
					t.Error(err)
					return
				}
				err = lease.With(func(w View) error {
					n := w.Info().Number
					_, small, _ := w.Tensor("small")
					_, dense, _ := w.Tensor("dense")
					at := rnd.IntN(len(dense))
					if small[0] != byte(n) || dense[at] != byte(1)^byte(at)^byte(at>>8)+byte(n) || lease.Info().Number != n {
						torn.Add(1)
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
				reads.Add(1)
				lease.Release()
			}
		})
	}
	for i := range swaps {
		must(t, r.l.Activate(t.Context(), "score", uint64(i%2)+1))
		if i%500 == 0 {
			for len(r.l.Events()) > 0 {
				<-r.l.Events()
			}
		}
	}
	stop.Store(true)
	wg.Wait()
	if torn.Load() != 0 || reads.Load() == 0 {
		t.Errorf("%d of %d reads were torn", torn.Load(), reads.Load())
	}
	for _, v := range r.l.Versions("score") {
		if v.Leases != 0 {
			t.Errorf("v%d: %d leases are left", v.Number, v.Leases)
		}
	}
	r.close()
	if mmap.Mappings() != before {
		t.Errorf("%d mappings left behind", mmap.Mappings()-before)
	}
}

// A new version each time: loaded, active, standby, freed, while readers hold
// leases of all ages.
func TestManyVersionsUnderReaders(t *testing.T) {
	const versions = 40
	before := mmap.Mappings()
	r := newRig(t, nil)
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			var held []Lease
			for !stop.Load() {
				lease, err := r.l.Acquire("score", rand.Uint64())
				if err != nil {
					t.Error(err)
					return
				}
				held = append(held, lease)
				if len(held) > 8 {
					must(t, held[0].With(func(w View) error { return r.shape.check(w, held[0].Info().Number) }))
					held[0].Release()
					held = held[1:]
				}
			}
			for _, l := range held {
				l.Release()
			}
		})
	}
	for n := uint64(2); n <= versions; n++ {
		r.drop(n, n-1, atOnce)
		r.await(EventActive, n)
	}
	stop.Store(true)
	wg.Wait()
	r.serves(versions)
	r.quiesce()
	must(t, r.l.call(t.Context(), func() error { return nil })) // one more sweep
	if n := len(r.l.Versions("score")); n != 2 {
		t.Errorf("%d versions are left, want active and standby", n)
	}
	r.close()
	if mmap.Mappings() != before {
		t.Errorf("%d mappings left behind", mmap.Mappings()-before)
	}
}

func TestRevokedReaderGetsAnError(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Reclaim = 20 * time.Millisecond })
	r.drop(1, 0, atOnce)
	r.await(EventActive, 1)
	r.drop(2, 1, nil)
	r.await(EventCanary, 2)
	lease, err := r.l.AcquireVersion("score", 2)
	must(t, err)
	if lease.Role() != Canary {
		t.Errorf("role %v", lease.Role())
	}
	must(t, r.l.Rollback(t.Context(), "score", 2, "by hand"))
	err = lease.With(func(w View) error {
		for { // a reader that does not end by itself
			if err := r.shape.check(w, 2); err != nil {
				return err
			}
		}
	})
	if !errors.Is(err, ErrRevoked) {
		t.Fatalf("the late reader got %v, want ErrRevoked", err)
	}
	<-lease.Done()
	if err := lease.With(func(View) error { t.Error("ran"); return nil }); !errors.Is(err, ErrRevoked) {
		t.Errorf("after it: %v", err)
	}
	if ev := r.await(EventUnloadTimeout, 2); ev.Leases != 1 || ev.Took < 20*time.Millisecond {
		t.Errorf("%+v", ev)
	}
	lease.Release()
	r.serves(1)
	r.close()
}

func TestDrawsFallByWeight(t *testing.T) {
	r := newRig(t, nil)
	defer r.close()
	r.drop(1, 0, nil)
	r.await(EventActive, 1)
	r.drop(2, 1, nil)
	r.await(EventCanary, 2)
	rnd := rand.New(rand.NewPCG(1, 2))
	count := func() (n int) {
		for range 20_000 {
			lease, err := r.l.Acquire("score", rnd.Uint64())
			must(t, err)
			if lease.Role() == Canary {
				n++
			}
			lease.Release()
		}
		return n
	}
	if n := count(); n < 880 || n > 1120 { // 5 %: mean 1,000, deviation 31
		t.Errorf("5 %% of 20,000 draws are %d", n)
	}
	for _, c := range []struct {
		weight float64
		want   int
	}{{0, 0}, {100, 20_000}} {
		must(t, r.l.SetCanary("score", &c.weight))
		if n := count(); n != c.want {
			t.Errorf("%v %% of 20,000 draws are %d", c.weight, n)
		}
	}
	must(t, r.l.SetCanary("score", nil))
	if n := count(); n < 880 || n > 1120 {
		t.Errorf("back to 5 %%: %d", n)
	}
	for _, w := range []float64{-1, 100.1} {
		if r.l.SetCanary("score", &w) == nil {
			t.Errorf("weight %v was taken", w)
		}
	}
}

func TestAcquireAllocs(t *testing.T) {
	r := newRig(t, nil)
	defer r.close()
	r.drop(1, 0, nil)
	r.await(EventActive, 1)
	if n := testing.AllocsPerRun(1000, func() {
		lease, err := r.l.Acquire("score", 7)
		if err != nil {
			t.Fatal(err)
		}
		lease.Release()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAcquire(b *testing.B) {
	r := newRig(b, nil)
	defer r.close()
	r.drop(1, 0, nil)
	r.await(EventActive, 1)
	b.ReportAllocs()
	for b.Loop() {
		lease, err := r.l.Acquire("score", 7)
		if err != nil {
			b.Fatal(err)
		}
		lease.Release()
	}
}
