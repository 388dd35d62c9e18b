package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
)

// TestEarlyReplyEndsItsConnection: once the caller has its answer, the upstream that
// reads no more of the upload is not kept waiting, nor our memory by it.
func TestEarlyReplyEndsItsConnection(t *testing.T) {
	ended := make(chan error, 1)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_ = c.(*net.TCPConn).SetReadBuffer(64 << 10)
		r := bufio.NewReader(c)
		if _, err := http.ReadRequest(r); err == nil {
			_, _ = fmt.Fprintf(c, "HTTP/1.1 413 Too Large\r\nContent-Length: %d\r\n\r\n%s", len(early), early)
		}
		ended <- broken(c.(*net.TCPConn))
	}()
	b := newBridgeTo(t, false, ln.Addr().String())
	body := io.LimitReader(zeros{}, 64<<20) // more than all kernels on the way hold
	req, err := http.NewRequest(http.MethodPost, "http://"+b.addr+"/", body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the upstream saw %v, want a reset", err)
	}
}

// broken waits, reading nothing, until c is, and says how.
func broken(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var end error
	err = raw.Read(func(fd uintptr) bool {
		errno, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR)
		if end = err; err == nil && errno != 0 {
			end = syscall.Errno(errno)
		}
		return end != nil
	})
	return errors.Join(err, end)
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
