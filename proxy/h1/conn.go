package h1

import "github.com/quadnine/quadnine/proxy/field"

// Handler receives a connection's events. Methods are called synchronously; the
// lists and slices they are given are valid only during the call. A head's contents
// may be swapped for another list's.
type Handler interface {
	// OnHead brings a request (server role) or a response's head (client role;
	// before the final one, each 1xx with end false). It may be called from
	// inside Stream.Release and Conn.Backlog, when a pipelined request waited.
	OnHead(s *Stream, head *field.List, end bool)
	// OnData brings body bytes; p may be empty when end is true.
	OnData(s *Stream, p []byte, end bool)
	// OnTrailers ends the message.
	OnTrailers(s *Stream, t *field.List)
	// OnReset tells that the exchange ended abnormally; nothing follows. err is a
	// *StreamError. It may be called from inside WriteHead, WriteData and
	// WriteTrailers when what they were given cannot be sent.
	OnReset(s *Stream, err error)
	// OnSent tells that n body bytes which WriteData had to buffer are in the output.
	OnSent(s *Stream, n int)
	// OnOutput asks for the driver's attention: there is output, or Reading or
	// Closing changed. It is called once until the next TakeOutput, and again when
	// Reading changed since.
	OnOutput(c *Conn)
	// OnIdle (client role only) tells that the exchange is over and released and
	// that the connection may carry another one.
	OnIdle(c *Conn)
}

// Conn is one HTTP/1.1 connection. It belongs to one goroutine.
type Conn struct {
	h      Handler
	cfg    Config
	server bool

	s   Stream // the only one, reused by each exchange
	msg message

	// Input. cur is what is not parsed yet, valid while depth > 0; what remains
	// of it between two calls is in[pos:].
	in    []byte
	pos   int
	cur   []byte
	own   bool // cur is part of in
	scan  int  // bytes at the start of cur that hold no LF
	state state
	depth int

	head      field.List // of the message being read, as the handler sees it
	raw       field.List // its fields in the order they came, without connection-specific ones
	target    []byte     // of the request being read
	host      []byte
	upgrade   []byte
	expect    []byte
	nominated []byte // lower-case names that Connection lists, each followed by a comma
	name      []byte // scratch

	out     []byte
	backlog int
	armed   bool // OnOutput is due at the next change

	keep    bool // this exchange leaves the connection usable
	used    bool // client role: an exchange was completed before
	shut    bool
	final   bool
	closing bool
	aborted bool
	wasCut  bool // the end of input was nobody's will
	stalled bool // what Reading said last, inverted
	err     error
}

// NewServer returns a connection that faces a caller.
func NewServer(cfg Config, h Handler) *Conn { return newConn(cfg, h, true) }

// NewClient returns a connection that faces an upstream.
func NewClient(cfg Config, h Handler) *Conn { return newConn(cfg, h, false) }

func newConn(cfg Config, h Handler, server bool) *Conn {
	c := &Conn{h: h, cfg: cfg.withDefaults(), server: server, armed: true}
	c.s.c = c
	return c
}

// TakeOutput hands over the pending output, which may be empty, installs
// spare[:0] as the new buffer and re-arms OnOutput. Call Backlog afterwards.
func (c *Conn) TakeOutput(spare []byte) []byte {
	out := c.out
	c.out = spare[:0]
	c.armed = true
	return out
}

// Backlog says that n bytes taken by TakeOutput are not yet accepted by the
// kernel. Whatever n was before, body data that waits moves on when there is room.
func (c *Conn) Backlog(n int) {
	c.backlog = n
	c.depth++
	c.pump()
	c.depth--
	c.resume()
	c.noteReading()
}

// Reading reports whether the driver should read: false while a body waits to be
// consumed, or a pipelined request waits for its turn.
func (c *Conn) Reading() bool {
	switch {
	case c.closing:
		return true // and Feed throws it away: unread bytes would turn close into a reset
	case c.s.paused:
		return false
	case c.server && (c.state == stDone || c.state == stStart && c.room() <= 0):
		return len(c.in) == c.pos
	}
	return true
}

// Closing reports that the transport is to be closed once the output is flushed.
func (c *Conn) Closing() bool { return c.closing }

// Aborted reports that a message was cut off: the transport is to be closed so
// that the peer sees a reset (SO_LINGER 0) and takes nothing for complete.
func (c *Conn) Aborted() bool { return c.aborted }

// Abandoned reports that what is left of an aborted request is not worth sending:
// its response is in hand, or nobody waits for one.
func (c *Conn) Abandoned() bool { return c.aborted && !c.server }

// Active returns the number of open streams: 0 or 1.
func (c *Conn) Active() int {
	if c.s.live && !c.s.over() {
		return 1
	}
	return 0
}

// HeadPending reports whether part of a request's head has come and the rest has
// not.
func (c *Conn) HeadPending() bool {
	if !c.server || c.closing || c.s.live {
		return false
	}
	return c.state == stFields || c.state == stStart && (c.msg.bytes > 0 || len(c.in) > c.pos)
}

// Refuse answers a request whose head has not come with status, and ends the
// connection. reason is the body's line.
func (c *Conn) Refuse(status int, reason string) {
	if c.server && !c.closing {
		c.refuse(refusal{status, reason})
	}
}

// Shutdown ends the connection gracefully. In server role the next response
// carries "Connection: close"; final also closes it as soon as it is idle. In
// client role no exchange can be opened any more, and it closes when idle.
func (c *Conn) Shutdown(final bool) {
	c.shut = true
	c.final = c.final || final
	if c.s.live {
		return
	}
	if !c.server || c.final && c.state == stStart && c.msg.bytes == 0 && len(c.in) == c.pos {
		c.close()
	}
}

// CanOpen reports whether OpenStream would succeed.
func (c *Conn) CanOpen() bool { return !c.server && !c.shut && !c.closing && !c.held() }

// OpenStream starts an exchange in client role. It returns ErrBusy until the one
// before was released, ErrGoingAway when the connection is ending.
func (c *Conn) OpenStream(owner any) (*Stream, error) {
	switch {
	case c.server || c.shut || c.closing:
		return nil, ErrGoingAway
	case c.held():
		return nil, ErrBusy
	}
	c.s.begin()
	c.s.Owner = owner
	c.keep = true
	return &c.s, nil
}

// held reports that the Stream still serves an exchange or its owner.
func (c *Conn) held() bool { return c.s.live || c.s.owned }

func (c *Conn) room() int { return c.cfg.OutputLimit - len(c.out) - c.backlog }

func (c *Conn) touch() {
	if c.armed {
		c.armed = false
		c.h.OnOutput(c)
	}
}

// noteReading tells the driver when Reading changed, also while output that it
// was told of waits: two ends that both write would otherwise wait for each other.
func (c *Conn) noteReading() {
	if c.depth == 0 && c.Reading() == c.stalled {
		c.stalled = !c.stalled
		c.armed = false
		c.h.OnOutput(c)
	}
}

func (c *Conn) close() {
	c.keep = false
	if !c.closing {
		c.closing = true
		c.touch()
	}
}

func (c *Conn) abort() {
	c.aborted = true
	c.close()
	c.touch() // also when it was closing already, after its output
}
