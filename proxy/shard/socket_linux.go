package shard

import (
	"net"
	"os"
	"syscall"
)

// socket carries a connection by its own descriptor, on the loop alone.
type socket struct {
	c      *Conn
	p      *poller
	fd     int
	rest   []byte // what the kernel has not taken
	ready  bool   // there may be something to read
	ending bool   // the peer has ended its side, or all is over: read until that is seen
	queued bool   // in the poller's queue or turn
}

// pollable reports whether nc is a stream socket of the kernel's and nothing
// around it: what wraps one wants to see its bytes.
func pollable(nc net.Conn) bool {
	switch nc := nc.(type) {
	case *net.TCPConn:
		return true
	case *net.UnixConn:
		return nc.LocalAddr().Network() == "unix"
	}
	return false
}

// adopt takes c's socket out of Go's poller, which would be woken for each of
// its bytes, and into p. The net.Conn is closed; the socket lives on under
// another descriptor. False: nothing has changed.
func (p *poller) adopt(c *Conn) (transport, bool) {
	fd, err := duplicate(c.nc)
	if err != nil {
		return nil, false
	}
	ev := syscall.EpollEvent{Events: interest, Fd: int32(fd)}
	if err := syscall.EpollCtl(p.epfd, syscall.EPOLL_CTL_ADD, fd, &ev); err != nil {
		_ = syscall.Close(fd)
		return nil, false
	}
	_ = c.nc.Close() // the socket has another descriptor
	for fd >= len(p.sockets) {
		p.sockets = append(p.sockets, make([]*socket, max(64, len(p.sockets)))...)
	}
	k := &socket{c: c, p: p, fd: fd}
	p.sockets[fd] = k
	return k, true
}

// duplicate returns another descriptor of nc's socket.
func duplicate(nc net.Conn) (fd int, err error) {
	raw, err := nc.(syscall.Conn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var errno syscall.Errno
	err = raw.Control(func(old uintptr) {
		var dup uintptr
		dup, _, errno = syscall.Syscall(syscall.SYS_FCNTL, old, syscall.F_DUPFD_CLOEXEC, 0)
		fd = int(dup)
	})
	if err == nil && errno != 0 {
		err = os.NewSyscallError("fcntl", errno)
	}
	return fd, err
}

// start waits for the first event, which registering brings when there is
// something already.
func (k *socket) start() {}

func (k *socket) resume() {
	if k.ready {
		k.p.again(k)
	}
}

// read takes one buffer of what there is.
func (k *socket) read() {
	if k.p.sockets[k.fd] != k { // closed since
		return
	}
	n, again, err := tryRead(k.fd, k.p.buf[:])
	// A stream that fills less than what it was offered is empty; the edge of what
	// comes later is yet to come (epoll(7), question 9).
	k.ready = !again && err == nil && (n == len(k.p.buf) || k.ending)
	if again {
		k.ending = false
		return
	}
	if k.c.received(k.p.buf[:n], err) && k.ready {
		k.p.again(k)
	}
}

func (k *socket) write(p []byte) (int, error) {
	n, err := tryWrite(k.fd, p)
	if err == nil && n < len(p) {
		k.rest = p[n:]
	}
	return n, err
}

// writable writes on what the kernel refused.
func (k *socket) writable() {
	for len(k.rest) > 0 {
		n, err := tryWrite(k.fd, k.rest)
		if err != nil {
			k.rest = nil
			k.c.drained(err)
			return
		}
		if n == 0 {
			return // full: another edge follows
		}
		k.c.taken.Add(int64(n))
		if k.rest = k.rest[n:]; len(k.rest) == 0 {
			k.rest = nil
			k.c.drained(nil)
			return
		}
	}
}

func (k *socket) closeWrite() bool { return syscall.Shutdown(k.fd, syscall.SHUT_WR) == nil }

func (k *socket) reset() {
	// Best effort: the peer sees an end in any case.
	_ = syscall.SetsockoptLinger(k.fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
}

func (k *socket) close() {
	k.p.sockets[k.fd] = nil
	k.rest = nil
	_ = syscall.Close(k.fd) // takes it out of p; nothing is left to do about a failure
}
