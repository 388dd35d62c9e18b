package shard

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// Engine is a protocol state machine that a Conn drives; proxy/h2 and proxy/h1
// provide it. All methods are called on the shard's goroutine.
type Engine interface {
	// Feed takes bytes from the peer. An error is final: the output is flushed,
	// then the connection is closed.
	Feed(now int64, p []byte) error
	// FeedEOF says that no more bytes will come.
	FeedEOF()
	// TakeOutput hands over what is to be written and installs spare[:0].
	TakeOutput(spare []byte) []byte
	// Backlog says how many bytes of the output the kernel has not taken yet.
	Backlog(n int)
	// Reading reports whether the engine wants more input.
	Reading() bool
	// Closing reports whether to close once the output is flushed.
	Closing() bool
}

// aborter is an Engine that may want the peer to see a broken connection, not a
// clean end: a truncated HTTP/1.1 body must not look whole.
type aborter interface{ Aborted() bool }

// abandoner is an aborter whose output may be worth nothing any more: it is not
// kept for a peer who takes none of it.
type abandoner interface{ Abandoned() bool }

// Owner learns of a connection's end.
type Owner interface {
	// OnClosed is called exactly once, after the engine's FeedEOF. err is what
	// ended the connection; nil or io.EOF for a clean end.
	OnClosed(c *Conn, err error)
}

// WriteStall is how long a peer may take none of the bytes that wait for it
// before its connection is aborted. It is looked at once in that time: one that
// stops in the middle is aborted after one to two times WriteStall.
const WriteStall = 30 * time.Second

// lingerFor is how long a connection that was refused stays half-open so that
// the peer, which may still be sending, can read why.
const lingerFor = time.Second

// ErrStalled is why a connection was aborted whose peer stopped reading.
var ErrStalled = errors.New("peer takes no output")

// Conn is a transport connection on a shard.
type Conn struct {
	shard   *Shard
	nc      net.Conn
	engine  Engine
	owner   Owner
	carrier transport // nil before Attach

	out     []byte       // what is being written, while writing is set
	writing bool         // the kernel has not taken all of it
	taken   atomic.Int64 // bytes of it that the kernel took later on
	seen    int64        // taken, when the stall timer was armed
	spare   []byte
	stall   Timer

	nextDirty *Conn
	isDirty   bool
	paused    bool // nothing is read until the engine wants more
	lingering bool
	deaf      error // why the peer takes no more output; what it sent before is still read
	closed    bool
	cause     error
}

// NewConn wraps nc for s. Nothing is read before Attach.
func NewConn(s *Shard, nc net.Conn) *Conn {
	c := &Conn{shard: s, nc: nc}
	c.stall.To = c
	return c
}

// Attach gives c to its shard with the engine that speaks on it. Call it on the
// shard's goroutine. From here on nc itself must not be read, written or closed
// by anybody else: the driver may have closed it and kept the socket.
func (c *Conn) Attach(e Engine, o Owner) {
	c.engine, c.owner = e, o
	c.carrier = c.carry()
	c.shard.conns[c] = struct{}{}
	c.shard.load.Add(1)
	c.carrier.start()
	c.Dirty()
}

// SetEngine replaces the engine, after the protocol was detected. Its output
// must have been taken or be empty.
func (c *Conn) SetEngine(e Engine) { c.engine = e }

// Shard returns the loop that owns c.
func (c *Conn) Shard() *Shard { return c.shard }

// NetConn returns what NewConn was given, for its addresses: once c is attached
// it may be closed while c is open.
func (c *Conn) NetConn() net.Conn { return c.nc }

// Dirty has c flushed at the end of this wake-up.
func (c *Conn) Dirty() {
	if !c.isDirty && !c.closed {
		c.isDirty = true
		c.nextDirty, c.shard.dirty = c.shard.dirty, c
	}
}

// received takes what the carrier read, and reports whether it should read on.
// err is why there will be no more.
func (c *Conn) received(p []byte, err error) bool {
	if c.closed {
		return false
	}
	if len(p) > 0 && !c.lingering && c.cause == nil { // a cause is final: the rest is only thrown away
		c.Dirty()
		if ferr := c.engine.Feed(c.shard.now, p); ferr != nil && c.cause == nil {
			c.cause = ferr
		}
	}
	switch {
	case c.closed:
		return false
	case err != nil && c.lingering:
		c.close(c.cause)
		return false
	case err != nil:
		c.ended(err)
		return false
	case c.lingering || c.engine.Reading():
		return true
	}
	c.paused = true
	return false
}

// ended handles the end of input: the engine may still have output to write
// (an HTTP/1.1 peer that half-closed gets nothing more, as with other proxies).
func (c *Conn) ended(err error) {
	if c.cause == nil && c.deaf != nil {
		err = c.deaf
	}
	if c.cause == nil && !errors.Is(err, io.EOF) {
		c.cause = err
	}
	c.close(c.cause)
}

// flush writes the engine's output and acts on its state.
func (c *Conn) flush() {
	if c.closed || c.lingering {
		return
	}
	if !c.writing {
		out := c.engine.TakeOutput(c.spare)
		c.spare = nil
		switch {
		case len(out) == 0:
			c.spare = out
		case c.deaf != nil:
			c.keep(out)
			c.engine.Backlog(0)
		default:
			c.write(out)
		}
		if c.closed {
			return
		}
	}
	if c.paused && c.engine.Reading() {
		c.paused = false
		c.carrier.resume()
	}
	if c.cause == nil && !c.engine.Closing() {
		return
	}
	if a, ok := c.engine.(abandoner); !c.writing || ok && a.Abandoned() {
		c.finish()
	}
}

// Expire aborts a connection whose peer stopped reading, and ends a lingering one.
func (c *Conn) Expire(_ *Timer, now int64) {
	if c.closed {
		return
	}
	switch {
	case c.lingering:
		c.close(c.cause)
		return
	case c.deaf != nil:
		c.ended(io.EOF)
		return
	}
	if taken := c.taken.Load(); taken != c.seen {
		c.seen = taken
		c.shard.Arm(&c.stall, now+int64(WriteStall))
		return
	}
	c.carrier.reset()
	c.close(ErrStalled)
}

// finish closes after the last output. A peer that may still be sending gets the
// chance to read it: closing at once would answer its bytes with a reset.
func (c *Conn) finish() {
	if c.deaf != nil {
		c.ended(io.EOF)
		return
	}
	if a, ok := c.engine.(aborter); ok && a.Aborted() {
		c.carrier.reset()
		c.close(c.cause)
		return
	}
	if !c.carrier.closeWrite() {
		c.close(c.cause)
		return
	}
	c.lingering = true
	if c.paused {
		c.paused = false
		c.carrier.resume()
	}
	c.shard.Arm(&c.stall, c.shard.now+int64(lingerFor))
}

// Close drops the connection now, without flushing.
func (c *Conn) Close() { c.close(c.cause) }

func (c *Conn) close(err error) {
	if c.closed {
		return
	}
	c.closed = true
	c.shard.Stop(&c.stall)
	c.carrier.close()
	delete(c.shard.conns, c)
	c.shard.ended = true
	c.shard.load.Add(-1)
	c.engine.FeedEOF()
	c.owner.OnClosed(c, err)
}

// Fail ends the connection at the next flush, after what the engine has to say.
// It may be called from an engine's event.
func (c *Conn) Fail(err error) {
	if c.cause == nil {
		c.cause = err
	}
	c.Dirty()
}
