package testkit

import (
	"net"
	"sync"
	"time"
)

// buffered is a connection that takes what is written at once, as a socket does. A
// pipe takes it when it is read: two ends of TLS that both write wait for ever.
type buffered struct {
	net.Conn
	mu     sync.Mutex
	more   *sync.Cond
	out    []byte // guarded by mu
	closed bool   // guarded by mu
	err    error  // guarded by mu
}

// Buffered returns c with a buffer without bounds before it.
func Buffered(c net.Conn) net.Conn {
	b := &buffered{Conn: c}
	b.more = sync.NewCond(&b.mu)
	go b.flush()
	return b
}

func (b *buffered) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, net.ErrClosed
	}
	if b.err != nil {
		return 0, b.err
	}
	b.out = append(b.out, p...)
	b.more.Signal()
	return len(p), nil
}

// Close closes the connection once everything is written.
func (b *buffered) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.more.Signal()
	return nil
}

func (b *buffered) flush() {
	b.mu.Lock()
	for {
		for len(b.out) == 0 && !b.closed {
			b.more.Wait()
		}
		if len(b.out) == 0 || b.err != nil {
			b.mu.Unlock()
			_ = b.Conn.Close() // nobody is left to tell
			return
		}
		p := b.out
		b.out = nil
		b.mu.Unlock()
		_, err := b.Conn.Write(p)
		b.mu.Lock()
		if b.err == nil {
			b.err = err
		}
	}
}

// BufferedListener is a listener whose connections are Buffered.
type BufferedListener struct{ Listener }

// Accept returns the next connection.
func (l BufferedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return Buffered(c), nil
}

// SetWriteDeadline does nothing: a write takes no time. crypto/tls sets one that
// has passed once it has said close_notify, which is still to be written.
func (b *buffered) SetWriteDeadline(time.Time) error { return nil }

func (b *buffered) SetDeadline(t time.Time) error { return b.SetReadDeadline(t) }
