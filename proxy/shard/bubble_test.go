package shard

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var errRefused = errors.New("refused")

// read reads exactly n bytes.
func read(t *testing.T, c io.Reader, n int) string {
	t.Helper()
	p := make([]byte, n)
	if _, err := io.ReadFull(c, p); err != nil {
		t.Fatalf("read: %v", err)
	}
	return string(p)
}

func send(t *testing.T, c net.Conn, p string) {
	t.Helper()
	if _, err := c.Write([]byte(p)); err != nil {
		t.Fatalf("write: %v", err)
	}
}

func TestConnEchoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		near, far := net.Pipe()
		l := h.attach(near, &toy{echo: true})
		for range 100 {
			send(t, far, "ping")
			if got := read(t, far, 4); got != "ping" {
				t.Fatalf("got %q", got)
			}
		}
		_ = far.Close()
		if err := l.ended(t); err != nil {
			t.Fatalf("a clean end: %v, want nil", err)
		}
		h.do(func() {
			if h.Load() != 0 || h.Timers() != 0 {
				t.Errorf("%d connections and %d timers left, want none", h.Load(), h.Timers())
			}
		})
	})
}

func TestConnStopsReadingWhenTheEngineDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		near, far := net.Pipe()
		l := h.attach(near, &toy{full: 3})
		send(t, far, "abc")
		taken := make(chan struct{})
		go func() {
			defer close(taken)
			_, _ = far.Write([]byte("def"))
		}()
		synctest.Wait()
		select {
		case <-taken:
			t.Fatal("bytes were taken that the engine does not want")
		default:
		}
		time.Sleep(time.Hour)
		h.do(func() {
			if string(l.toy.in) != "abc" {
				t.Errorf("engine got %q, want %q", l.toy.in, "abc")
			}
			l.toy.full = 0
			l.Dirty()
		})
		<-taken
		synctest.Wait()
		h.do(func() {
			if string(l.toy.in) != "abcdef" {
				t.Errorf("engine got %q, want %q", l.toy.in, "abcdef")
			}
		})
		_ = far.Close()
		_ = l.ended(t)
	})
}

// TestConnPausedIsNotResumedByItself: other traffic on the shard, and flushes of
// the connection itself, leave a paused reader alone.
func TestConnPausedIsNotResumedByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		near, far := net.Pipe()
		l := h.attach(near, &toy{full: 1})
		send(t, far, "a")
		for range 10 {
			h.say(l, []byte("x"))
			read(t, far, 1)
		}
		if err := far.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if n, err := far.Write([]byte("b")); n != 0 || err == nil {
			t.Fatalf("a paused connection took %d bytes, %v", n, err)
		}
		// Its end is only seen when it reads again.
		_ = far.Close()
		h.do(func() { l.toy.full = 0; l.Dirty() })
		_ = l.ended(t)
	})
}

func TestConnLingersSoThatThePeerCanRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		near, far := newDuplex()
		l := h.attach(near, &toy{full: 3})
		send(t, far, "abc") // paused from here on
		synctest.Wait()
		begin := time.Now()
		h.do(func() {
			l.toy.closing = true
			l.toy.out = append(l.toy.out, "bye"...)
			l.Dirty()
		})
		got, err := io.ReadAll(far)
		if string(got) != "bye" || err != nil {
			t.Fatalf("peer read %q, %v", got, err)
		}
		// The peer, unaware, goes on sending: it is read and thrown away.
		for range 10 {
			send(t, far, "more")
		}
		if err := l.ended(t); err != nil {
			t.Fatalf("ended with %v, want nil", err)
		}
		if took := time.Since(begin); took != lingerFor {
			t.Errorf("lingered %v, want %v", took, lingerFor)
		}
		if string(l.toy.in) != "abc" {
			t.Errorf("engine was fed %q after it said Closing", l.toy.in[3:])
		}
		_ = far.Close()
	})
}

func TestConnLingerEndsWithThePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		near, far := newDuplex()
		begin := time.Now()
		l := h.attach(near, &toy{closing: true, out: []byte("bye")})
		if got, err := io.ReadAll(far); string(got) != "bye" || err != nil {
			t.Fatalf("peer read %q, %v", got, err)
		}
		_ = far.Close()
		_ = l.ended(t)
		if took := time.Since(begin); took != 0 {
			t.Errorf("took %v although the peer closed at once", took)
		}
		h.do(func() {
			if h.Timers() != 0 {
				t.Errorf("%d timers left", h.Timers())
			}
		})
	})
}

func TestConnFailFlushesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		near, far := net.Pipe()
		l := h.attach(near, new(toy))
		h.do(func() {
			l.toy.out = append(l.toy.out, "go away"...)
			l.Fail(errRefused)
			l.Fail(io.ErrUnexpectedEOF) // the first cause is the cause
		})
		if got, err := io.ReadAll(far); string(got) != "go away" || err != nil {
			t.Fatalf("peer read %q, %v", got, err)
		}
		if err := l.ended(t); !errors.Is(err, errRefused) {
			t.Fatalf("ended with %v, want %v", err, errRefused)
		}
	})
}

// TestConnFeedsNothingAfterAnError: an engine's error is final, also while the
// peer is slow to read what the engine had to say about it.
func TestConnFeedsNothingAfterAnError(t *testing.T) {
	for name, failing := range map[string]func(*line){
		"feed": func(l *line) { l.toy.refuse = errRefused },
		"fail": func(l *line) { l.toy.onFeed = func() { l.Fail(errRefused) } },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := start(t)
				near, far := newDuplex()
				l := h.attach(near, new(toy))
				h.do(func() { failing(l) })
				h.say(l, []byte("a reply that the peer does not read yet"))
				send(t, far, "bad")
				send(t, far, "worse")
				synctest.Wait()
				h.do(func() {
					if l.toy.feeds != 1 {
						t.Errorf("fed %d times, want once: the error is final", l.toy.feeds)
					}
				})
				if got, err := io.ReadAll(far); err != nil || !strings.HasPrefix(string(got), "a reply") {
					t.Fatalf("peer read %q, %v", got, err)
				}
				_ = far.Close()
				if err := l.ended(t); !errors.Is(err, errRefused) {
					t.Fatalf("ended with %v, want %v", err, errRefused)
				}
			})
		})
	}
}

// TestConnCloseInsideFeed: an engine's event may drop the connection while its
// bytes are being fed.
func TestConnCloseInsideFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		near, far := net.Pipe()
		l := h.attach(near, &toy{echo: true})
		h.do(func() { l.toy.onFeed = l.Close })
		send(t, far, "x")
		if err := l.ended(t); err != nil {
			t.Fatalf("ended with %v, want nil", err)
		}
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatalf("peer read %v, want EOF", err)
		}
		h.do(func() { l.Close(); l.Dirty(); l.Fail(errRefused) }) // all of it too late
		synctest.Wait()
		_ = l.ended(t)
	})
}

func TestConnTellsItsBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		near, far := net.Pipe()
		l := h.attach(near, new(toy))
		h.say(l, []byte("0123456789"))
		h.say(l, []byte("next"))
		h.do(func() {
			if len(l.toy.backlog) != 1 || l.toy.backlog[0] != 10 {
				t.Errorf("backlog %v, want [10]: one writer at a time", l.toy.backlog)
			}
		})
		if got := read(t, far, 14); got != "0123456789next" {
			t.Fatalf("peer read %q", got)
		}
		synctest.Wait()
		h.do(func() {
			if n := len(l.toy.backlog); n == 0 || l.toy.backlog[n-1] != 0 {
				t.Errorf("backlog %v, want 0 in the end", l.toy.backlog)
			}
			if h.Timers() != 0 {
				t.Errorf("%d timers armed with nothing to write", h.Timers())
			}
		})
		_ = far.Close()
		_ = l.ended(t)
	})
}

func TestConnAbortsAPeerThatTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		near, far := net.Pipe()
		l := h.attach(near, new(toy))
		begin := time.Now()
		h.say(l, make([]byte, 1<<20))
		if err := l.ended(t); !errors.Is(err, ErrStalled) {
			t.Fatalf("ended with %v, want %v", err, ErrStalled)
		}
		if took := time.Since(begin); took != WriteStall {
			t.Errorf("aborted after %v, want %v", took, WriteStall)
		}
		_ = far.Close()
	})
}

// TestConnLeavesASlowPeerAlone: WriteStall is for peers that take none of it.
func TestConnLeavesASlowPeerAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		near, far := net.Pipe()
		l := h.attach(near, new(toy))
		h.say(l, make([]byte, 1<<20))
		for range 64 { // 16 kB each 20 s
			time.Sleep(20 * time.Second)
			read(t, far, 16<<10)
		}
		synctest.Wait()
		h.do(func() {
			if l.times != 0 {
				t.Errorf("a peer that reads slowly was cut off: %v", l.err)
			}
			if n := l.toy.backlog; n[len(n)-1] != 0 {
				t.Errorf("backlog %v, want 0 in the end", n)
			}
		})
		// One that stops in the middle is cut off after all.
		h.say(l, make([]byte, 1<<20))
		read(t, far, 16<<10)
		stopped := time.Now()
		if err := l.ended(t); !errors.Is(err, ErrStalled) {
			t.Fatalf("ended with %v, want %v", err, ErrStalled)
		}
		if took := time.Since(stopped); took < WriteStall || took > 2*WriteStall {
			t.Errorf("aborted %v after the last byte, want %v to %v", took, WriteStall, 2*WriteStall)
		}
		_ = far.Close()
	})
}
