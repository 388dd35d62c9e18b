package shard

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestShutdownClosesEverything: the bubble itself checks that no goroutine is
// left, whatever its connection was doing.
func TestShutdownClosesEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		var lines []*line
		var peers []net.Conn
		add := func(e *toy) *line {
			near, far := newDuplex()
			l := h.attach(near, e)
			lines, peers = append(lines, l), append(peers, far)
			return l
		}
		add(new(toy))                             // idle
		h.say(add(new(toy)), make([]byte, 1<<20)) // its writer is stuck
		add(&toy{closing: true})                  // lingers
		add(&toy{full: 1})                        // does not read
		send(t, peers[len(peers)-1], "x")
		synctest.Wait()
		if h.Load() != 4 {
			t.Fatalf("load %d, want 4", h.Load())
		}
		h.Shutdown()
		<-h.Done()
		for i, l := range lines {
			if err := l.ended(t); err != nil {
				t.Errorf("connection %d ended with %v, want nil", i, err)
			}
			if _, err := io.Copy(io.Discard, peers[i]); err != nil {
				t.Errorf("peer %d: %v, want EOF", i, err)
			}
			_ = peers[i].Close()
		}
		if h.Load() != 0 {
			t.Errorf("load %d, want 0", h.Load())
		}
	})
}

func TestShardTimersAreExactAndIdleSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		b := new(bell)
		timer := Timer{To: b}
		for _, after := range []time.Duration{time.Millisecond, 63 * time.Millisecond, 64 * time.Millisecond, time.Second, time.Hour, 49 * time.Hour} {
			var deadline int64
			var wakes int
			h.do(func() {
				deadline = h.Now() + int64(after)
				h.Arm(&timer, deadline)
				b.rang, wakes = 0, h.wakes
			})
			time.Sleep(after + time.Hour)
			h.do(func() {
				if b.rang != 1 || b.at != deadline {
					t.Errorf("%v: rang %d times at %d, want once at %d", after, b.rang, b.at, deadline)
				}
				if n := h.wakes - wakes; n > 2+levels {
					t.Errorf("%v: %d wake-ups, want at most %d", after, n, 2+levels)
				}
			})
		}
		before := 0
		h.do(func() { before = h.wakes })
		time.Sleep(1000 * time.Hour)
		h.do(func() {
			// The wake-up of the errand before, and this one's has not been counted.
			if n := h.wakes - before; n != 1 {
				t.Errorf("an idle shard woke up %d times in 1000 hours, want none", n-1)
			}
		})
	})
}

// TestShardSleepsAnewAfterAStop: a stopped timer's wake-up is not left behind in
// a way that hides the next one.
func TestShardSleepsAnewAfterAStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		rung := make(chan int64, 2)
		b := &bell{do: func(_ *Timer, now int64) { rung <- now }}
		first, second := Timer{To: b}, Timer{To: b}
		h.do(func() { h.Arm(&first, h.Now()+int64(time.Second)) })
		time.Sleep(500 * time.Millisecond)
		h.do(func() { h.Stop(&first) })
		time.Sleep(time.Minute)
		var deadline int64
		h.do(func() {
			deadline = h.Now() + int64(time.Second)
			h.Arm(&second, deadline)
		})
		if at := <-rung; at != deadline {
			t.Fatalf("rang at %d, want at %d", at, deadline)
		}
		synctest.Wait()
		if len(rung) != 0 {
			t.Fatal("rang twice")
		}
	})
}

// TestHooksRunAfterAnEndInTheFlush: what a connection's end during the flush
// left to be handed over is handed over in the same wake-up.
func TestHooksRunAfterAnEndInTheFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hub{Shard: New(0, time.Now())}
		near, far := net.Pipe()
		l := &line{Conn: NewConn(h.Shard, near), toy: &toy{full: 1}, closed: make(chan struct{})}
		handed := make(chan struct{})
		h.BeforeFlush(func() {
			if l.times == 1 {
				l.times++ // once
				close(handed)
			}
		})
		go h.Run()
		h.do(func() { l.Attach(l.toy, l) })
		send(t, far, "x")
		synctest.Wait() // its reader pauses: it will not wake the loop either
		e := &errand{do: func() { l.Fail(errRefused) }, done: make(chan struct{})}
		e.To = e
		h.Post(&e.Mail)
		<-handed
		_ = far.Close()
		h.Shutdown()
		<-h.Done()
	})
}
