package proc

import (
	"context"
	"fmt"
	"net"
	"strconv"
)

// Addrs returns n different loopback addresses ("127.0.0.1:port") that were free
// a moment ago. All n are held open together before any is released, so they
// differ from one another.
func Addrs(n int) ([]string, error) {
	var listen net.ListenConfig
	held := make([]net.Listener, 0, n)
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	addrs := make([]string, 0, n)
	for range n {
		l, err := listen.Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("proc: find a free port: %w", err)
		}
		held, addrs = append(held, l), append(addrs, l.Addr().String())
	}
	return addrs, nil
}

// Port returns the port of a host:port address, or 0 when there is none.
func Port(addr string) int {
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(p)
	if err != nil {
		return 0
	}
	return n
}
