package compile

import (
	"log/slog"
	"net"
	"syscall"
	"testing"

	"github.com/quadnine/quadnine/proxy"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// TestSocketOptionsOnTheWire: the greatest segment that a listener takes is what
// it tells its callers in the handshake.
func TestSocketOptionsOnTheWire(t *testing.T) {
	const most = 700
	const loopback = "address: {socket_address: {address: 127.0.0.1, port_value: 0}}"
	if n := segment(t, loopback); n <= most {
		t.Fatalf("segments have %d bytes without an option", n)
	}
	for _, option := range []string{
		"{level: 6, name: 2, int_value: 700}",      // IPPROTO_TCP, TCP_MAXSEG
		"{level: 6, name: 2, buf_value: vAIAAA==}", // the same, in the bytes of a little-endian int
	} {
		if n := segment(t, "{"+loopback+", socket_options: ["+option+"]}"); n > most {
			t.Errorf("%s: segments have %d bytes", option, n)
		}
	}
}

// segment is how long the segments are that a caller of the listener may send.
func segment(t *testing.T, listener string) (n int) {
	t.Helper()
	snap, _ := observed{listener: listener}.configuration(t)
	s, err := proxy.New(proxy.Options{Snapshot: new(snapshot.Snapshot), Registry: telemetry.NewRegistry(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Listen(snap.Listeners[0]); err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(snap); err != nil {
		t.Fatal(err)
	}
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.Addrs("in")[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		n, err = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG)
		if err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	return n
}
