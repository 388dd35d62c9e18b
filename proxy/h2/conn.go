package h2

import "github.com/quadnine/quadnine/proxy/field"

// Conn is one HTTP/2 connection. Make it with NewServer or NewClient.
type Conn struct {
	cfg    Config
	h      Handler
	server bool
	now    int64 // of the last Feed
	depth  int   // public calls under way; the engine is at rest at 0
	err    error // set once: nothing is read any more
	stats  Stats

	// Input.
	prefaceLeft int    // bytes of the client's preface still to come
	in          []byte // start of a frame that is not complete
	body        bodyIn // the DATA frame whose payload is arriving
	block       blockIn
	continued   uint64 // blocks that CONTINUATION completed
	dec         decoder
	head, spare field.List // scratch for received lists

	// Output.
	out       output
	enc       encoder
	backlog   int  // bytes taken and not yet accepted by the kernel
	asked     bool // OnOutput was called since the last TakeOutput
	wasOpen   bool // Reading, when last told
	wasDone   bool // Closing, when last told
	ready     list // streams with body bytes and a window, in turn
	acks      int  // acknowledgements the peer may not have read
	pingsOpen int

	// Settings.
	gotSettings   bool
	settingsAcked bool
	peerConnects  bool   // the peer takes extended CONNECT (RFC 8441)
	recvInit      int64  // window of a new stream: ours once the peer acknowledged it
	peerWindow    int64  // the peer's SETTINGS_INITIAL_WINDOW_SIZE
	peerStreams   uint32 // the peer's SETTINGS_MAX_CONCURRENT_STREAMS

	// Windows of the connection.
	sendWindow int64
	recvWindow int64
	recvCredit int64 // received and done with, not yet given back

	// Streams.
	streams  streamTable // those that are open on the wire
	open     list        // the same and the client's unsent ones, in order of opening
	active   int         // length of open
	lastPeer uint32      // server: highest id the peer opened
	nextID   uint32      // client: next id to use
	closed   closedIDs
	free     *Stream // to be used again
	dead     *Stream // becomes free when the engine is at rest

	// Ending.
	goAwayIn  bool   // the peer sent GOAWAY
	toldAway  bool   // OnGoAway was called
	draining  bool   // Shutdown was called
	final     bool   // Shutdown(true) was called
	lastTaken uint32 // server: streams above it are ignored once final is set

	resets, floods bucket
	earned         int   // PINGs the peer may send in answer to our DATA
	updates        int   // WINDOW_UPDATEs likewise
	priorities     int   // PRIORITYs
	empties        int   // frames without payload, one after the other
	strays         int64 // bytes of DATA that may be on their way to streams reset here
	late           int   // other frames likewise
}

// NewServer returns a connection that faces a caller. Its SETTINGS are in the
// output at once.
func NewServer(cfg Config, h Handler) *Conn {
	c := newConn(cfg, h)
	c.server = true
	c.prefaceLeft = len(Preface)
	c.writeSettings()
	return c
}

// NewClient returns a connection that faces an upstream. The preface and its
// SETTINGS are in the output at once; requests may follow without waiting.
func NewClient(cfg Config, h Handler) *Conn {
	c := newConn(cfg, h)
	c.nextID = 1
	c.out.b = append(c.out.b, Preface...)
	c.writeSettings()
	return c
}

func newConn(cfg Config, h Handler) *Conn {
	c := &Conn{
		cfg: cfg.bounded(), h: h, wasOpen: true,
		peerWindow: initialWindow, sendWindow: initialWindow, recvWindow: initialWindow, recvInit: initialWindow,
		// Unlimited by RFC 9113 section 6.5.2, but a server that allows fewer than
		// section 6.5.2's advice of 100 would have to refuse what came too early.
		peerStreams: 100,
		updates:     freeUpdates,
		priorities:  prioritiesPerStream,
		open:        list{which: openLinks}, ready: list{which: readyLinks},
	}
	c.dec.init(c.cfg)
	c.enc.init()
	return c
}

// Active returns the number of open streams, those included that the client
// role opened and has not written yet.
func (c *Conn) Active() int { return c.active }

// SettingsReceived reports whether the peer's first SETTINGS arrived.
func (c *Conn) SettingsReceived() bool { return c.gotSettings }

// TakesExtendedConnect reports whether the peer's SETTINGS offer extended CONNECT
// (RFC 8441 section 3), which they may do later too. A server's alone count.
func (c *Conn) TakesExtendedConnect() bool { return c.peerConnects }

// SettingsAcked reports whether the peer acknowledged our SETTINGS: the driver's
// SETTINGS_TIMEOUT runs until then.
func (c *Conn) SettingsAcked() bool { return c.settingsAcked }

// Partial reports whether a preface, frame or header block has begun and is not
// complete: the driver's time limit against slow writers runs while it is true.
func (c *Conn) Partial() bool {
	return len(c.in) > 0 || c.block.stream != 0 || c.prefaceLeft > 0 && c.server || c.body.left+c.body.pad > 0
}

// enter and leave bracket every public call. What must not happen in the middle
// of a change (sending waiting data, using a Stream again, calling OnOutput)
// happens when the outermost call leaves.
func (c *Conn) enter() { c.depth++ }

func (c *Conn) leave() {
	if c.depth > 1 {
		c.depth--
		return
	}
	c.pump()
	c.bury()
	c.depth--
	open, done := c.Reading(), c.Closing()
	if len(c.out.b) == 0 && open == c.wasOpen && done == c.wasDone {
		return
	}
	c.wasOpen, c.wasDone = open, done
	if !c.asked {
		c.asked = true
		c.h.OnOutput(c)
	}
}

// fail ends the connection: GOAWAY in the output, OnReset for every stream.
func (c *Conn) fail(code ErrCode, reason string) { c.failFor(NoFlood, code, reason) }

func (c *Conn) failFor(f Flood, code ErrCode, reason string) {
	if c.err != nil {
		return
	}
	c.err = &ConnError{Code: code, Reason: reason, Flood: f}
	last := c.lastPeer
	if c.final { // RFC 9113 section 6.8: the id must not rise
		last = c.lastTaken
	}
	c.writeGoAway(last, code, reason)
	c.lose(code, reason, false)
}

// lose tells every open stream that the connection is over.
func (c *Conn) lose(code ErrCode, reason string, unprocessed bool) {
	c.in, c.block = nil, blockIn{}
	for s := c.open.first; s != nil; s = c.open.first {
		unsent := !c.server && s.id == 0
		c.shut(s, endLost)
		c.tellReset(s, &StreamError{Code: code, ConnLost: true, Unprocessed: unprocessed || unsent, Reason: reason})
	}
}

// FeedEOF says that the peer closed its sending side or that the transport is
// gone. Every open stream gets OnReset with ConnLost.
func (c *Conn) FeedEOF() {
	if c.err != nil {
		return
	}
	c.enter()
	c.err = ErrClosed
	// Never NoError: an owner that passes the code on must not announce success.
	code := InternalError
	if c.server {
		code = Cancel
	}
	c.lose(code, "the peer closed the connection", false)
	c.leave()
}
