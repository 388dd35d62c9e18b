package proxy

import (
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// TestSocketOptions reach the kernel before the address is bound.
func TestSocketOptions(t *testing.T) {
	s, err := New(Options{Snapshot: new(snapshot.Snapshot), Registry: telemetry.NewRegistry(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	l := listener("in", "127.0.0.1:0", "a")
	l.TCP.Options = []snapshot.SocketOption{
		{Level: syscall.SOL_SOCKET, Name: syscall.SO_KEEPALIVE, Int: 1},
		{Level: syscall.IPPROTO_TCP, Name: syscall.TCP_KEEPIDLE, Bytes: []byte{42, 0, 0, 0}},
	}
	if err := s.Listen(l); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	for k := range s.sockets {
		raw, err := k.door.ln.(*net.TCPListener).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err := raw.Control(func(fd uintptr) {
			if n, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE); n != 1 || err != nil {
				t.Errorf("SO_KEEPALIVE is %d, %v", n, err)
			}
			if n, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE); n&0xff != 42 || err != nil {
				t.Errorf("TCP_KEEPIDLE is %d, %v", n, err)
			}
		}); err != nil {
			t.Error(err)
		}
	}
	s.mu.Unlock()
	bad := listener("bad", "127.0.0.1:0", "a")
	bad.TCP.Options = []snapshot.SocketOption{{Level: -1, Name: -1}}
	if err := s.Listen(bad); err == nil || !strings.Contains(err.Error(), "cannot bind") {
		t.Errorf("error %v", err)
	}
}
