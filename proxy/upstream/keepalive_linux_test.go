package upstream

import (
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/quadnine/quadnine/proxy/shard"
	"github.com/quadnine/quadnine/snapshot"
)

// TestKeepAliveReachesTheKernel: what is set, and nothing else.
func TestKeepAliveReachesTheKernel(t *testing.T) {
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	p := NewPool(shard.New(0, time.Now()), nil, Events{})
	defer p.Close()
	options := func(k snapshot.KeepAlive) (got [3]int) {
		c := managed()
		c.KeepAlive = k
		nc, err := p.open(t.Context(), &Endpoint{Address: ln.Addr().String()}, c.ClusterSettings)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = nc.Close() }()
		raw, err := nc.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err := raw.Control(func(fd uintptr) {
			for i, name := range []int{syscall.TCP_KEEPIDLE, syscall.TCP_KEEPINTVL, syscall.TCP_KEEPCNT} {
				if got[i], err = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, name); err != nil {
					t.Error(err)
				}
			}
			if on, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE); on != 1 || err != nil {
				t.Errorf("SO_KEEPALIVE is %d, %v", on, err)
			}
		}); err != nil {
			t.Error(err)
		}
		return got
	}
	kernels := options(snapshot.KeepAlive{On: true})
	all := snapshot.KeepAlive{On: true, Probes: 4, Time: 33 * time.Second, Interval: 7 * time.Second}
	if got := options(all); got != [3]int{33, 7, 4} {
		t.Errorf("idle, interval, probes %v; want those of %+v", got, all)
	}
	if got := options(snapshot.KeepAlive{On: true, Interval: 7 * time.Second}); got != [3]int{kernels[0], 7, kernels[2]} {
		t.Errorf("idle, interval, probes %v; want the kernel's %v but for the interval", got, kernels)
	}
}
