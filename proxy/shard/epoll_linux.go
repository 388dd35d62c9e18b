package shard

import (
	"encoding/binary"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

const hasEpoll = true

// maxEvents is how many sockets one wake-up hears of; the others are next.
const maxEvents = 256

// interest is what every socket is registered for, once: edge-triggered, so that
// neither a pause nor a full buffer costs a system call.
const interest = syscall.EPOLLIN | syscall.EPOLLOUT | syscall.EPOLLRDHUP | edge

const edge = syscall.EPOLLET & 0xffffffff // negative on some systems

// poller is a shard's own epoll instance. The loop waits in epoll_wait itself,
// not in Go's poller: while it sleeps for less than 10 ms the Go scheduler leaves
// it alone, so that a wake-up costs no switch of goroutines and no look into
// other queues; when it sleeps for longer the scheduler takes the processor
// away for others, and an idle process costs nothing (docs/decisions/0021).
// Only ring may be called from outside of the shard's goroutine.
type poller struct {
	epfd     int
	bell     *os.File // eventfd; a file, so that ring may race with close
	bellFD   int32
	sleeping atomic.Bool // ring has to wake the loop
	slept    int64       // when the loop last went to sleep
	yielded  int64       // when it last made room for others

	events  [maxEvents]syscall.EpollEvent
	n       int        // events that wait to be delivered
	sockets []*socket  // by descriptor
	queue   []*socket  // to be read in the next turn
	turn    []*socket  // being read
	buf     readBuffer // one for all: Feed keeps nothing of it
}

func newPoller() (*poller, error) {
	epfd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// Blocking, so that os leaves it out of Go's poller. It never blocks: its
	// counter is full after 2^64 calls of ring.
	fd, _, errno := syscall.Syscall(syscall.SYS_EVENTFD2, 0, syscall.O_CLOEXEC, 0)
	if errno != 0 {
		_ = syscall.Close(epfd)
		return nil, os.NewSyscallError("eventfd2", errno)
	}
	p := &poller{epfd: epfd, bell: os.NewFile(fd, "eventfd"), bellFD: int32(fd)}
	ev := syscall.EpollEvent{Events: syscall.EPOLLIN | edge, Fd: p.bellFD}
	if err := syscall.EpollCtl(epfd, syscall.EPOLL_CTL_ADD, int(fd), &ev); err != nil {
		p.close()
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	return p, nil
}

// one is what ring adds: eight bytes in the machine's order.
var one = binary.NativeEndian.AppendUint64(nil, 1)

// ring wakes the loop if it sleeps. Nobody reads the counter: each write is an
// edge.
func (p *poller) ring() {
	if p.sleeping.Load() && p.sleeping.CompareAndSwap(true, false) {
		_, _ = p.bell.Write(one) // closed: the loop has ended
	}
}

const (
	// After takenAfter the scheduler takes the processor away from a loop that has
	// not made room for others, also while it sleeps in the system call, and then
	// looks for more every 20 µs for a while, which at a low rate costs more than
	// the requests do. So a loop makes room by itself in time, unless it has slept
	// for so long that it happened anyway.
	takenAfter = 10 * tick
	yieldAfter = 4 * tick

	maxWait = 1 << 30 // ms; the longest that epoll_wait is asked to wait
)

// wait waits for a socket, for mail in the box or until due, and leaves the
// events for deliver. It only looks when there is something to do already.
func (p *poller) wait(s *Shard, mail *Mail, due int64, timed bool) {
	switch {
	case s.now-p.slept > takenAfter:
		p.yielded = s.now
	case s.now-p.yielded > yieldAfter:
		p.yielded = s.now
		runtime.Gosched()
	}
	p.slept = s.now
	if mail != nil || len(p.queue) > 0 {
		p.poll(0)
		return
	}
	p.sleeping.Store(true)
	switch {
	case s.box.top.Load() != nil:
		p.poll(0)
	case timed:
		p.poll(s.until(due))
	default:
		p.poll(-1)
	}
	p.sleeping.Store(false)
}

// until returns the time from now to due in ms, rounded up.
func (s *Shard) until(due int64) int {
	left := due - s.now
	if left < 10*tick { // near: what this wake-up took counts
		left = due - int64(time.Since(s.origin))
	}
	return int(min((max(left, 0)+tick-1)/tick, maxWait))
}

// poll waits for ms milliseconds at most; -1 is for ever.
func (p *poller) poll(ms int) {
	n, err := syscall.EpollWait(p.epfd, p.events[:], ms)
	if err != nil {
		n = 0 // interrupted: the loop comes back
	}
	p.n = n
}

// deliver writes and reads what the last wait found ready. What a socket has
// beyond one buffer is for the next turn: one that floods does not keep the
// others waiting.
func (p *poller) deliver() {
	p.turn, p.queue = p.queue, p.turn[:0]
	for _, ev := range p.events[:p.n] {
		if ev.Fd == p.bellFD || int(ev.Fd) >= len(p.sockets) {
			continue
		}
		k := p.sockets[ev.Fd]
		if k == nil {
			continue // closed since
		}
		if ev.Events&syscall.EPOLLOUT != 0 {
			k.writable()
		}
		if ev.Events&^syscall.EPOLLOUT != 0 {
			k.ready = true
			k.ending = k.ending || ev.Events&(syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0
			if !k.queued && !k.c.paused {
				k.queued = true
				p.turn = append(p.turn, k)
			}
		}
	}
	p.n = 0
	for i, k := range p.turn {
		p.turn[i] = nil
		k.queued = false
		k.read()
	}
}

// again has k read in the next turn.
func (p *poller) again(k *socket) {
	if !k.queued {
		k.queued = true
		p.queue = append(p.queue, k)
	}
}

// close frees the descriptors. ring may still be called.
func (p *poller) close() {
	_ = p.bell.Close()
	_ = syscall.Close(p.epfd)
}
