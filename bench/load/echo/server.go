package echo

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"github.com/quadnine/quadnine/bench/load/wire"
)

// ChildArg is the first argument of a process that serves; the second is its
// address, the third the file to answer with.
const ChildArg = "echo"

// The windows this server offers, opened anew when half of one is used.
const (
	connWindow   = 1 << 30
	streamWindow = 1 << 26
)

// The header blocks of a stream: status 200 from the static table, content-type
// as a literal that is not added; and of its trailers: grpc-status 0.
const (
	streamHead  = "\x88\x0f\x10\x10application/grpc"
	trailerHead = "\x00\x0bgrpc-status\x010"
)

// heads makes a reply's header blocks: one that adds what all replies have in
// common to the dynamic table, as every server does, the later ones that point at
// it (RFC 7541, section 2.3.3: the newest entry has index 62), and one for peers
// without room for them.
func heads(body []byte) (first, later, plain string) {
	added, literal := []byte{0x88}, []byte{0x88}
	for _, f := range []struct {
		index byte // of the name in the static table
		value string
	}{{54, "bench"}, {31, "application/json"}, {28, strconv.Itoa(len(body))}, {33, "Sun, 27 Sep 2026 12:00:00 GMT"}} {
		added = append(append(added, 0x40|f.index, byte(len(f.value))), f.value...)
		literal = append(append(literal, 0x0f, f.index-15, byte(len(f.value))), f.value...)
	}
	return string(added), "\x88\xc1\xc0\xbf\xbe", string(literal)
}

// tableNeeded is what the four entries take (RFC 7541, section 4.1).
const tableNeeded = 256

// server is the listening process.
type server struct {
	poll   *wire.Poll
	listen int
	conns  map[int]*conn
	body   []byte

	first, later, plain string // header blocks
}

// conn is one connection.
type conn struct {
	*wire.Conn

	server  *server
	greeted bool // the preface came
	replied bool // the entries are in the peer's table
	small   bool // the peer's table has no room for them
	shrunk  bool // and has been told that it is empty
	used    int64
	window  int64              // the peer's
	initial int64              // of the peer's new streams
	streams map[uint32]*stream // the long ones
	blocked []uint32           // those that wait for a window
}

// stream is one that echoes, or a reply that waits for a window.
type stream struct {
	used   int64
	window int64
	held   []byte // payloads that wait for a window
	ended  bool   // nothing more comes
	reply  bool   // ends without trailers
}

// Child answers with the contents of a file on addr until its process is ended.
func Child(addr, file string) error {
	runtime.LockOSThread()
	body, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("echo: %w", err)
	}
	poll, err := wire.NewPoll()
	if err != nil {
		return err
	}
	s := &server{poll: poll, conns: map[int]*conn{}, body: body}
	s.first, s.later, s.plain = heads(body)
	if s.listen, err = poll.Listen(addr); err != nil {
		return err
	}
	for {
		if err := poll.Wait(-1, s.ready); err != nil {
			return err
		}
	}
}

// ready acts on one socket. What goes wrong on a connection ends that one.
func (s *server) ready(fd int, in, _ bool) error {
	if fd == s.listen {
		c, err := s.poll.Accept(fd)
		if err != nil || c == nil {
			return err
		}
		s.conns[c.FD()] = &conn{Conn: c, server: s, window: wire.DefaultWindow, initial: wire.DefaultWindow, streams: map[uint32]*stream{}}
		return nil
	}
	c := s.conns[fd]
	var err error
	if in {
		err = c.Read(c.preface(), c.frame)
	}
	if err == nil {
		err = c.Flush()
	}
	if err != nil {
		delete(s.conns, fd)
		return c.Close()
	}
	return nil
}

// preface returns what cuts the client's preface off; nil once it has come.
func (c *conn) preface() func([]byte) ([]byte, bool) {
	if c.greeted {
		return nil
	}
	return func(b []byte) ([]byte, bool) {
		rest, ok := bytes.CutPrefix(b, []byte(wire.Preface))
		if !ok {
			return b, false
		}
		c.greeted = true
		c.Out = wire.AppendSettings(c.Out, wire.Setting{ID: wire.MaxConcurrentStreams, Value: 1024}, wire.Setting{ID: wire.InitialWindowSize, Value: streamWindow})
		c.Out = wire.AppendWindow(c.Out, 0, connWindow-wire.DefaultWindow)
		return rest, true
	}
}

// frame acts on what the peer sent.
func (c *conn) frame(f wire.Frame) error {
	switch f.Type {
	case wire.Headers:
		c.head(f)
	case wire.Data:
		c.data(f)
	case wire.RSTStream:
		delete(c.streams, f.Stream)
	case wire.Settings:
		if f.Flags&wire.Ack == 0 {
			f.Settings(c.setting)
			c.Out = wire.AppendHeader(c.Out, 0, wire.Settings, wire.Ack, 0)
		}
	case wire.Ping:
		if f.Flags&wire.Ack == 0 {
			c.Out = append(wire.AppendHeader(c.Out, len(f.Payload), wire.Ping, wire.Ack, 0), f.Payload...)
		}
	case wire.WindowUpdate:
		if s := c.streams[f.Stream]; s != nil {
			s.window += int64(f.Uint32())
		} else if f.Stream == 0 {
			c.window += int64(f.Uint32())
		}
		c.unblock()
	case wire.GoAway, wire.Continuation: // the peer closes by itself; a long head's rest is not looked at
	}
	return nil
}

// setting takes over one of the peer's limits.
func (c *conn) setting(s wire.Setting) {
	switch {
	case s.ID == wire.InitialWindowSize:
		for _, st := range c.streams {
			st.window += int64(s.Value) - c.initial
		}
		c.initial = int64(s.Value)
	case s.ID == wire.HeaderTableSize && s.Value < tableNeeded:
		c.small = true
	}
}

// block appends a HEADERS frame. A peer with a small table is told first that it
// is not used (RFC 7541, section 4.2).
func (c *conn) block(id uint32, flags wire.Flags, head string) {
	if c.small && !c.shrunk {
		c.shrunk = true
		head = "\x20" + head
	}
	c.Out = append(wire.AppendHeader(c.Out, len(head), wire.Headers, flags|wire.EndHeaders, id), head...)
}

// head answers a request, or begins a stream.
func (c *conn) head(f wire.Frame) {
	if s := c.streams[f.Stream]; s != nil { // trailers
		s.ended = f.Flags&wire.EndStream != 0
		c.echo(f.Stream, s)
		return
	}
	if f.Flags&wire.EndStream == 0 {
		c.streams[f.Stream] = &stream{window: c.initial}
		c.block(f.Stream, 0, streamHead)
		return
	}
	head := c.server.later
	switch {
	case c.small:
		head = c.server.plain
	case !c.replied:
		head, c.replied = c.server.first, true
	}
	c.block(f.Stream, 0, head)
	body := c.server.body
	if n := int64(len(body)); n <= min(c.window, c.initial, wire.MaxPayload) {
		c.Out = append(wire.AppendHeader(c.Out, len(body), wire.Data, wire.EndStream, f.Stream), body...)
		c.window -= n
		return
	}
	s := &stream{window: c.initial, held: bytes.Clone(body), ended: true, reply: true}
	c.streams[f.Stream] = s
	c.echo(f.Stream, s)
}

// data sends a stream's bytes back.
func (c *conn) data(f wire.Frame) {
	n := int64(len(f.Payload))
	if c.used += n; c.used > connWindow/2 {
		c.Out = wire.AppendWindow(c.Out, 0, uint32(c.used))
		c.used = 0
	}
	s := c.streams[f.Stream]
	if s == nil {
		return
	}
	if s.used += n; s.used > streamWindow/2 {
		c.Out = wire.AppendWindow(c.Out, f.Stream, uint32(s.used))
		s.used = 0
	}
	s.ended = f.Flags&wire.EndStream != 0
	p := f.Bare()
	if len(s.held) == 0 && int64(len(p)) <= min(s.window, c.window) && len(p) > 0 {
		c.write(f.Stream, s, p)
		p = nil
	}
	s.held = append(s.held, p...)
	c.echo(f.Stream, s)
}

// write sends one DATA frame.
func (c *conn) write(id uint32, s *stream, p []byte) {
	c.Out = append(wire.AppendHeader(c.Out, len(p), wire.Data, 0, id), p...)
	s.window -= int64(len(p))
	c.window -= int64(len(p))
}

// echo sends what s holds as far as the windows allow, and its trailers.
func (c *conn) echo(id uint32, s *stream) {
	for len(s.held) > 0 {
		n := min(int64(len(s.held)), wire.MaxPayload, s.window, c.window)
		if n <= 0 {
			c.blocked = append(c.blocked, id)
			return
		}
		c.write(id, s, s.held[:n])
		s.held = s.held[:copy(s.held, s.held[n:])]
	}
	switch {
	case !s.ended:
	case s.reply:
		c.Out = wire.AppendHeader(c.Out, 0, wire.Data, wire.EndStream, id)
		delete(c.streams, id)
	default:
		c.block(id, wire.EndStream, trailerHead)
		delete(c.streams, id)
	}
}

// unblock tries the streams that wait for a window once more.
func (c *conn) unblock() {
	ids := c.blocked
	c.blocked = nil
	for _, id := range ids {
		if s := c.streams[id]; s != nil {
			c.echo(id, s)
		}
	}
}
