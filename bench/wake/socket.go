package wake

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// netpoll wakes a goroutine that reads a connection: Go's poller finds it ready.
func netpoll(ctx context.Context, n int) ([]time.Duration, error) {
	near, far, err := pair()
	if err != nil {
		return nil, err
	}
	defer near.Close()
	defer far.Close()
	return send(ctx, n, near, far.Read)
}

// syscallPoll wakes a goroutine that waits in epoll_wait by itself.
func syscallPoll(ctx context.Context, n int) ([]time.Duration, error) {
	near, far, err := pair()
	if err != nil {
		return nil, err
	}
	defer near.Close()
	raw, err := far.(*net.UnixConn).SyscallConn()
	if err != nil {
		return nil, errors.Join(err, far.Close())
	}
	fd := -1
	if cerr := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); cerr != nil {
		err = cerr
	}
	err = errors.Join(err, far.Close()) // which takes it out of Go's poller
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	defer func() { _ = unix.Close(epfd) }()
	if err := unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	events := make([]unix.EpollEvent, 1)
	return send(ctx, n, near, func(p []byte) (int, error) {
		for {
			if _, err := unix.EpollWait(epfd, events, -1); err != nil && !errors.Is(err, syscall.EINTR) {
				return 0, os.NewSyscallError("epoll_wait", err)
			}
			n, err := unix.Read(fd, p)
			switch {
			case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
				continue
			case err != nil:
				return 0, err
			case n == 0:
				return 0, io.EOF
			}
			return n, nil
		}
	})
}

// send writes the time to near n times and has read take it at the other end.
func send(ctx context.Context, n int, near net.Conn, read func([]byte) (int, error)) ([]time.Duration, error) {
	origin := time.Now()
	back := make(chan time.Duration, 1)
	failed := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(back)
		var p [8]byte
		for {
			got, err := read(p[:])
			now := time.Since(origin)
			if errors.Is(err, io.EOF) {
				return
			}
			if err == nil && got != len(p) {
				err = errShort
			}
			if err != nil {
				failed <- err
				return
			}
			back <- now - time.Duration(binary.NativeEndian.Uint64(p[:]))
		}
	})
	delays := make([]time.Duration, 0, n)
	err := error(nil)
	for range n {
		if err = ctx.Err(); err != nil {
			break
		}
		time.Sleep(rest)
		if _, err = near.Write(binary.NativeEndian.AppendUint64(nil, uint64(time.Since(origin)))); err != nil {
			break
		}
		d, ok := <-back
		if !ok {
			break
		}
		delays = append(delays, d)
	}
	err = errors.Join(err, near.Close())
	wg.Wait()
	select {
	case e := <-failed:
		err = errors.Join(err, e)
	default:
	}
	return delays, err
}

// pair returns both ends of a local stream.
func pair() (a, b net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socketpair")
		var ferr error
		ends[i], ferr = net.FileConn(f) // has a descriptor of its own
		err = errors.Join(err, ferr, f.Close())
	}
	return ends[0], ends[1], err
}
