package upstream

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quadnine/quadnine/internal/testkit"
)

// TestSecondConnectionAtTheStreamLimit: two connections of two streams, then
// the queue, in order.
func TestSecondConnectionAtTheStreamLimit(t *testing.T) {
	bubble(t, []string{"http://app:80"}, func(r *rig) {
		g := newGate()
		r.limited("app:80", 2, g.ServeHTTP)
		var tries []*try
		for range 8 {
			tries = append(tries, r.get("/x"))
			synctest.Wait()
		}
		if n := r.net.Dials("app:80"); n != maxH2Conns {
			t.Fatalf("dialed %d times, want %d", n, maxH2Conns)
		}
		for i, x := range tries {
			if x.running() != (i < 4) || x.waiting() != (i >= 4) {
				t.Fatalf("exchange %d: running %v, waiting %v", i, x.running(), x.waiting())
			}
		}
		if n := r.cluster.Endpoints()[0].Active(); n != 4 {
			t.Fatalf("%d active, want 4", n)
		}
		for i := 4; i < 8; i++ { // each end makes room for exactly the next in line
			g.pass()
			synctest.Wait()
			for j := 4; j < 8; j++ {
				if tries[j].waiting() != (j > i) {
					t.Fatalf("after %d ends, exchange %d waits: %v", i-3, j, tries[j].waiting())
				}
			}
		}
		for range 4 {
			g.pass()
		}
		for i, x := range tries {
			if x.ok("/x"); i >= 4 && x.served != i+1 {
				t.Errorf("exchange %d was served as number %d", i, x.served)
			}
		}
	})
}

// TestNobodyOvertakesTheQueue: a stream that becomes free belongs to whoever
// waits longest, not to who comes next.
func TestNobodyOvertakesTheQueue(t *testing.T) {
	bubble(t, []string{"http://app:80"}, func(r *rig) {
		g := newGate()
		r.limited("app:80", 1, g.ServeHTTP)
		var tries []*try
		for range 3 { // two run, one waits
			tries = append(tries, r.get("/x"))
			synctest.Wait()
		}
		last := r.prepare("/last")
		r.do(func() {
			x := tries[0]
			s := x.stream
			x.stream = nil
			s.Release() // the stream is free; Done comes a moment later
			last.open()
			r.pool.Done(&x.want)
		})
		if !tries[2].running() || !last.waiting() {
			t.Fatalf("first in line runs: %v; newcomer waits: %v", tries[2].running(), last.waiting())
		}
		synctest.Wait() // the released exchange's handler is gone
		for range 3 {
			g.pass()
		}
		tries[1].ok("/x")
		tries[2].ok("/x")
		last.ok("/last")
	})
}

// TestQueueIsBounded, with nobody accepting: the dial hangs until its timeout,
// which then answers everybody.
func TestQueueIsBounded(t *testing.T) {
	bubble(t, []string{"http://app:80"}, func(r *rig) {
		l := r.net.Listen("app:80")
		defer l.Kill()
		tries := make([]*try, 1024)
		r.do(func() {
			for i := range tries {
				tries[i] = r.prepare("/x")
				tries[i].open()
			}
		})
		over := r.get("/over")
		if <-over.over; !errors.Is(over.err, ErrOverflow) {
			t.Fatalf("error %v, want %v", over.err, ErrOverflow)
		}
		begin := time.Now()
		for i, x := range tries {
			if <-x.over; x.err == nil || x.calls != 1 {
				t.Fatalf("exchange %d: error %v, told %d times", i, x.err, x.calls)
			}
		}
		if took := time.Since(begin); took != time.Second {
			t.Errorf("the dial took %v, want %v", took, time.Second)
		}
		if n := r.net.Dials("app:80"); n != 1 {
			t.Errorf("dialed %d times, want once", n)
		}
	})
}

func TestCancelWhileWaiting(t *testing.T) {
	bubble(t, []string{"http://app:80"}, func(r *rig) {
		g := newGate()
		r.limited("app:80", 1, g.ServeHTTP)
		var tries []*try
		for range 6 { // two run; 2, 3, 4 and 5 wait
			tries = append(tries, r.get("/x"))
			synctest.Wait()
		}
		for _, i := range []int{3, 2, 5} { // the middle, the first, the last
			r.do(func() {
				r.pool.Cancel(&tries[i].want)
				r.pool.Cancel(&tries[i].want) // twice is once
			})
		}
		for range 3 {
			g.pass()
		}
		for _, i := range []int{0, 1, 4} {
			tries[i].ok("/x")
		}
		for _, i := range []int{2, 3, 5} {
			if x := tries[i]; x.calls != 0 || x.running() {
				t.Errorf("canceled exchange %d was told %d times", i, x.calls)
			}
		}
	})
}

// TestCancelLeavesTheConnection: the dial that a canceled request caused is
// there for the next.
func TestCancelLeavesTheConnection(t *testing.T) {
	bubble(t, []string{"http://app:80"}, func(r *rig) {
		r.serve("app:80", hello)
		x := r.prepare("/1")
		r.do(func() {
			x.open()
			r.pool.Cancel(&x.want)
		})
		synctest.Wait()
		r.get("/2").ok("/2")
		if n := r.net.Dials("app:80"); n != 1 || x.calls != 0 {
			t.Errorf("dialed %d times, told the canceled exchange %d times; want once and never", n, x.calls)
		}
	})
}

func TestHTTP1KeepAlive(t *testing.T) {
	bubble(t, []string{"h1://app:80"}, func(r *rig) {
		r.serve("app:80", hello, testkit.H1)
		ep := r.cluster.Endpoints()[0]
		for range 5 {
			r.get("/x").ok("/x")
			time.Sleep(time.Minute - time.Second)
		}
		if n := r.net.Dials("app:80"); n != 1 || ep.Conns() != 1 {
			t.Fatalf("dialed %d times with %d connections open, want one", n, ep.Conns())
		}
		time.Sleep(time.Second - time.Millisecond)
		synctest.Wait()
		if ep.Conns() != 1 {
			t.Fatalf("closed before it was idle for %v", time.Minute)
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if ep.Conns() != 0 {
			t.Fatalf("%d connections open after %v without an exchange", ep.Conns(), time.Minute)
		}
		r.get("/x").ok("/x")
	})
}

func TestHTTP1DialsOncePerRequest(t *testing.T) {
	bubble(t, []string{"h1://app:80"}, func(r *rig) {
		r.serve("app:80", hello, testkit.H1)
		tries := make([]*try, 20)
		r.do(func() {
			for i := range tries {
				tries[i] = r.prepare("/x")
				tries[i].open()
			}
		})
		for _, x := range tries {
			x.ok("/x")
		}
		synctest.Wait()
		if n := r.net.Dials("app:80"); n > len(tries) {
			t.Errorf("dialed %d times for %d requests", n, len(tries))
		}
	})
}

// TestHTTP1ServerClosesIdle: a connection that the server closed while it was
// idle is not used again.
func TestHTTP1ServerClosesIdle(t *testing.T) {
	bubble(t, []string{"h1://app:80"}, func(r *rig) {
		app := r.serve("app:80", hello, testkit.H1)
		r.get("/1").ok("/1")
		app.Kill()
		synctest.Wait()
		if n := r.cluster.Endpoints()[0].Conns(); n != 0 {
			t.Fatalf("%d connections to a dead server", n)
		}
		r.serve("app:80", hello, testkit.H1)
		r.get("/2").ok("/2")
	})
}

// TestGoAwayMovesNewRequests: exchanges on the old connection end there, new
// ones and those that wait go to a new one.
func TestGoAwayMovesNewRequests(t *testing.T) {
	bubble(t, []string{"http://app:80"}, func(r *rig) {
		g := newGate()
		r.limited("app:80", 2, func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path == "/leave" {
				w.Header().Set("Connection", "close") // Go's server sends GOAWAY after this response
				hello(w, req)
				return
			}
			g.ServeHTTP(w, req)
		})
		long := r.get("/long")
		synctest.Wait()
		r.get("/leave").ok("/leave")
		synctest.Wait()
		next := r.get("/next")
		synctest.Wait()
		if n := r.net.Dials("app:80"); n != 2 || !next.running() || !long.running() {
			t.Fatalf("dialed %d times, new exchange runs: %v, old one: %v", n, next.running(), long.running())
		}
		g.pass()
		g.pass()
		long.ok("/long")
		next.ok("/next")
	})
}

// TestGoAwayFreesTheQueue: requests that wait for a stream of a full connection
// do not wait for that connection's exchanges once it is going away.
func TestGoAwayFreesTheQueue(t *testing.T) {
	bubble(t, []string{"http://app:80"}, func(r *rig) {
		g := newGate()
		leave := make(chan struct{})
		r.limited("app:80", 2, func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path == "/leave" {
				<-leave
				w.Header().Set("Connection", "close")
				w.WriteHeader(http.StatusOK)
				w.(http.Flusher).Flush() // the GOAWAY goes out, the stream stays
			}
			g.ServeHTTP(w, req)
		})
		first := r.get("/leave")
		synctest.Wait()
		var tries []*try
		for range 4 { // three fill both connections, one waits
			tries = append(tries, r.get("/x"))
			synctest.Wait()
		}
		if !tries[3].waiting() {
			t.Fatal("nobody waits")
		}
		close(leave)
		synctest.Wait()
		if !tries[3].running() || !first.running() {
			t.Fatalf("after GOAWAY, with every stream still busy: the waiting exchange runs: %v, the old one: %v",
				tries[3].running(), first.running())
		}
		for range 5 {
			g.pass()
		}
		for _, x := range tries {
			x.ok("/x")
		}
		first.ok("/leave")
	})
}
