package tlsconn

import (
	"io"
	"sync"

	"github.com/quadnine/quadnine/internal/bufpool"
	"github.com/quadnine/quadnine/proxy/shard"
)

const (
	// scratchSize is how much plain text is gathered before the inner engine sees
	// it: several records, so that it is fed once per wake-up, not once per frame.
	scratchSize = 64 << 10
	// maxRecord is the most that one record holds (RFC 8446 section 5.1).
	maxRecord = 16 << 10
	// keepPlain is the largest output buffer that the inner engine keeps.
	keepPlain = 16 << 10
	// maxOwed is how much the record layer may have to say by itself before nothing
	// is read any more: a peer that asks for key updates has to read the answers.
	maxOwed = 16 << 10
)

type scratch [scratchSize]byte

// scratches are held during Feed only: an idle connection holds none.
var scratches = sync.Pool{New: func() any { return new(scratch) }}

// aborter is an inner engine that may want the peer to see a broken connection.
type aborter interface{ Aborted() bool }

// abandoner is an inner engine whose output may be worth nothing any more.
type abandoner interface{ Abandoned() bool }

// cutter is an inner engine to which it matters whether the peer meant the end:
// what only an end delimits is incomplete without one.
type cutter interface{ Cut() }

// Engine speaks an inner engine's bytes over TLS.
type Engine struct {
	inner shard.Engine
	conn  *Conn

	ended  bool // the inner engine was told of the end of input
	failed bool // the record layer can do no more
	ending bool // nothing follows what the inner engine has to say
	told   bool // close_notify was sent
}

var _ shard.Engine = (*Engine)(nil)

// NewEngine returns the engine of a connection whose handshake is over. The bytes
// that came with the handshake's last ones wait in it: call Feed once with none
// when the connection is attached.
func NewEngine(c *Conn, inner shard.Engine) *Engine { return &Engine{inner: inner, conn: c} }

// SetInner replaces the inner engine, after the protocol was detected.
func (e *Engine) SetInner(inner shard.Engine) { e.inner = inner }

// End has close_notify follow the output there is, for a connection that its owner
// ends.
func (e *Engine) End() { e.ending = true }

// Feed decrypts p and passes on what is complete.
func (e *Engine) Feed(now int64, p []byte) error {
	t := e.conn.t
	t.in = p
	buf := scratches.Get().(*scratch)
	err := e.drain(now, buf)
	scratches.Put(buf)
	t.in = nil // a broken connection leaves some
	return err
}

func (e *Engine) drain(now int64, buf *scratch) error {
	for n := 0; ; {
		m, err := e.conn.tls.Read(buf[n:])
		n += m
		if err == nil && n <= scratchSize-maxRecord {
			continue
		}
		if n > 0 {
			if ferr := e.inner.Feed(now, buf[:n]); ferr != nil {
				e.ending = true
				return ferr
			}
			n = 0
		}
		switch err {
		case nil:
		case errWouldBlock: //nolint:errorlint // crypto/tls returns the transport's own, and EOF unwrapped
			return nil
		case io.EOF: // close_notify: the peer meant it
			if !e.ended {
				e.ended = true
				e.inner.FeedEOF()
			}
			e.ending = true
			return io.EOF
		default:
			e.failed = true
			return &Error{err}
		}
	}
}

// FeedEOF tells the inner engine that the transport has ended: without a
// close_notify the peer did not mean it (RFC 8446 section 6.1).
func (e *Engine) FeedEOF() {
	if e.ended {
		return
	}
	e.ended = true
	if c, ok := e.inner.(cutter); ok {
		c.Cut()
	}
	e.inner.FeedEOF()
}

// TakeOutput encrypts what the inner engine has to say.
func (e *Engine) TakeOutput(spare []byte) []byte {
	t := e.conn.t
	if len(t.out) == 0 { // else an alert or a key update waits
		t.out = spare[:0]
	}
	p := e.inner.TakeOutput(nil)
	if len(p) > 0 && !e.failed {
		if _, err := e.conn.tls.Write(p); err != nil {
			e.failed = true
		}
	}
	switch {
	case cap(p) > keepPlain:
		bufpool.Free(p)
		p = bufpool.Get(0)
		fallthrough
	case cap(p) > 0:
		e.inner.TakeOutput(p[:0]) // one buffer goes to and fro
	}
	if !e.told && !e.failed && (e.ending || e.inner.Closing()) && !e.Aborted() {
		e.told = true
		if e.conn.tls.CloseWrite() != nil {
			e.failed = true
		}
	}
	out := t.out
	t.out = nil
	return out
}

// Backlog passes on how much waits for the kernel.
func (e *Engine) Backlog(n int) { e.inner.Backlog(n) }

// Reading reports whether the inner engine wants more, and the peer reads what is
// answered.
func (e *Engine) Reading() bool { return len(e.conn.t.out) < maxOwed && e.inner.Reading() }

// Closing reports whether to close once the output is flushed.
func (e *Engine) Closing() bool { return e.failed || e.told || e.inner.Closing() }

// Aborted reports whether the peer must see a broken connection.
func (e *Engine) Aborted() bool {
	a, ok := e.inner.(aborter)
	return ok && a.Aborted()
}

// Abandoned reports whether the output is not worth waiting for.
func (e *Engine) Abandoned() bool {
	a, ok := e.inner.(abandoner)
	return ok && a.Abandoned()
}
