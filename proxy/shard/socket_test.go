//go:build unix

package shard

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// The same as in the bubbles, on real sockets: time is the kernel's here, so
// these tests wait for events only.

// here are the drivers of this system.
var here = func() []Driver {
	if hasEpoll {
		return []Driver{Portable, Epoll}
	}
	return []Driver{Portable}
}()

// tcp returns both ends of a loopback connection.
func tcp(t *testing.T) (near net.Conn, far *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err = ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	far = c.(*net.TCPConn)
	// Some kernels grow a receive buffer to 32 MiB: then nothing would ever wait.
	if err := far.SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Close() })
	return near, far
}

func TestSocketEchoes(t *testing.T) {
	for _, d := range here {
		t.Run(d.String(), func(t *testing.T) {
			h := startWith(t, d)
			var wg sync.WaitGroup
			for range 8 {
				near, far := tcp(t)
				l := h.attach(near, &toy{echo: true})
				wg.Go(func() {
					msg := bytes.Repeat([]byte("quadnine"), 1000)
					for range 20 {
						go func() { _, _ = far.Write(msg) }()
						got := make([]byte, len(msg))
						if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, msg) {
							t.Errorf("echo: %v", err)
							return
						}
					}
					_ = far.Close()
					<-l.closed
				})
			}
			wg.Wait()
			if n := h.Load(); n != 0 {
				t.Errorf("load %d, want 0", n)
			}
		})
	}
}

// TestSocketTakesMoreThanTheKernel: what the kernel refuses goes on from the
// writer goroutine, in order and without a gap.
func TestSocketTakesMoreThanTheKernel(t *testing.T) {
	for _, d := range here {
		t.Run(d.String(), func(t *testing.T) {
			h := startWith(t, d)
			near, far := tcp(t)
			l := h.attach(near, &toy{told: make(chan int, 1024)})
			const size = 32 << 20 // more than any socket buffer of Linux's defaults
			want := make([]byte, size)
			for i := range want {
				want[i] = byte(i * 7 >> 3)
			}
			h.say(l, bytes.Clone(want))
			if n := <-l.toy.told; n == 0 || n >= size {
				t.Fatalf("backlog %d after %d bytes that nobody reads: want a part of them", n, size)
			}
			h.say(l, []byte("tail")) // waits behind the rest
			got := make([]byte, size+4)
			if _, err := io.ReadFull(far, got); err != nil {
				t.Fatal(err)
			}
			if sha256.Sum256(got[:size]) != sha256.Sum256(want) || string(got[size:]) != "tail" {
				t.Error("the bytes arrived changed")
			}
			for n := range l.toy.told {
				if n == 0 {
					break
				}
			}
			_ = far.Close()
			_ = l.ended(t)
		})
	}
}

// TestSocketKnowsSlowFromStalled asks the stall timer's question by hand.
func TestSocketKnowsSlowFromStalled(t *testing.T) {
	for _, d := range here {
		t.Run(d.String(), func(t *testing.T) {
			h := startWith(t, d)
			near, far := tcp(t)
			l := h.attach(near, &toy{told: make(chan int, 1024)})
			h.say(l, make([]byte, 32<<20))
			<-l.toy.told
			var before int64
			h.do(func() { before = l.taken.Load() })
			for l.taken.Load() == before { // reading makes room, some time
				read(t, far, 1<<16)
			}
			h.do(func() { l.Expire(nil, h.Now()) })
			select {
			case <-l.closed:
				t.Fatal("a slow peer was aborted")
			default:
			}
			// The kernel may take more until its buffers are full again; then it is over.
			for stopped := false; !stopped; {
				h.do(func() { l.Expire(nil, h.Now()) })
				select {
				case <-l.closed:
					stopped = true
				default:
				}
			}
			if err := l.ended(t); !errors.Is(err, ErrStalled) {
				t.Fatalf("ended with %v, want %v", err, ErrStalled)
			}
			if _, err := io.Copy(io.Discard, far); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the stalled peer saw %v, want a reset", err)
			}
		})
	}
}

func TestSocketAbortsWithAReset(t *testing.T) {
	for _, d := range here {
		t.Run(d.String(), func(t *testing.T) {
			h := startWith(t, d)
			near, far := tcp(t)
			l := h.attach(near, new(toy))
			send(t, far, "x")
			h.do(func() {
				l.toy.broken, l.toy.closing = true, true
				l.toy.out = append(l.toy.out, "half a bo"...)
				l.Dirty()
			})
			if err := l.ended(t); err != nil {
				t.Errorf("ended with %v, want nil", err)
			}
			if _, err := io.Copy(io.Discard, far); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("peer saw %v, want a reset: a cut message must not look whole", err)
			}
		})
	}
}

// TestSocketAbortDoesNotWaitForAReader: output that nobody takes does not hold a
// connection that is to be broken off.
func TestSocketAbortDoesNotWaitForAReader(t *testing.T) {
	for _, d := range here {
		t.Run(d.String(), func(t *testing.T) {
			h := startWith(t, d)
			near, far := tcp(t)
			l := h.attach(near, new(toy))
			h.do(func() {
				l.toy.out = append(l.toy.out, make([]byte, 64<<20)...) // more than any kernel takes
				l.Dirty()
			})
			h.do(func() {
				l.toy.broken, l.toy.abandoned, l.toy.closing = true, true, true
				l.Dirty()
			})
			if err := l.ended(t); err != nil {
				t.Errorf("ended with %v, want nil at once", err)
			}
			if _, err := io.Copy(io.Discard, far); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("peer saw %v, want a reset", err)
			}
		})
	}
}

// TestSocketReadsWhatCameBeforeAReset: a peer that answered and then broke off,
// because it did not want the rest, was answered by a write that fails before its
// words are read.
func TestSocketReadsWhatCameBeforeAReset(t *testing.T) {
	for _, d := range here {
		t.Run(d.String(), func(t *testing.T) {
			h := startWith(t, d)
			near, far := tcp(t)
			l := h.attach(near, new(toy))
			h.do(func() { // the loop sees nothing meanwhile
				l.write([]byte("not wanted"))
				if err := readable(far); err != nil { // closed with bytes unread, the kernel sends a reset
					t.Error(err)
				}
				if _, err := far.Write([]byte("an early answer")); err != nil {
					t.Error(err)
				}
				_ = far.Close()
				for l.deaf == nil && !l.Conn.closed { // until the reset has come
					l.write([]byte("more"))
				}
			})
			if err := l.ended(t); err == nil {
				t.Error("ended cleanly, want the error of the write")
			}
			if got := string(l.toy.in); got != "an early answer" {
				t.Errorf("read %q", got)
			}
		})
	}
}

// readable waits until c has bytes, and leaves them there.
func readable(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var peek error
	return errors.Join(raw.Read(func(fd uintptr) bool {
		_, _, peek = syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK)
		return !errors.Is(peek, syscall.EAGAIN)
	}), peek)
}

// TestSocketLingers: a peer that is still sending when it is refused gets to
// read why. Without the linger the kernel would answer its bytes with a reset
// that may overtake the refusal.
func TestSocketLingers(t *testing.T) {
	for _, d := range here {
		t.Run(d.String(), func(t *testing.T) {
			h := startWith(t, d)
			near, far := tcp(t)
			l := h.attach(near, &toy{full: 1}) // leaves the rest in the socket
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				_, _ = far.Write(make([]byte, 1<<20))
			}()
			h.do(func() {
				l.toy.closing = true
				l.toy.out = append(l.toy.out, "too large"...)
				l.Dirty()
			})
			<-sent
			if got, err := io.ReadAll(far); string(got) != "too large" || err != nil {
				t.Fatalf("peer read %q, %v", got, err)
			}
			_ = far.Close()
			if err := l.ended(t); err != nil {
				t.Errorf("ended with %v, want nil", err)
			}
		})
	}
}

// TestSocketHalfCloseEnds pins the choice that doc comments of ended make: a
// caller that closes its side gets what was flushed by then and nothing more.
func TestSocketHalfCloseEnds(t *testing.T) {
	for _, d := range here {
		t.Run(d.String(), func(t *testing.T) {
			h := startWith(t, d)
			near, far := tcp(t)
			l := h.attach(near, &toy{echo: true})
			send(t, far, "last words")
			if got := read(t, far, 10); got != "last words" {
				t.Fatalf("peer read %q", got)
			}
			if err := far.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if err := l.ended(t); err != nil {
				t.Errorf("ended with %v, want nil: a half-close is a clean end", err)
			}
			if rest, err := io.ReadAll(far); len(rest) != 0 || err != nil {
				t.Errorf("peer read %q, %v; want an end", rest, err)
			}
		})
	}
}

func TestSocketSeesAReset(t *testing.T) {
	for _, d := range here {
		t.Run(d.String(), func(t *testing.T) {
			h := startWith(t, d)
			near, far := tcp(t)
			l := h.attach(near, new(toy))
			if err := far.SetLinger(0); err != nil {
				t.Fatal(err)
			}
			_ = far.Close()
			if err := l.ended(t); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("ended with %v, want the reset", err)
			}
		})
	}
}

func TestSocketShutdownLeavesNoGoroutine(t *testing.T) {
	before := goleak.IgnoreCurrent()
	for _, d := range here {
		t.Run(d.String(), func(t *testing.T) {
			h := startWith(t, d)
			var lines []*line
			for i := range 12 {
				near, _ := tcp(t)
				l := h.attach(near, &toy{closing: i%4 == 1, told: make(chan int, 1024)})
				if i%4 == 2 { // its writer is stuck in the kernel
					h.say(l, make([]byte, 32<<20))
					<-l.toy.told
				}
				lines = append(lines, l)
			}
			h.Shutdown()
			<-h.Done()
			for i, l := range lines {
				if err := l.ended(t); err != nil {
					t.Errorf("connection %d ended with %v, want nil", i, err)
				}
			}
			if err := goleak.Find(before); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSocketEndComesAfterAllBytes: also when they are more than one read takes,
// and when the engine pauses in between.
func TestSocketEndComesAfterAllBytes(t *testing.T) {
	for _, d := range here {
		t.Run(d.String(), func(t *testing.T) {
			h := startWith(t, d)
			for _, pause := range []int{0, 1, readSize, 3*readSize + 1} {
				near, far := tcp(t)
				const size = 5*readSize + 7
				e := &toy{full: pause}
				l := h.attach(near, e)
				if _, err := far.Write(make([]byte, size)); err != nil {
					t.Fatal(err)
				}
				_ = far.Close()
				if pause > 0 {
					h.until(func() bool { return !e.Reading() })
					h.do(func() { e.full = 0; l.Dirty() })
				}
				if err := l.ended(t); err != nil {
					t.Errorf("paused after %d: ended with %v, want nil", pause, err)
				}
				if len(e.in) != size {
					t.Errorf("paused after %d: engine got %d bytes of %d", pause, len(e.in), size)
				}
			}
		})
	}
}

// TestSocketChurn: descriptors are used again at once, while events for their
// last owners may still be on their way.
func TestSocketChurn(t *testing.T) {
	for _, d := range here {
		t.Run(d.String(), func(t *testing.T) {
			h := startWith(t, d)
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var accepted, callers sync.WaitGroup
			accepted.Go(func() {
				for {
					nc, err := ln.Accept()
					if err != nil {
						return
					}
					h.attach(nc, &toy{echo: true})
				}
			})
			msg := bytes.Repeat([]byte("churn"), 100)
			for i := range 16 {
				callers.Go(func() {
					for j := range 25 {
						c, err := net.Dial("tcp", ln.Addr().String())
						if err != nil {
							t.Error(err)
							return
						}
						if _, err := c.Write(msg); err != nil {
							t.Error(err)
						}
						got := make([]byte, len(msg))
						if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, msg) {
							t.Errorf("echo: %v", err)
						}
						if (i+j)%3 == 0 {
							_ = c.(*net.TCPConn).SetLinger(0) // a reset
						}
						_ = c.Close()
					}
				})
			}
			callers.Wait()
			_ = ln.Close()
			accepted.Wait()
			h.until(func() bool { return h.Load() == 0 })
		})
	}
}

func BenchmarkSocketEcho(b *testing.B) {
	for _, d := range here {
		b.Run(d.String(), func(b *testing.B) { benchmarkEcho(b, d) })
	}
}

func benchmarkEcho(b *testing.B, d Driver) {
	b.Helper()
	b.ReportAllocs()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	far, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer far.Close()
	near, err := ln.Accept()
	if err != nil {
		b.Fatal(err)
	}
	h := &hub{Shard: New(0, time.Now())}
	h.SetDriver(d)
	go h.Run()
	e := &toy{echo: true}
	e.onFeed = func() { e.in = e.in[:0] }
	h.attach(near, e)
	p := make([]byte, 200)
	for b.Loop() {
		if _, err := far.Write(p); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(far, p); err != nil {
			b.Fatal(err)
		}
	}
	h.Shutdown()
	<-h.Done()
}
