package wire

import (
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// bufferSize is how much one read takes: some ten batches of replies.
const bufferSize = 256 << 10

// Poll waits for many sockets on one thread: level-triggered epoll, and a timer
// with the kernel's own resolution, which Go's has not.
type Poll struct {
	fd, timer int
	events    [256]unix.EpollEvent
	buf       []byte
}

// NewPoll opens a Poll. It lives as long as its process.
func NewPoll() (*Poll, error) {
	p := &Poll{buf: make([]byte, bufferSize)}
	var err error
	if p.fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("wire: epoll: %w", err)
	}
	if p.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("wire: timer: %w", err)
	}
	// Edge-triggered: an expiry that is not read wakes once, and costs no read.
	if err := p.control(unix.EPOLL_CTL_ADD, p.timer, unix.EPOLLIN|unix.EPOLLET); err != nil {
		return nil, err
	}
	return p, nil
}

// Wake makes Wait return once, d from now. It replaces what was set before.
func (p *Poll) Wake(d time.Duration) error {
	if err := unix.TimerfdSettime(p.timer, 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(d.Nanoseconds())}, nil); err != nil {
		return fmt.Errorf("wire: timer: %w", err)
	}
	return nil
}

// Add watches fd for input.
func (p *Poll) Add(fd int) error { return p.control(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN) }

// Output watches fd for room to write, besides input, or no longer.
func (p *Poll) Output(fd int, on bool) error {
	var want uint32 = unix.EPOLLIN
	if on {
		want |= unix.EPOLLOUT
	}
	return p.control(unix.EPOLL_CTL_MOD, fd, want)
}

func (p *Poll) control(op, fd int, events uint32) error {
	if err := unix.EpollCtl(p.fd, op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}); err != nil {
		return fmt.Errorf("wire: epoll: %w", err)
	}
	return nil
}

// Wait waits at most ms milliseconds and calls ready for each socket that has
// input or room. Wake makes it return earlier.
func (p *Poll) Wait(ms int, ready func(fd int, in, out bool) error) error {
	n, err := unix.EpollWait(p.fd, p.events[:], ms)
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("wire: epoll: %w", err)
	}
	for _, e := range p.events[:n] {
		if int(e.Fd) == p.timer {
			continue
		}
		in := e.Events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) != 0
		if err := ready(int(e.Fd), in, e.Events&unix.EPOLLOUT != 0); err != nil {
			return err
		}
	}
	return nil
}

// Conn is one socket of a Poll.
type Conn struct {
	Out []byte // what Flush writes

	poll    *Poll
	fd      int
	rest    []byte // the beginning of a frame
	waiting bool   // for room to write
}

// ErrClosed says that the other side closed the connection.
var ErrClosed = errors.New("connection closed by the other side")

// Dial connects to a loopback address.
func (p *Poll) Dial(addr string) (*Conn, error) {
	to, err := sockaddr(addr)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("wire: socket: %w", err)
	}
	if err := unix.Connect(fd, to); err != nil {
		return nil, errors.Join(fmt.Errorf("wire: connect to %s: %w", addr, err), unix.Close(fd))
	}
	return p.Adopt(fd)
}

// Adopt takes over a connected socket.
func (p *Poll) Adopt(fd int) (*Conn, error) {
	err := errors.Join(unix.SetNonblock(fd, true), unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
	if err == nil {
		err = p.Add(fd)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("wire: %w", err), unix.Close(fd))
	}
	return &Conn{poll: p, fd: fd}, nil
}

// FD is the socket.
func (c *Conn) FD() int { return c.fd }

// Close closes the socket.
func (c *Conn) Close() error { return unix.Close(c.fd) }

// Read reads once and calls each for every frame that is complete. skip bytes
// of a preface before the first frame are the caller's: it cuts them off.
func (c *Conn) Read(cut func(b []byte) (rest []byte, ok bool), each func(Frame) error) error {
	buf := c.poll.buf
	have := copy(buf, c.rest)
	n, err := unix.Read(c.fd, buf[have:])
	switch {
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return fmt.Errorf("wire: read: %w", err)
	case n == 0:
		return ErrClosed
	}
	b := buf[:have+n]
	if cut != nil {
		var ok bool
		if b, ok = cut(b); !ok {
			c.rest = append(c.rest[:0], b...)
			return nil
		}
	}
	for {
		f, rest, ok := Next(b)
		if !ok {
			break
		}
		b = rest
		if err := each(f); err != nil {
			return err
		}
	}
	if len(b) == 0 && len(c.rest) == 0 {
		return nil
	}
	c.rest = append(c.rest[:0], b...)
	return nil
}

// Flush writes Out. What the kernel does not take stays in it, and Wait says
// when there is room.
func (c *Conn) Flush() error {
	for len(c.Out) > 0 {
		n, err := unix.Write(c.fd, c.Out)
		if errors.Is(err, unix.EAGAIN) {
			return c.await(true)
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wire: write: %w", err)
		}
		c.Out = c.Out[:copy(c.Out, c.Out[max(n, 0):])]
	}
	return c.await(false)
}

func (c *Conn) await(on bool) error {
	if c.waiting == on {
		return nil
	}
	c.waiting = on
	return c.poll.Output(c.fd, on)
}

// Listen opens a listening socket on a loopback address and watches it.
func (p *Poll) Listen(addr string) (fd int, err error) {
	at, err := sockaddr(addr)
	if err != nil {
		return 0, err
	}
	if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return 0, fmt.Errorf("wire: socket: %w", err)
	}
	err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, at), unix.Listen(fd, 4096))
	if err == nil {
		err = p.Add(fd)
	}
	if err != nil {
		return 0, errors.Join(fmt.Errorf("wire: listen on %s: %w", addr, err), unix.Close(fd))
	}
	return fd, nil
}

// Accept takes a waiting connection; nil when there is none.
func (p *Poll) Accept(fd int) (*Conn, error) {
	c, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ECONNABORTED) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("wire: accept: %w", err)
	}
	return p.Adopt(c)
}

// sockaddr reads "127.0.0.1:port".
func sockaddr(addr string) (*unix.SockaddrInet4, error) {
	a, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		return nil, fmt.Errorf("wire: address %q: %w", addr, err)
	}
	ip := a.IP.To4()
	if ip == nil {
		return nil, fmt.Errorf("wire: address %q is not of IPv4", addr)
	}
	return &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(ip)}, nil
}
