package tlsconn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// Conn is a connection from the beginning of its handshake until an Engine takes
// it over.
type Conn struct {
	tls *tls.Conn
	t   *transport
}

// Turns is how many handshakes compute at a time: a storm of them must not keep
// event loops from running. Those that wait for their peers take none. Nil is any
// number.
type Turns chan struct{}

// NewTurns returns n turns.
func NewTurns(n int) Turns { return make(Turns, n) }

func (t Turns) take() {
	if t != nil {
		t <- struct{}{}
	}
}

func (t Turns) give() {
	if t != nil {
		<-t
	}
}

// Server returns the server's side of a connection of which head was read already.
// Its handshake takes turns.
func Server(nc net.Conn, head []byte, config *tls.Config, turns Turns) *Conn {
	t := &transport{Conn: nc, head: head, turns: turns}
	return &Conn{tls.Server(t, config), t}
}

// Client returns the client's side of a connection.
func Client(nc net.Conn, config *tls.Config) *Conn {
	t := &transport{Conn: nc}
	return &Conn{tls.Client(t, config), t}
}

// Handshake performs the handshake within the deadline that nc has, and takes the
// deadline away. It blocks: call it on a goroutine that may wait. On an error the
// caller closes nc.
func (c *Conn) Handshake() error {
	c.t.turns.take()
	err := c.tls.HandshakeContext(context.Background())
	c.t.turns.give()
	if err != nil {
		return err
	}
	if err := c.t.Conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	c.t.memory = true
	return nil
}

// NetConn returns the connection below.
func (c *Conn) NetConn() net.Conn { return c.t.Conn }

// State returns what was negotiated.
func (c *Conn) State() tls.ConnectionState { return c.tls.ConnectionState() }

// Within gives what is done with nc so much time, from now on.
func Within(nc net.Conn, d time.Duration) error {
	return nc.SetDeadline(time.Now().Add(d)) //nolint:forbidigo // a handshake runs on a goroutine of its own
}

// Peek waits for the first bytes that the peer sends on nc.
func Peek(nc net.Conn) ([]byte, error) {
	p := make([]byte, 1024)
	n, err := nc.Read(p)
	if n > 0 {
		return p[:n], nil
	}
	return nil, err
}

// handshakeRecord is the type of a connection's first TLS record (RFC 8446
// section 5.1).
const handshakeRecord = 0x16

// Begins reports whether bytes that a peer sent first begin a TLS connection.
func Begins(head []byte) bool { return len(head) > 0 && head[0] == handshakeRecord }

// Error is what the record layer of an established connection failed with. It is
// no error of the engine above.
type Error struct{ Err error }

// Error says what failed.
func (e *Error) Error() string { return "TLS: " + e.Err.Error() }

// Unwrap returns crypto/tls's error.
func (e *Error) Unwrap() error { return e.Err }

// PlainText reports whether a handshake failed because the peer does not speak TLS.
func PlainText(err error) bool {
	e, ok := errors.AsType[tls.RecordHeaderError](err)
	return ok && e.Conn != nil
}

// Explain puts what people need to know of a failed handshake before err.
func Explain(err error, peer string) error {
	if PlainText(err) {
		return fmt.Errorf("%s does not speak TLS: %w", peer, err)
	}
	return fmt.Errorf("TLS handshake with %s: %w", peer, err)
}
