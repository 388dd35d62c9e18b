package upstream

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/snapshot"
)

// TestEndpointsThatStayKeepEverything: the connection, and what is known.
func TestEndpointsThatStayKeepEverything(t *testing.T) {
	c := managed(to("a:80")...)
	bubbleOf(t, c, func(r *rig) {
		r.serve("a:80", hello)
		r.serve("b:80", hello)
		r.get("/1").ok("/1")
		a := r.cluster.Endpoints()[0]
		next := managed(to("b:80", "a:80")...)
		next.Assignment.Endpoints[1].Weight, next.Assignment.Endpoints[1].Hostname = 3, "a.example"
		r.update(next)
		if got := r.cluster.Endpoints()[1]; got != a || a.Info().Weight != 3 || a.Hostname() != "a.example" {
			t.Fatalf("another endpoint, or %+v", got.Info())
		}
		for range 8 {
			r.get("/2").ok("/2")
		}
		if n := r.net.Dials("a:80"); n != 1 {
			t.Errorf("dialed %d times, want once", n)
		}
	})
}

// TestEndpointThatGoes: what runs on it finishes, then its connection closes;
// nothing new comes.
func TestEndpointThatGoes(t *testing.T) {
	for _, p := range []snapshot.Protocol{snapshot.H2C, snapshot.H1} {
		t.Run(p.String(), func(t *testing.T) {
			c := managed(to("a:80")...)
			c.Protocol = p
			bubbleOf(t, c, func(r *rig) {
				g := newGate()
				speaks := map[snapshot.Protocol]testkit.Protocol{snapshot.H2C: testkit.H2, snapshot.H1: testkit.H1}[p]
				r.serve("a:80", g.ServeHTTP, speaks)
				r.serve("b:80", hello, speaks)
				running := r.get("/1")
				synctest.Wait()
				a := r.cluster.Endpoints()[0]
				next := managed(to("b:80")...)
				next.Protocol = p
				r.update(next)
				synctest.Wait()
				if a.Conns() != 1 || a.Active() != 1 {
					t.Fatalf("%d connections, %d exchanges; want them to go on", a.Conns(), a.Active())
				}
				for range 4 {
					r.get("/2").ok("/2")
				}
				g.pass()
				running.ok("/1")
				time.Sleep(2 * time.Second) // it may linger
				if a.Conns() != 0 {
					t.Fatal("the connection stays open")
				}
				if n := r.net.Dials("a:80"); n != 1 {
					t.Errorf("dialed %d times", n)
				}
				r.do(func() {
					if n := len(r.pool.lanes[r.cluster].hosts); n != 1 {
						t.Errorf("%d endpoints are kept in mind, want 1", n)
					}
				})
			})
		})
	}
}

// TestIdleConnectionsOfWhatGoes close at once.
func TestIdleConnectionsOfWhatGoes(t *testing.T) {
	for _, p := range []snapshot.Protocol{snapshot.H2C, snapshot.H1} {
		t.Run(p.String(), func(t *testing.T) {
			c := managed(to("a:80")...)
			c.Protocol = p
			bubbleOf(t, c, func(r *rig) {
				r.serve("a:80", hello, map[snapshot.Protocol]testkit.Protocol{snapshot.H2C: testkit.H2, snapshot.H1: testkit.H1}[p])
				r.get("/1").ok("/1")
				a := r.cluster.Endpoints()[0]
				next := managed()
				next.Protocol = p
				r.update(next)
				time.Sleep(2 * time.Second)
				if a.Conns() != 0 {
					t.Fatal("the connection stays open")
				}
				r.refused(ErrNone)
			})
		})
	}
}

// TestWhoWaitsMovesOn: an endpoint that never answered goes while requests wait
// for a connection to it.
func TestWhoWaitsMovesOn(t *testing.T) {
	c := managed(to("hangs:80")...)
	c.ConnectTimeout = time.Hour
	bubbleOf(t, c, func(r *rig) {
		defer r.hang("hangs:80")()
		r.serve("b:80", hello)
		var told []error
		x := r.prepare("/1")
		x.retry = func(err error) { told = append(told, err); x.open() }
		r.do(x.open)
		synctest.Wait()
		r.update(managed(to("b:80")...))
		x.ok("/1")
		if len(told) != 1 || !errors.Is(told[0], ErrMoved) {
			t.Errorf("told %v", told)
		}
	})
}

// TestRetiredClusterStillServes whoever was routed to it before, and leaves
// nothing behind.
func TestRetiredClusterStillServes(t *testing.T) {
	for _, p := range []snapshot.Protocol{snapshot.H2C, snapshot.H1} {
		t.Run(p.String(), func(t *testing.T) {
			c := managed(to("a:80")...)
			c.Protocol = p
			bubbleOf(t, c, func(r *rig) {
				r.serve("a:80", hello, map[snapshot.Protocol]testkit.Protocol{snapshot.H2C: testkit.H2, snapshot.H1: testkit.H1}[p])
				r.get("/1").ok("/1")
				r.cluster.Retire()
				synctest.Wait()
				r.get("/late").ok("/late")
				time.Sleep(2 * time.Second)
				r.do(func() {
					if len(r.pool.lanes) != 0 || len(r.cluster.lanes) != 0 {
						t.Error("the pool still knows the cluster")
					}
				})
			})
		})
	}
}

// TestNextEndpointWhenADialFails: each is tried once, and the reason names
// the last.
func TestNextEndpointWhenADialFails(t *testing.T) {
	again := func(x *try, told *int) *try {
		x.retry = func(error) { *told++; x.open() }
		x.rig.do(x.open)
		<-x.over
		return x
	}
	bubbleOf(t, managed(to("a:80", "b:80", "c:80", "d:80", "e:80")...), func(r *rig) {
		tries := 0
		x := again(r.prepare("/1"), &tries)
		d, ok := errors.AsType[*DialError](x.err)
		if tries != 5 || !ok || !errors.Is(x.err, syscall.ECONNREFUSED) || !strings.HasPrefix(x.err.Error(), "dial "+d.Address+": ") {
			t.Fatalf("tried %d times, error %v", tries, x.err)
		}
	})
	bubbleOf(t, managed(to("dead:80", "a:80", "also-dead:80", "b:80")...), func(r *rig) {
		r.serve("a:80", hello)
		r.serve("b:80", hello)
		tries := 0
		for range 100 {
			again(r.prepare("/2"), &tries).ok("/2")
			r.do(func() { r.cluster.RecordBatch(true, false) })
			time.Sleep(10 * time.Millisecond)
		}
		if tries > 12 { // they rest, longer each time
			t.Errorf("%d dials failed in a second", tries)
		}
	})
}

// TestSoleEndpointIsAlwaysDialed: no back-off stands between a request and the
// only endpoint there is.
func TestSoleEndpointIsAlwaysDialed(t *testing.T) {
	bubbleOf(t, managed(to("a:80")...), func(r *rig) {
		for i := range breakerFailures - 1 {
			r.refused(syscall.ECONNREFUSED)
			if n := r.net.Dials("a:80"); n != i+1 {
				t.Fatalf("dialed %d times, want %d", n, i+1)
			}
		}
		r.serve("a:80", hello)
		r.get("/1").ok("/1")
	})
}

// TestNewEndpointsCloseTheBreaker: it knows nothing of them.
func TestNewEndpointsCloseTheBreaker(t *testing.T) {
	bubbleOf(t, managed(to("a:80")...), func(r *rig) {
		r.trip()
		r.refused(ErrOpen)
		weighted := managed(to("a:80")...)
		weighted.Assignment.Endpoints[0].Weight = 2
		r.update(weighted)
		r.refused(ErrOpen)
		r.serve("b:80", hello)
		r.update(managed(to("b:80")...))
		r.get("/1").ok("/1")
		if s := r.states(); s != "open closed" {
			t.Errorf("states: %s", s)
		}
	})
}

// TestBreakerAllowsForEveryEndpoint: while one has not failed nothing counts, and its
// bound grows with the cluster.
func TestBreakerAllowsForEveryEndpoint(t *testing.T) {
	bubbleOf(t, managed(to("a:80")...), func(r *rig) {
		r.update(managed(to("a:80", "b:80", "c:80", "d:80", "e:80", "f:80", "g:80", "h:80")...))
		for range 7 + 8 {
			x := r.get("/x")
			<-x.over
		}
		if s := r.states(); s != "" {
			t.Fatalf("breaker went to %s before every endpoint had failed", s)
		}
		r.refused(syscall.ECONNREFUSED)
		if s := r.states(); s != "open" {
			t.Fatalf("states: %q", s)
		}
		time.Sleep(breakerOpenBriefly)
		r.refused(syscall.ECONNREFUSED)
	})
}

// TestOpenAllocatesNothing on a connection that is there.
func TestOpenAllocatesNothing(t *testing.T) {
	bubbleOf(t, managed(to("a:80", "b:80")...), func(r *rig) {
		r.serve("a:80", hello)
		r.serve("b:80", hello)
		for range 4 {
			r.get("/x").ok("/x")
		}
		synctest.Wait()
		x := r.prepare("/y")
		r.do(func() {
			if n := testing.AllocsPerRun(1000, func() {
				x.want.Tried = 0
				s, err := r.pool.Open(r.cluster, &x.want)
				if err != nil || s == nil {
					t.Errorf("stream %v, error %v", s, err)
					return
				}
				s.Reset(8)
				s.Release()
				r.pool.Done(&x.want)
			}); n != 0 {
				t.Errorf("%v allocations a request", n)
			}
		})
	})
}

// TestNothingIsKeptOfWhatIsGone: a request that was routed to a cluster before it
// went, and comes to nothing there, leaves nothing behind.
func TestNothingIsKeptOfWhatIsGone(t *testing.T) {
	full := managed(to("a:80")...)
	full.Thresholds[snapshot.PriorityDefault].MaxPending = 0
	for name, c := range map[string]struct {
		cluster *snapshot.Cluster
		want    error
	}{
		"nobody":   {managed(), ErrNone},
		"overflow": {full, ErrOverflow},
	} {
		t.Run(name, func(t *testing.T) {
			bubbleOf(t, c.cluster, func(r *rig) {
				r.cluster.Retire()
				x := r.prepare("/1")
				r.do(x.open)
				if !errors.Is(x.err, c.want) {
					t.Fatalf("error %v, want %v", x.err, c.want)
				}
				r.do(func() {
					if r.pool.lanes[r.cluster] != nil {
						t.Error("the pool keeps the cluster in mind")
					}
				})
				if len(r.cluster.lanes) != 0 {
					t.Error("the cluster keeps the pool in mind")
				}
			})
		})
	}
}
