package shard

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// wrapped is a connection that wants to see its bytes.
type wrapped struct{ *net.TCPConn }

func TestEpollTakesPlainSocketsOnly(t *testing.T) {
	h := startWith(t, Epoll)
	pipe, end := net.Pipe()
	defer end.Close()
	plain, _ := tcp(t)
	inside, _ := tcp(t)
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	caller, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer caller.Close()
	local, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		nc   net.Conn
		here bool
	}{"tcp": {plain, true}, "unix": {local, true}, "wrapped": {wrapped{inside.(*net.TCPConn)}, false}, "pipe": {pipe, false}} {
		l := h.attach(c.nc, &toy{echo: true})
		h.do(func() {
			if _, ok := l.carrier.(*socket); ok != c.here {
				t.Errorf("%s: on the loop: %v, want %v", name, ok, c.here)
			}
			if l.NetConn().RemoteAddr() == nil || l.NetConn().LocalAddr() == nil {
				t.Errorf("%s: its addresses are gone", name)
			}
		})
	}
	for name, c := range map[string]net.Conn{"unix": caller, "pipe": end} {
		send(t, c, "ping")
		if got := read(t, c, 4); got != "ping" {
			t.Errorf("%s: got %q", name, got)
		}
	}
	p := startWith(t, Portable)
	other, _ := tcp(t)
	l := p.attach(other, new(toy))
	p.do(func() {
		if _, ok := l.carrier.(*portable); !ok || p.poller != nil {
			t.Errorf("the portable driver uses %T", l.carrier)
		}
	})
}

// TestEpollIsFair: a connection with much to read gets one buffer's worth in a
// turn, however much there is.
func TestEpollIsFair(t *testing.T) {
	h := startWith(t, Epoll)
	var fed []string
	open := func(name string, size int) *line {
		near, far := tcp(t)
		if err := near.(*net.TCPConn).SetReadBuffer(4 << 20); err != nil {
			t.Fatal(err)
		}
		if err := far.SetWriteBuffer(16 << 10); err != nil {
			t.Fatal(err)
		}
		e := &toy{full: 1}
		l := h.attach(near, e)
		send(t, far, "x")
		h.until(func() bool { return len(e.in) == 1 })
		e.onFeed = func() { fed = append(fed, name) }
		if _, err := far.Write(make([]byte, size)); err != nil { // most of it is at its goal now
			t.Fatal(err)
		}
		return l
	}
	flood, quiet := open("flood", 8*readSize), open("quiet", 1)
	h.do(func() {
		for _, l := range []*line{quiet, flood} { // flushed in the other order
			l.toy.full = 0
			l.Dirty()
		}
	})
	h.until(func() bool { return len(flood.toy.in) == 1+8*readSize && len(quiet.toy.in) == 2 })
	h.do(func() {
		if len(fed) < 9 || fed[0] != "quiet" && fed[1] != "quiet" {
			t.Errorf("fed in the order %v: the quiet one is to have its turn", fed)
		}
	})
}

// TestEpollSleeps: a loop with sockets wakes up when something happens, and
// stays asleep otherwise.
func TestEpollSleeps(t *testing.T) {
	h := startWith(t, Epoll)
	near, far := tcp(t)
	h.attach(near, &toy{echo: true})
	send(t, far, "ping")
	read(t, far, 4)
	before := 0
	h.do(func() { before = h.wakes })
	const times = 200
	for range times {
		h.do(func() {})
	}
	h.do(func() {
		if n := h.wakes - before; n > 2*times {
			t.Errorf("%d wake-ups for %d letters", n, times)
		}
	})
	rung := make(chan int64, 1)
	timer := Timer{To: &bell{do: func(_ *Timer, now int64) { rung <- now }}}
	for _, after := range []time.Duration{0, time.Microsecond, 3 * time.Millisecond, 30 * time.Millisecond} {
		var deadline int64
		h.do(func() {
			deadline = h.Now() + int64(after)
			h.Arm(&timer, deadline)
		})
		if at := <-rung; at < deadline {
			t.Errorf("rang %d ns early", deadline-at)
		}
	}
}

// TestEpollLeavesNoDescriptor counts what a shard with connections has opened.
func TestEpollLeavesNoDescriptor(t *testing.T) {
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	{
		near, _ := tcp(t) // Go's own poller opens its descriptors
		_ = near.Close()
	}
	before := count()
	h := startWith(t, Epoll)
	var lines []*line
	for range 10 {
		near, _ := tcp(t)
		lines = append(lines, h.attach(near, new(toy)))
	}
	if n := count() - before; n != 10+10+2 {
		t.Errorf("%d descriptors for 10 connections, their callers, epoll and its bell: want 22", n)
	}
	h.Shutdown()
	<-h.Done()
	for _, l := range lines {
		_ = l.ended(t)
	}
	if n := count() - before; n != 10 {
		t.Errorf("%d descriptors are left, want the 10 callers'", n)
	}
	h.Post(&Mail{To: new(repeater)}) // too late: it must not touch a descriptor that is somebody else's now
}

// TestEpollAllocatesNothing: neither to wait nor to read nor to write.
func TestEpollAllocatesNothing(t *testing.T) {
	h := startWith(t, Epoll)
	near, far := tcp(t)
	e := &toy{echo: true}
	e.onFeed = func() { e.in = e.in[:0] }
	h.attach(near, e)
	p := make([]byte, 200)
	if n := testing.AllocsPerRun(500, func() {
		if _, err := far.Write(p); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(far, p); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations an echo, want none", n)
	}
}
