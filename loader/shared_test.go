package loader

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quadnine/quadnine/internal/mmap"
)

// fakeSharer does what tests tell it to.
type fakeSharer struct {
	decided map[uint64]func(error)
	gone    map[uint64]func()
	serving string // what was published last
}

func (f *fakeSharer) Offer(v *Shared, decided func(error)) { f.decided[v.Info().Number] = decided }

func (f *fakeSharer) Published(model string, s Serving) {
	f.serving = model
	for _, v := range []*Shared{s.Active, s.Canary, s.Standby} {
		if v == nil {
			f.serving += " -"
			continue
		}
		f.serving += fmt.Sprint(" ", v.Info().Number)
	}
	f.serving += fmt.Sprintf(" %.0f%%", float64(s.Share)/(1<<32)*100)
}

func (f *fakeSharer) Withdraw(v *Shared, gone func()) { f.gone[v.Info().Number] = gone }

func newFakeSharer() *fakeSharer {
	return &fakeSharer{decided: make(map[uint64]func(error)), gone: make(map[uint64]func())}
}

func (r *rig) stateOf(n uint64) string {
	for _, v := range r.l.Versions("score") {
		if v.Number == n {
			return v.State.String()
		}
	}
	return "none"
}

// heardOf returns the kinds of the events about a version that came so far.
func (r *rig) heardOf(n uint64) (out []Kind) {
	for len(r.l.Events()) > 0 {
		if ev := <-r.l.Events(); ev.Version == n {
			out = append(out, ev.Kind)
		}
	}
	return out
}

func TestVersionWaitsForTheSharer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeSharer()
		r := newRig(t, func(o *Options) { o.Sharer = f })
		defer r.close()
		expect := func(n uint64, state, serving string) {
			t.Helper()
			synctest.Wait()
			if got := r.stateOf(n); got != state || f.serving != serving {
				t.Errorf("version %d is %s, %q is published; want %s, %q", n, got, f.serving, state, serving)
			}
		}
		r.drop(1, 0, nil)
		expect(1, "pending", "")
		time.Sleep(time.Hour)
		expect(1, "pending", "")
		f.decided[1](nil)
		expect(1, "active", "score 1 - - 0%")

		r.drop(2, 1, nil)
		expect(2, "pending", "score 1 - - 0%")
		f.decided[2](nil)
		expect(2, "canary", "score 1 2 - 5%")
		r.judge.say(2, Promote)
		time.Sleep(time.Second)
		expect(2, "active", "score 2 - 1 0%")

		r.drop(3, 2, nil)
		synctest.Wait()
		f.decided[3](errors.New("pid 7: another root"))
		expect(3, "none", "score 2 - 1 0%") // nobody saw it: it is freed at once
		if q := r.l.Quarantined(); len(q) != 1 || q[0].Reason != "pid 7: another root" {
			t.Errorf("%+v", q)
		}
		if f.gone[3] == nil {
			t.Error("version 3 was not asked back")
		}
		f.gone[3]()
		must(t, r.l.Rollback(t.Context(), "score", 2, "by hand"))
		expect(1, "active", "score 1 - - 0%")
		f.gone[2]()
		expect(2, "none", "score 1 - - 0%")
	})
}

// What other processes map is not freed, though this one's own mapping is; and
// nothing is looked at all the time meanwhile.
func TestFreedWaitsForOtherProcesses(t *testing.T) {
	for name, leased := range map[string]bool{"idle": false, "leased": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				before := mmap.Mappings()
				f := newFakeSharer()
				r := newRig(t, func(o *Options) { o.Sharer = f })
				drop := func(n uint64) {
					t.Helper()
					r.drop(n, n-1, atOnce)
					synctest.Wait()
					f.decided[n](nil)
					synctest.Wait()
				}
				drop(1)
				var lease Lease
				if leased {
					var err error
					lease, err = r.l.AcquireVersion("score", 1)
					must(t, err)
				}
				drop(2)
				drop(3) // 1 is out of use
				r.heardOf(1)
				time.Sleep(DefaultReclaim + time.Hour)
				want := "[]"
				if leased {
					want = fmt.Sprint([]Kind{EventUnloadTimeout})
					if err := lease.With(func(View) error { return nil }); !errors.Is(err, ErrRevoked) {
						t.Errorf("the late reader got %v", err)
					}
					lease.Release()
				}
				if s, got := r.stateOf(1), fmt.Sprint(r.heardOf(1)); s != "unloading" || got != want {
					t.Errorf("version 1 is %s, heard %s; want unloading, %s", s, got, want)
				}
				if v := r.l.Versions("score")[0]; v.Leases != 0 {
					t.Errorf("%d leases are left", v.Leases)
				}
				f.gone[1]()
				synctest.Wait()
				if s, got := r.stateOf(1), fmt.Sprint(r.heardOf(1)); s != "none" || got != fmt.Sprint([]Kind{EventUnloadSuccess}) {
					t.Errorf("version 1 is %s, heard %s; want it gone, with success", s, got)
				}
				r.close()
				if n := mmap.Mappings() - before; n != 0 {
					t.Errorf("%d mappings are left", n)
				}
			})
		})
	}
}
