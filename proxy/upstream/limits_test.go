package upstream

import (
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/snapshot"
)

func limited(change func(t *snapshot.Thresholds)) *snapshot.Cluster {
	c := managed(to("a:80")...)
	change(&c.Thresholds[snapshot.PriorityDefault])
	return c
}

func TestMaxRequestsIsExact(t *testing.T) {
	for _, limit := range []int{1, 2} {
		for _, p := range []snapshot.Protocol{snapshot.H2C, snapshot.H1} {
			t.Run(p.String(), func(t *testing.T) {
				c := limited(func(t *snapshot.Thresholds) { t.MaxRequests = uint32(limit) })
				c.Protocol = p
				bubbleOf(t, c, func(r *rig) {
					g := newGate()
					r.serve("a:80", g.ServeHTTP, map[snapshot.Protocol]testkit.Protocol{snapshot.H2C: testkit.H2, snapshot.H1: testkit.H1}[p])
					var tries []*try
					for range limit {
						tries = append(tries, r.get("/x"))
						synctest.Wait()
					}
					over := r.get("/over")
					if <-over.over; !errors.Is(over.err, ErrOverflow) {
						t.Fatalf("status %q, error %v; want %v", over.status, over.err, ErrOverflow)
					}
					high := r.prepare("/high") // has a limit of its own
					high.want.Priority = snapshot.PriorityHigh
					r.do(high.open)
					synctest.Wait()
					if !high.running() {
						t.Fatalf("a request of high priority: error %v", high.err)
					}
					for range limit + 1 {
						g.pass()
					}
					high.ok("/high")
					for _, x := range tries {
						x.ok("/x")
					}
					if u := r.cluster.Usage(snapshot.PriorityDefault); u.RequestOverflows != 1 || u.PendingOverflows != 0 || u.Requests != 0 {
						t.Errorf("usage %+v", u)
					}
					x := r.get("/again")
					g.pass()
					x.ok("/again")
				})
			})
		}
	}
}

func TestMaxPendingIsExact(t *testing.T) {
	for _, limit := range []int{0, 1, 2} {
		bubbleOf(t, limited(func(t *snapshot.Thresholds) { t.MaxPending = uint32(limit) }), func(r *rig) {
			defer r.hang("a:80")()
			var tries []*try
			for range limit {
				tries = append(tries, r.get("/x"))
			}
			over := r.get("/over")
			if <-over.over; !errors.Is(over.err, ErrOverflow) {
				t.Fatalf("limit %d: error %v, want %v", limit, over.err, ErrOverflow)
			}
			for _, x := range tries {
				if !x.waiting() {
					t.Fatalf("limit %d: error %v, want to wait", limit, x.err)
				}
				r.do(func() { r.pool.Cancel(&x.want) })
			}
			if u := r.cluster.Usage(snapshot.PriorityDefault); u.PendingOverflows != 1 || u.Pending != 0 {
				t.Errorf("usage %+v", u)
			}
		})
	}
}

func TestMaxConnectionsIsExact(t *testing.T) {
	for _, limit := range []int{1, 2} {
		c := limited(func(t *snapshot.Thresholds) { t.MaxConnections = uint32(limit) })
		c.Protocol = snapshot.H1
		bubbleOf(t, c, func(r *rig) {
			g := newGate()
			r.serve("a:80", g.ServeHTTP, testkit.H1)
			var tries []*try
			for range limit + 2 {
				tries = append(tries, r.get("/x"))
				synctest.Wait()
			}
			if n := r.net.Dials("a:80"); n != limit || r.cluster.Endpoints()[0].Conns() != int64(limit) {
				t.Fatalf("dialed %d times, want %d", n, limit)
			}
			for i, x := range tries {
				if x.running() != (i < limit) {
					t.Fatalf("limit %d: exchange %d runs: %v", limit, i, x.running())
				}
			}
			for range tries {
				g.pass()
				synctest.Wait()
			}
			for _, x := range tries {
				x.ok("/x")
			}
			if u := r.cluster.Usage(snapshot.PriorityDefault); u.ConnectionOverflows == 0 {
				t.Errorf("usage %+v: an overflow is counted", u)
			}
		})
	}
}

// TestEveryHostGetsAConnection, also beyond max_connections: who waits there
// would wait for ever.
func TestEveryHostGetsAConnection(t *testing.T) {
	c := managed(to("a:80", "b:80")...)
	c.Thresholds[0].MaxConnections = 1
	bubbleOf(t, c, func(r *rig) {
		r.serve("a:80", hello)
		r.serve("b:80", hello)
		for range 4 {
			r.get("/x").ok("/x")
		}
		if a, b := r.net.Dials("a:80"), r.net.Dials("b:80"); a != 1 || b != 1 {
			t.Fatalf("dialed %d and %d times, want each once", a, b)
		}
	})
}

func TestTakeIsExact(t *testing.T) {
	var n atomic.Int64
	var most, got atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10_000 {
				if take(&n, 2) {
					got.Add(1)
					if v := n.Load(); v > most.Load() {
						most.Store(v)
					}
					n.Add(-1)
				}
			}
		})
	}
	wg.Wait()
	if most.Load() > 2 || got.Load() == 0 || n.Load() != 0 {
		t.Fatalf("%d at a time, %d taken, %d left", most.Load(), got.Load(), n.Load())
	}
	if take(&n, 0) || !take(&n, math.MaxUint32) {
		t.Fatal("none is none, and no limit is none")
	}
}

func TestMaxStreamsOfAConnection(t *testing.T) {
	c := managed(to("a:80")...)
	c.MaxStreams = 2
	bubbleOf(t, c, func(r *rig) {
		g := newGate()
		r.serve("a:80", g.ServeHTTP)
		var tries []*try
		for range 5 {
			tries = append(tries, r.get("/x"))
			synctest.Wait()
		}
		if n := r.net.Dials("a:80"); n != 3 {
			t.Fatalf("%d connections for 5 streams of 2 each", n)
		}
		for range tries {
			g.pass()
		}
		for _, x := range tries {
			x.ok("/x")
		}
	})
}

// TestStreamLimitOfTheEndpoint: more connections, as many as it takes.
func TestStreamLimitOfTheEndpoint(t *testing.T) {
	bubbleOf(t, managed(to("a:80")...), func(r *rig) {
		g := newGate()
		r.limited("a:80", 1, g.ServeHTTP)
		var tries []*try
		for range 4 {
			tries = append(tries, r.get("/x"))
			synctest.Wait()
		}
		if n := r.net.Dials("a:80"); n != 4 {
			t.Fatalf("%d connections for 4 streams of 1 each", n)
		}
		for range tries {
			g.pass()
		}
		for _, x := range tries {
			x.ok("/x")
		}
	})
}

func TestMaxRequestsOfAConnection(t *testing.T) {
	for _, p := range []snapshot.Protocol{snapshot.H2C, snapshot.H1} {
		t.Run(p.String(), func(t *testing.T) {
			c := managed(to("a:80")...)
			c.Protocol, c.MaxRequests = p, 3
			bubbleOf(t, c, func(r *rig) {
				r.serve("a:80", hello, map[snapshot.Protocol]testkit.Protocol{snapshot.H2C: testkit.H2, snapshot.H1: testkit.H1}[p])
				for range 9 {
					r.get("/x").ok("/x")
				}
				time.Sleep(2 * time.Second) // they may linger
				if n := r.net.Dials("a:80"); n != 3 || r.cluster.Endpoints()[0].Conns() != 0 {
					t.Fatalf("%d connections for 9 requests of 3 each, %d open", n, r.cluster.Endpoints()[0].Conns())
				}
			})
		})
	}
}

func TestIdleTimeout(t *testing.T) {
	for _, p := range []snapshot.Protocol{snapshot.H2C, snapshot.H1} {
		t.Run(p.String(), func(t *testing.T) {
			c := managed(to("a:80")...)
			c.Protocol, c.IdleTimeout = p, 10*time.Second
			bubbleOf(t, c, func(r *rig) {
				r.serve("a:80", hello, map[snapshot.Protocol]testkit.Protocol{snapshot.H2C: testkit.H2, snapshot.H1: testkit.H1}[p])
				for range 4 {
					r.get("/x").ok("/x")
					time.Sleep(9 * time.Second)
				}
				if n := r.net.Dials("a:80"); n != 1 {
					t.Fatalf("dialed %d times", n)
				}
				time.Sleep(3 * time.Second)
				synctest.Wait()
				if n := r.cluster.Endpoints()[0].Conns(); n != 0 {
					t.Fatal("an idle connection stays open")
				}
				r.get("/x").ok("/x")
			})
		})
	}
}

func TestConnectTimeoutOfTheCluster(t *testing.T) {
	c := managed(to("a:80")...)
	c.ConnectTimeout = 250 * time.Millisecond
	bubbleOf(t, c, func(r *rig) {
		defer r.hang("a:80")()
		begin := time.Now()
		x := r.get("/x")
		<-x.over
		if _, ok := errors.AsType[*DialError](x.err); !ok || time.Since(begin) != c.ConnectTimeout {
			t.Fatalf("error %v after %v", x.err, time.Since(begin))
		}
	})
}

// TestSpeaksWhatTheCallerDoes: use_downstream_protocol_config.
func TestSpeaksWhatTheCallerDoes(t *testing.T) {
	c := managed(to("a:80")...)
	c.Protocol = snapshot.Downstream
	bubbleOf(t, c, func(r *rig) {
		var seen []int
		r.serve("a:80", protocolOf(&seen), testkit.H1, testkit.H2)
		for _, p := range []snapshot.Protocol{snapshot.H1, snapshot.H2C, snapshot.H1, snapshot.H2C} {
			x := r.prepare("/x")
			x.want.Caller = p
			r.do(x.open)
			<-x.over
		}
		if !slices.Equal(seen, []int{1, 2, 1, 2}) || r.net.Dials("a:80") != 2 {
			t.Fatalf("spoke HTTP/%v over %d connections", seen, r.net.Dials("a:80"))
		}
	})
}
