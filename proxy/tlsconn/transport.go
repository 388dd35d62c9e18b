package tlsconn

import (
	"net"
	"time"

	"github.com/quadnine/quadnine/internal/bufpool"
)

// transport is what a tls.Conn reads from and writes to: the socket during the
// handshake, memory after it.
type transport struct {
	net.Conn        // for the handshake, and for its addresses
	head     []byte // read from the socket before the handshake
	turns    Turns
	memory   bool
	in       []byte // ciphertext to be read
	out      []byte // ciphertext to be sent
}

// errWouldBlock says that in is empty.
var errWouldBlock error = wouldBlockError{}

type wouldBlockError struct{}

func (wouldBlockError) Error() string   { return "no input yet" }
func (wouldBlockError) Timeout() bool   { return false }
func (wouldBlockError) Temporary() bool { return true }

// Read takes from the input there is.
func (t *transport) Read(p []byte) (int, error) {
	if len(t.head) > 0 {
		n := copy(p, t.head)
		if t.head = t.head[n:]; len(t.head) == 0 {
			t.head = nil
		}
		return n, nil
	}
	if !t.memory {
		t.turns.give()
		n, err := t.Conn.Read(p)
		t.turns.take()
		return n, err
	}
	if len(t.in) == 0 {
		return 0, errWouldBlock
	}
	n := copy(p, t.in)
	t.in = t.in[n:]
	return n, nil
}

// Write keeps what is to be sent.
func (t *transport) Write(p []byte) (int, error) {
	if !t.memory {
		t.turns.give()
		n, err := t.Conn.Write(p)
		t.turns.take()
		return n, err
	}
	t.out = append(bufpool.Grow(t.out, len(p)), p...)
	return len(p), nil
}

// Close, and the deadlines, are the driver's once the handshake is over.
func (t *transport) Close() error {
	if t.memory {
		return nil
	}
	return t.Conn.Close()
}

func (t *transport) SetDeadline(at time.Time) error {
	if t.memory {
		return nil
	}
	return t.Conn.SetDeadline(at)
}

func (t *transport) SetReadDeadline(at time.Time) error {
	if t.memory {
		return nil
	}
	return t.Conn.SetReadDeadline(at)
}

func (t *transport) SetWriteDeadline(at time.Time) error {
	if t.memory {
		return nil
	}
	return t.Conn.SetWriteDeadline(at)
}
