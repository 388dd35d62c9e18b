package upstream

import (
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// refused wants a request to end without a stream for this reason.
func (r *rig) refused(want error) {
	r.t.Helper()
	x := r.get("/refused")
	if <-x.over; !errors.Is(x.err, want) || x.calls != 1 {
		r.t.Fatalf("error %v (status %q), told %d times; want %v", x.err, x.status, x.calls, want)
	}
}

// states returns the states that the breaker entered.
func (r *rig) states() string {
	var s []string
	r.do(func() {
		for _, c := range r.changes {
			s = append(s, c.To)
		}
	})
	return strings.Join(s, " ")
}

func TestDialBackOffAndRecovery(t *testing.T) {
	bubble(t, []string{"h2c://app:80"}, func(r *rig) {
		ep := r.cluster.Endpoints()[0]
		for i, wait := range []time.Duration{50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond} {
			r.refused(syscall.ECONNREFUSED)
			if n := r.net.Dials("app:80"); n != i+1 {
				t.Fatalf("dialed %d times, want %d", n, i+1)
			}
			r.refused(ErrNone) // at once, with the reason
			time.Sleep(wait - time.Nanosecond)
			r.refused(ErrNone)
			time.Sleep(time.Nanosecond)
		}
		if why := ep.LastError(); !strings.Contains(why, "refused") {
			t.Errorf("last error %q", why)
		}
		r.serve("app:80", hello)
		r.get("/back").ok("/back")
		want := Counts{Connects: 1, ConnectFailures: 4, Requests: 1}
		if got := ep.Counts(); got != want || r.dialFailed != 4 || r.connected != 1 {
			t.Errorf("counts %+v, want %+v; events: %d failed, %d connected", got, want, r.dialFailed, r.connected)
		}
		r.do(func() {
			if ep.LastError() != "" || !ep.Healthy(r.shard.Now()) {
				t.Errorf("recovered, yet last error %q", ep.LastError())
			}
		})
		if s := r.states(); s != "" {
			t.Errorf("breaker went to %s after four failures", s)
		}
	})
}

func TestBackOffIsBounded(t *testing.T) {
	e := new(Endpoint)
	for n := range 100 {
		e.dialFailed(0, errClosed)
		want := minBackoff << min(n, 10)
		if want = min(want, maxBackoff); e.Healthy(int64(want)-1) || !e.Healthy(int64(want)) {
			t.Fatalf("after %d failures: not retried after exactly %v", n+1, want)
		}
	}
}

// trip fails dials until the breaker opens, and returns how many it took.
func (r *rig) trip() int {
	r.t.Helper()
	for n := 1; n <= 100; n++ {
		x := r.get("/down")
		if <-x.over; x.err == nil {
			r.t.Fatalf("status %q from nobody", x.status)
		}
		if r.cluster.State() == "open" {
			return n
		}
		time.Sleep(maxBackoff)
	}
	r.t.Fatal("a hundred failures did not open the breaker")
	return 0
}

func TestBreakerOpensProbesAndCloses(t *testing.T) {
	bubble(t, []string{"h2c://app:80"}, func(r *rig) {
		if n := r.trip(); n != breakerFailures {
			t.Fatalf("opened after %d failures, want %d", n, breakerFailures)
		}
		if d := r.cluster.RetryAfter(); d != breakerOpenFor {
			t.Errorf("retry after %v, want %v", d, breakerOpenFor)
		}
		r.refused(ErrOpen)
		time.Sleep(breakerOpenFor - time.Nanosecond)
		r.refused(ErrOpen)
		dials := r.net.Dials("app:80")
		time.Sleep(time.Nanosecond)
		r.refused(syscall.ECONNREFUSED) // the one probe; it fails
		if n := r.net.Dials("app:80") - dials; n != 1 || r.cluster.State() != "open" {
			t.Fatalf("%d dials in half-open, state %s", n, r.cluster.State())
		}
		r.refused(ErrOpen)
		time.Sleep(breakerOpenFor)
		r.serve("app:80", hello)
		r.get("/back").ok("/back")
		if s := r.states(); s != "open half-open open half-open closed" {
			t.Errorf("states: %s", s)
		}
		if d := r.cluster.RetryAfter(); d != 0 {
			t.Errorf("retry after %v while closed", d)
		}
	})
}

// TestHalfOpenDialsOnce: requests that come while the probe is under way wait
// for it on HTTP/2 and are refused on HTTP/1.1; nobody dials besides.
func TestHalfOpenDialsOnce(t *testing.T) {
	for _, scheme := range []string{"h2c", "h1", "http"} {
		t.Run(scheme, func(t *testing.T) {
			bubble(t, []string{scheme + "://app:80"}, func(r *rig) {
				r.trip()
				time.Sleep(breakerOpenFor)
				l := r.net.Listen("app:80") // accepts nothing: the probe hangs
				defer l.Kill()
				dials := r.net.Dials("app:80")
				var tries []*try
				for range 5 {
					tries = append(tries, r.get("/x"))
				}
				synctest.Wait()
				if n := r.net.Dials("app:80") - dials; n != 1 || r.cluster.State() != "half-open" {
					t.Fatalf("%d dials, state %s; want one, half-open", n, r.cluster.State())
				}
				for _, x := range tries {
					if <-x.over; x.err == nil {
						t.Errorf("status %q from nobody", x.status)
					}
				}
				if s := r.cluster.State(); s != "open" {
					t.Errorf("state %s after the probe timed out, want open", s)
				}
			})
		})
	}
}

// TestAbandonedProbe: the request that caused the half-open dial goes away; the
// dial's outcome still moves the breaker.
func TestAbandonedProbe(t *testing.T) {
	for name, up := range map[string]bool{"up": true, "down": false, "hangs": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, []string{"http://app:80"}, func(r *rig) {
				r.trip()
				time.Sleep(breakerOpenFor)
				switch name {
				case "up":
					r.serve("app:80", hello)
				case "hangs":
					defer r.net.Listen("app:80").Kill()
				}
				x := r.prepare("/gone")
				r.do(func() {
					x.open()
					r.pool.Cancel(&x.want)
				})
				time.Sleep(time.Second)
				synctest.Wait()
				want := "open"
				if up {
					want = "closed"
				}
				if s := r.cluster.State(); s != want || x.calls != 0 {
					t.Errorf("state %s, want %s; the abandoned exchange was told %d times", s, want, x.calls)
				}
			})
		})
	}
}

// TestDeadEndpointOfSeveral: as long as another endpoint answers, a dead one
// costs its own dials and never opens the cluster's breaker.
func TestDeadEndpointOfSeveral(t *testing.T) {
	bubble(t, []string{"h2c://dead:80", "h2c://live:80", "h2c://also-dead:80"}, func(r *rig) {
		r.serve("live:80", hello)
		for range 200 {
			x := r.prepare("/x")
			var err error
			for range 3 { // what an exchange does: on to the next endpoint
				r.do(x.open)
				<-x.over
				if err = x.err; err == nil {
					break
				}
				x.err, x.calls, x.over = nil, 0, make(chan struct{})
			}
			if err != nil || x.status != "200" {
				t.Fatalf("status %q, error %v with an endpoint that answers", x.status, err)
			}
			r.do(func() { r.cluster.RecordBatch(true, false) })
			time.Sleep(20 * time.Millisecond)
		}
		if s := r.states(); s != "" {
			t.Errorf("breaker went to %s", s)
		}
		for _, i := range []int{0, 2} {
			if n := r.cluster.Endpoints()[i].Counts().ConnectFailures; n < 5 || n > 15 {
				t.Errorf("%s was dialed %d times in 4 s, want about once a second after the first ones", r.cluster.Endpoints()[i].Address, n)
			}
		}
	})
}

func TestRecordBatch(t *testing.T) {
	bubble(t, []string{"h2c://app:80"}, func(r *rig) {
		record := func(responded, lost bool) {
			r.do(func() { r.cluster.RecordBatch(responded, lost) })
		}
		for range 20 { // each flush lost something and got something
			record(true, true)
		}
		for range breakerFailures - 1 {
			record(false, true)
		}
		record(false, false)
		if s := r.cluster.State(); s != "closed" {
			t.Fatalf("state %s before %d failures in a row", s, breakerFailures)
		}
		record(false, true)
		if s := r.cluster.State(); s != "open" {
			t.Fatalf("state %s after %d failures in a row", s, breakerFailures)
		}
		record(true, false) // late answers do not cut the second short
		if s := r.cluster.State(); s != "open" {
			t.Fatalf("state %s at once", s)
		}
		time.Sleep(breakerOpenFor)
		record(false, true) // one more loss is no probe
		record(true, false) // an answer over a connection that outlived it is
		if s := r.states(); s != "open half-open closed" {
			t.Errorf("states: %s", s)
		}
	})
}

// TestTransitionsNameTheCluster pins what a listener is told.
func TestTransitionsNameTheCluster(t *testing.T) {
	bubble(t, []string{"h2c://app:80"}, func(r *rig) {
		r.trip()
		r.do(func() {
			want := []Transition{{Cluster: "local", From: "closed", To: "open"}}
			if !slices.Equal(r.changes, want) {
				t.Errorf("told %v, want %v", r.changes, want)
			}
		})
	})
}

// TestPickSpreads: the less loaded of two from a rotating start, never one that
// was tried.
func TestPickSpreads(t *testing.T) {
	bubble(t, []string{"h2c://a:80", "h2c://b:80", "h2c://c:80"}, func(r *rig) {
		eps := r.cluster.Endpoints()
		pick := func(tried ...*Endpoint) int {
			var q Request
			for _, e := range tried {
				q.note(e)
			}
			return slices.Index(eps, r.cluster.leastOfTwo(r.cluster.set.Load(), 0, &q))
		}
		seen := make([]int, len(eps))
		for range 300 {
			seen[pick()]++
		}
		for i, n := range seen {
			if n < 50 {
				t.Errorf("endpoint %d was picked %d times of 300", i, n)
			}
		}
		eps[0].active.Add(10)
		for range 300 {
			if pick(eps[1], eps[2]) != 0 {
				t.Fatal("a tried endpoint was picked")
			}
			if pick(eps[2]) != 1 {
				t.Fatal("the more loaded of two was picked")
			}
		}
		if pick(eps...) != -1 {
			t.Error("an endpoint was picked although all were tried")
		}
		eps[0].active.Add(-10)
	})
}
