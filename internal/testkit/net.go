package testkit

import (
	"context"
	"fmt"
	"net"
	"sync"
	"syscall"
)

// Net is a network of net.Pipe connections: no socket, no port, no time of its
// own, so a test on it can run in a synctest bubble.
type Net struct {
	mu        sync.Mutex
	listeners map[string]*listener // guarded by mu
	dials     map[string]int       // guarded by mu
}

// NewNet returns a network on which nobody listens.
func NewNet() *Net {
	return &Net{listeners: make(map[string]*listener), dials: make(map[string]int)}
}

type addr string

func (addr) Network() string  { return "pipe" }
func (a addr) String() string { return string(a) }

type listener struct {
	net    *Net
	addr   addr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once

	mu    sync.Mutex
	alive map[*conn]struct{} // guarded by mu
}

// conn gives a pipe addresses and its listener the means to cut it.
type conn struct {
	net.Conn
	local, remote addr
	gone          func(*conn)
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) Close() error {
	if c.gone != nil {
		c.gone(c)
	}
	return c.Conn.Close()
}

// Listener is a place on a Net. Kill is what kill -9 does to a server.
type Listener interface {
	net.Listener
	// Kill closes the listener and cuts every connection it has accepted.
	Kill()
}

// Listen opens address, which nobody may be listening on.
func (n *Net) Listen(address string) Listener {
	l := &listener{net: n, addr: addr(address), conns: make(chan net.Conn), closed: make(chan struct{}), alive: make(map[*conn]struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[address] != nil {
		panic("testkit: two listeners on " + address)
	}
	n.listeners[address] = l
	return l
}

// Dial connects to address from 192.0.2.1 (TEST-NET-1). It fails like TCP when
// nobody listens.
func (n *Net) Dial(ctx context.Context, address string) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[address]
	n.dials[address]++
	n.mu.Unlock()
	refused := fmt.Errorf("dial pipe %s: %w", address, syscall.ECONNREFUSED)
	if l == nil {
		return nil, refused
	}
	near, far := net.Pipe()
	server := &conn{Conn: far, local: l.addr, remote: "192.0.2.1:4000", gone: l.forget}
	l.mu.Lock()
	l.alive[server] = struct{}{}
	l.mu.Unlock()
	select {
	case l.conns <- server:
		return &conn{Conn: near, local: "192.0.2.1:4000", remote: l.addr}, nil
	case <-l.closed:
		l.forget(server)
		return nil, refused
	case <-ctx.Done():
		l.forget(server)
		return nil, ctx.Err()
	}
}

// Dials returns how often address was dialed.
func (n *Net) Dials(address string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials[address]
}

func (l *listener) forget(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.alive, c)
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		l.net.mu.Lock()
		delete(l.net.listeners, string(l.addr))
		l.net.mu.Unlock()
		close(l.closed)
	})
	return nil
}

func (l *listener) Addr() net.Addr { return l.addr }

func (l *listener) Kill() {
	_ = l.Close()
	l.mu.Lock()
	cut := make([]*conn, 0, len(l.alive))
	for c := range l.alive {
		cut = append(cut, c)
	}
	l.mu.Unlock()
	for _, c := range cut {
		_ = c.Close()
	}
}
