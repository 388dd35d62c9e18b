package upstream

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go/budget"

	"github.com/quadnine/quadnine/snapshot"
)

// TestRetryBudgetAgainstFailsafe: of a random load as many retries run at a time as
// failsafe-go's budget lets run. It lets one more in where the share is reached
// exactly; ours, as Envoy's, does not.
func TestRetryBudgetAgainstFailsafe(t *testing.T) {
	for range 50 {
		percent, least := float64(rand.IntN(101)), uint(rand.IntN(6))
		oracle, ok := budget.NewBuilder().WithMaxRate(percent / 100).WithMinConcurrency(least).Build().(interface {
			RecordExecution()
			ReleaseExecution()
			TryAcquirePermit() bool
			ReleasePermit()
		})
		if !ok {
			t.Fatal("failsafe-go's budget cannot be driven by hand")
		}
		c := managed(to("a:80")...)
		c.Thresholds[0] = snapshot.Thresholds{MaxRequests: 1000, MaxPending: 1000, MaxConnections: 1000, HasRetryBudget: true, RetryPercent: percent, MinRetries: uint32(least)}
		bubbleOf(t, c, func(r *rig) {
			r.do(func() {
				var ours, active int
				u := &r.cluster.usage[0]
				req := new(Request)
				for range 300 {
					switch rand.IntN(4) {
					case 0:
						u.active.Add(1)
						oracle.RecordExecution()
						active++
					case 1:
						if active > 0 {
							u.active.Add(-1)
							oracle.ReleaseExecution()
							active--
						}
					case 2: // a retry is a request on the cluster too
						share := int(percent / 100 * float64(active+ours))
						mine, theirs := r.pool.Retry(r.cluster, req, false), oracle.TryAcquirePermit()
						switch {
						case mine && theirs:
							ours++
							u.active.Add(1)
						case mine:
							t.Errorf("%v %%, at least %d: of %d retries beside %d requests one more runs, with failsafe-go not", percent, least, ours, active)
							return
						case theirs && (ours != share || ours < int(least)):
							t.Errorf("%v %%, at least %d: of %d retries beside %d requests no more runs, with failsafe-go one does", percent, least, ours, active)
							return
						case theirs:
							oracle.ReleasePermit()
						}
					default:
						if ours > 0 {
							r.cluster.EndRetry(0)
							u.active.Add(-1)
							oracle.ReleasePermit()
							ours--
						}
					}
				}
				for range ours {
					r.cluster.EndRetry(0)
				}
				u.active.Store(0)
			})
		})
	}
}

// TestRetriesAreAShareOverAllShards: two shards that ask at once get no more than
// the share of what both have sent.
func TestRetriesAreAShareOverAllShards(t *testing.T) {
	var b retries
	var wg sync.WaitGroup
	granted := make([]int, 4)
	b.sent.Add(1000)
	b.roll(1e9)
	b.sent.Add(1000) // 1,000 within the window, and 1,000 before it
	for i := range granted {
		wg.Go(func() {
			for range 10_000 {
				if b.take(9e9) {
					granted[i]++
				}
			}
		})
	}
	wg.Wait()
	sum := 0
	for _, n := range granted {
		sum += n
	}
	if want := retryReserve + 2000/retryShare; sum != want { // the window reaches back to the start
		t.Errorf("%d retries, want %d", sum, want)
	}
	if b.take(10e9) {
		t.Error("the budget is used up, and grants one more a second later")
	}
	for range 50 {
		b.sent.Add(100)
		if !b.take(20e9) {
			t.Error("ten seconds later there is no budget")
		}
	}
}

// TestRepeatAvoidsWhatWasTried: with previous_hosts another endpoint is drawn as
// often as is said; without, the one whose turn it is.
func TestRepeatAvoidsWhatWasTried(t *testing.T) {
	c := managed(to("a:80", "b:80")...)
	c.Balance.Policy = snapshot.Random
	bubbleOf(t, c, func(r *rig) {
		r.do(func() {
			l := r.pool.lane(r.cluster)
			same := func(avoid uint32) (n int) {
				for range 2000 {
					x := new(Request)
					first, err := l.pick(0, x)
					if err != nil {
						t.Error(err)
						return 0
					}
					x.note(first)
					x.Repeat, x.Avoid = true, avoid
					if e, err := l.pick(0, x); err == nil && e == first {
						n++
					}
				}
				return n
			}
			// 2,000 draws: 1,000, 500 and 2 are expected; the bounds are six sigma.
			if n := same(0); n < 866 || n > 1134 {
				t.Errorf("without previous_hosts %d of 2000 go to the same endpoint", n)
			}
			if n := same(1); n < 384 || n > 616 {
				t.Errorf("drawn once more, %d of 2000 go to the same endpoint", n)
			}
			if n := same(9); n > 12 {
				t.Errorf("drawn nine times more, %d of 2000 go to the same endpoint", n)
			}
		})
	})
}

// TestRetryGoesToTheOnlyEndpoint: a cluster of flags has nobody else to ask.
func TestRetryGoesToTheOnlyEndpoint(t *testing.T) {
	bubble(t, []string{"h2c://a:80"}, func(r *rig) {
		r.do(func() {
			l, x := r.pool.lane(r.cluster), new(Request)
			first, err := l.pick(0, x)
			if err != nil {
				t.Error(err)
				return
			}
			x.note(first)
			if r.pool.Another(r.cluster, x) {
				t.Error("there is another endpoint")
			}
			if _, err := l.pick(0, x); err == nil {
				t.Error("after a failed dial the endpoint is asked again")
			}
			x.Repeat = true
			if e, err := l.pick(0, x); err != nil || e != first {
				t.Errorf("a repeated request goes to %v, %v", e, err)
			}
		})
		time.Sleep(time.Second)
	})
}
