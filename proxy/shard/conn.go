package shard

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
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

// writeStep is how much is written at a time where partial writes cannot be seen.
const writeStep = 4 << 10

// lingerFor is how long a connection that was refused stays half-open so that
// the peer, which may still be sending, can read why.
const lingerFor = time.Second

// ErrStalled is why a connection was aborted whose peer stopped reading.
var ErrStalled = errors.New("peer takes no output")

// Conn is a transport connection on a shard.
type Conn struct {
	shard  *Shard
	nc     net.Conn
	raw    syscall.RawConn // nil when nc is not a socket
	engine Engine
	owner  Owner

	// The reader fills these, posts arrived, and waits for resume.
	buf     *readBuffer
	n       int
	readErr error
	arrived Mail
	resume  chan struct{}
	readFn  func(fd uintptr) bool
	paused  bool // the reader waits for the engine to want more

	// The loop tries to write; what is left goes to a writer goroutine.
	pending  []byte // owned by the writer goroutine while writing is set
	writing  bool
	writeErr error
	taken    atomic.Int64 // bytes that writer goroutines have got rid of
	seen     int64        // taken, when the stall timer was armed
	written  Mail
	writeFn  func(fd uintptr) bool
	tryN     int
	tryErr   error
	spare    []byte
	stall    Timer

	nextDirty *Conn
	isDirty   bool
	attached  bool
	lingering bool
	closed    bool
	cause     error
}

// NewConn wraps nc for s. Nothing is read before Attach.
func NewConn(s *Shard, nc net.Conn) *Conn {
	c := &Conn{shard: s, nc: nc, resume: make(chan struct{}, 1)}
	c.arrived.To = arrival{c}
	c.written.To = departure{c}
	c.stall.To = c
	if sc, ok := nc.(syscall.Conn); ok && canTry {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw = raw
		}
	}
	c.readFn = func(fd uintptr) bool {
		buf := readBuffers.Get().(*readBuffer)
		n, again, err := tryRead(fd, buf[:])
		if again || n == 0 {
			readBuffers.Put(buf)
			c.n, c.readErr = 0, err
			return !again
		}
		c.buf, c.n, c.readErr = buf, n, err
		return true
	}
	c.writeFn = func(fd uintptr) bool {
		c.tryN, c.tryErr = tryWrite(fd, c.pending)
		return true
	}
	return c
}

// Attach gives c to its shard with the engine that speaks on it. Call it on the
// shard's goroutine.
func (c *Conn) Attach(e Engine, o Owner) {
	c.engine, c.owner, c.attached = e, o, true
	c.shard.conns[c] = struct{}{}
	c.shard.load.Add(1)
	go c.readLoop()
	c.Dirty()
}

// SetEngine replaces the engine, after the protocol was detected. Its output
// must have been taken or be empty.
func (c *Conn) SetEngine(e Engine) { c.engine = e }

// Shard returns the loop that owns c.
func (c *Conn) Shard() *Shard { return c.shard }

// NetConn returns the transport, for its addresses.
func (c *Conn) NetConn() net.Conn { return c.nc }

// Dirty has c flushed at the end of this wake-up.
func (c *Conn) Dirty() {
	if !c.isDirty && !c.closed {
		c.isDirty = true
		c.nextDirty, c.shard.dirty = c.shard.dirty, c
	}
}

func (c *Conn) readLoop() {
	for {
		c.read()
		failed := c.readErr != nil
		c.shard.Post(&c.arrived)
		if failed {
			return
		}
		if _, ok := <-c.resume; !ok {
			return
		}
	}
}

func (c *Conn) read() {
	if c.raw != nil {
		if err := c.raw.Read(c.readFn); err != nil {
			c.n, c.readErr = 0, err
		}
		return
	}
	buf := readBuffers.Get().(*readBuffer)
	c.n, c.readErr = c.nc.Read(buf[:])
	if c.n == 0 {
		readBuffers.Put(buf)
		return
	}
	c.buf = buf
}

type arrival struct{ c *Conn }

// Receive takes what the reader read.
func (a arrival) Receive(*Mail) {
	c := a.c
	buf, n, err := c.buf, c.n, c.readErr
	c.buf = nil
	if n > 0 {
		if !c.closed && !c.lingering && c.cause == nil { // a cause is final: the rest is only thrown away
			c.Dirty()
			if ferr := c.engine.Feed(c.shard.now, buf[:n]); ferr != nil && c.cause == nil {
				c.cause = ferr
			}
		}
		readBuffers.Put(buf)
	}
	if c.closed {
		return
	}
	switch {
	case err != nil && c.lingering:
		c.close(c.cause)
	case err != nil:
		c.ended(err)
	case c.lingering || c.engine.Reading():
		c.resume <- struct{}{}
	default:
		c.paused = true
	}
}

// ended handles the end of input: the engine may still have output to write
// (an HTTP/1.1 peer that half-closed gets nothing more, as with other proxies).
func (c *Conn) ended(err error) {
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
		if len(out) == 0 {
			c.spare = out
		} else {
			c.write(out)
		}
		if c.closed {
			return
		}
	}
	if c.paused && c.engine.Reading() {
		c.paused = false
		c.resume <- struct{}{}
	}
	if !c.writing && (c.cause != nil || c.engine.Closing()) {
		c.finish()
	}
}

// Expire aborts a connection whose peer stopped reading, and ends a lingering one.
func (c *Conn) Expire(_ *Timer, now int64) {
	if c.closed {
		return
	}
	if c.lingering {
		c.close(c.cause)
		return
	}
	if taken := c.taken.Load(); taken != c.seen {
		c.seen = taken
		c.shard.Arm(&c.stall, now+int64(WriteStall))
		return
	}
	c.abort()
	c.close(ErrStalled)
}

// finish closes after the last output. A peer that may still be sending gets the
// chance to read it: closing at once would answer its bytes with a reset.
func (c *Conn) finish() {
	if a, ok := c.engine.(aborter); ok && a.Aborted() {
		c.abort()
		c.close(c.cause)
		return
	}
	hc, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || hc.CloseWrite() != nil {
		c.close(c.cause)
		return
	}
	c.lingering = true
	if c.paused {
		c.paused = false
		c.resume <- struct{}{}
	}
	c.shard.Arm(&c.stall, c.shard.now+int64(lingerFor))
}

func (c *Conn) abort() {
	if tc, ok := c.nc.(*net.TCPConn); ok {
		_ = tc.SetLinger(0) // best effort: the peer sees an end in any case
	}
}

// Close drops the connection now, without flushing.
func (c *Conn) Close() { c.close(c.cause) }

func (c *Conn) close(err error) {
	if c.closed {
		return
	}
	c.closed = true
	c.shard.Stop(&c.stall)
	_ = c.nc.Close() // nothing is left to do about a failed close
	close(c.resume)
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
