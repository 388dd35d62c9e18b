package shard

import (
	"fmt"
	"net"
)

// Driver is how a shard waits for its sockets.
type Driver int

// The drivers. What is no socket (net.Pipe, a connection of a test) goes the
// portable way under each of them.
const (
	Auto     Driver = iota // Epoll where the system has it, else Portable
	Portable               // a reader goroutine per connection, in Go's own poller
	Epoll                  // Linux: the loop waits and reads by itself
)

var driverNames = [...]string{"auto", "portable", "epoll"}

// String returns the name that ParseDriver takes.
func (d Driver) String() string { return driverNames[d] }

// ParseDriver returns the driver called name. It is an error when this system
// does not have it.
func ParseDriver(name string) (Driver, error) {
	for d, n := range driverNames {
		if n != name {
			continue
		}
		if Driver(d) == Epoll && !hasEpoll {
			return 0, fmt.Errorf("driver %q is for Linux; use auto or portable", name)
		}
		return Driver(d), nil
	}
	return 0, fmt.Errorf("there is no driver %q: use auto, epoll or portable", name)
}

// transport is how a Conn's bytes come and go. All methods are called on the
// shard's goroutine; a transport tells its Conn by received and drained.
type transport interface {
	// start begins to read.
	start()
	// resume reads on after a pause.
	resume()
	// write sends p, which it owns until drained is called or c is closed, and
	// reports how much was taken at once. An error means the connection is dead.
	write(p []byte) (n int, err error)
	// closeWrite ends the output and keeps reading; false: it cannot.
	closeWrite() bool
	// reset has close tell the peer of a broken connection, where that exists.
	reset()
	// close frees everything. Nothing is received any more.
	close()
}

// carry returns the transport that c's driver has for it.
func (c *Conn) carry() transport {
	s := c.shard
	if s.driver == Portable || !hasEpoll || !pollable(c.nc) {
		return newPortable(c)
	}
	if s.poller == nil {
		p, err := newPoller()
		if err != nil { // out of descriptors: the next connection asks again
			return newPortable(c)
		}
		s.poller = p
		s.box.ringer.Store(p)
	}
	if t, ok := s.poller.adopt(c); ok {
		return t
	}
	return newPortable(c)
}

// halfCloser is a transport that can end its output alone: TCP and TLS can.
type halfCloser interface{ CloseWrite() error }

var _ halfCloser = (*net.TCPConn)(nil)
