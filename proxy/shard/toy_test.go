package shard

import (
	"net"
	"testing"
	"time"
)

// toy is an Engine whose every answer a test can set. Only the shard's goroutine
// touches it: tests go through hub.do.
type toy struct {
	echo    bool
	full    int // bytes after which Reading is false; 0 is never
	closing bool
	broken  bool  // Aborted
	refuse  error // what Feed answers

	abandoned bool // Abandoned

	out     []byte
	in      []byte
	feeds   int
	ended   int // FeedEOF calls
	backlog []int
	onFeed  func()
	told    chan int // every Backlog, when not nil
}

func (e *toy) Feed(_ int64, p []byte) error {
	e.feeds++
	e.in = append(e.in, p...)
	if e.echo {
		e.out = append(e.out, p...)
	}
	if e.onFeed != nil {
		e.onFeed()
	}
	return e.refuse
}

func (e *toy) FeedEOF() { e.ended++ }

func (e *toy) TakeOutput(spare []byte) []byte {
	out := e.out
	e.out = spare[:0]
	return out
}

func (e *toy) Backlog(n int) {
	e.backlog = append(e.backlog, n)
	if e.told != nil {
		e.told <- n
	}
}

func (e *toy) Reading() bool { return e.full == 0 || len(e.in) < e.full }
func (e *toy) Closing() bool { return e.closing }
func (e *toy) Aborted() bool { return e.broken }

func (e *toy) Abandoned() bool { return e.abandoned }

// line is a Conn with a toy engine, and what became of it.
type line struct {
	*Conn
	toy    *toy
	closed chan struct{}
	times  int // OnClosed calls
	err    error
	at     int64 // when it closed, on the shard's clock
	after  int   // FeedEOF calls before OnClosed
}

func (l *line) OnClosed(c *Conn, err error) {
	l.times++
	l.err, l.at, l.after = err, c.shard.now, l.toy.ended
	if l.times == 1 {
		close(l.closed)
	}
}

// ended waits for the connection's end and checks what must hold of every end.
func (l *line) ended(t *testing.T) error {
	t.Helper()
	<-l.closed
	if l.times != 1 || l.toy.ended != 1 || l.after != 1 {
		t.Errorf("OnClosed %d times, FeedEOF %d times and %d before OnClosed: want 1 of each", l.times, l.toy.ended, l.after)
	}
	return l.err
}

// hub is a running shard.
type hub struct {
	*Shard
	wakes int // wake-ups, counted where outcomes are handed over
}

// start runs a shard until the end of the test.
func start(t *testing.T) *hub {
	t.Helper()
	return startWith(t, Auto)
}

func startWith(t *testing.T, d Driver) *hub {
	t.Helper()
	h := &hub{Shard: New(0, time.Now())}
	h.SetDriver(d)
	h.BeforeFlush(func() { h.wakes++ })
	go h.Run()
	t.Cleanup(func() {
		select {
		case <-h.Done(): // the test ended it
		default:
			h.Shutdown()
			<-h.Done()
		}
	})
	return h
}

// errand runs a function on the shard.
type errand struct {
	Mail
	do   func()
	done chan struct{}
}

func (e *errand) Receive(*Mail) {
	e.do()
	close(e.done)
}

// do runs f on the shard and waits for it.
func (h *hub) do(f func()) {
	e := &errand{do: f, done: make(chan struct{})}
	e.To = e
	h.Post(&e.Mail)
	<-e.done
}

// until asks on the shard, turn after turn, until ok says yes: what it waits for
// is the kernel's to bring.
func (h *hub) until(ok func() bool) {
	for done := false; !done; {
		h.do(func() { done = ok() })
	}
}

// attach gives nc to the shard with e as its engine.
func (h *hub) attach(nc net.Conn, e *toy) *line {
	l := &line{Conn: NewConn(h.Shard, nc), toy: e, closed: make(chan struct{})}
	h.do(func() { l.Attach(e, l) })
	return l
}

// say has the engine send p.
func (h *hub) say(l *line, p []byte) {
	h.do(func() {
		l.toy.out = append(l.toy.out, p...)
		l.Dirty()
	})
}

// duplex is a connection that can be half-closed, like TCP, made of two pipes.
type duplex struct {
	net.Conn          // what arrives
	out      net.Conn // what is sent
}

// newDuplex returns both ends of a duplex connection.
func newDuplex() (a, b *duplex) {
	ar, bw := net.Pipe()
	br, aw := net.Pipe()
	return &duplex{ar, aw}, &duplex{br, bw}
}

func (d *duplex) Write(p []byte) (int, error) { return d.out.Write(p) }
func (d *duplex) CloseWrite() error           { return d.out.Close() }

func (d *duplex) Close() error {
	_ = d.out.Close()
	return d.Conn.Close()
}
