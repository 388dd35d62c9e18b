package share

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quadnine/quadnine/internal/mmap"
	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/loader/wire"
)

// session is a client's connection, and what its process may map after that.
type session struct {
	server *Server
	conn   *net.UnixConn
	proc   process    // set before group
	hello  wire.Hello // likewise

	// Guarded by Server.mu:
	group  *group // nil before the Hello was read
	out    chan item
	closed bool
	active *version // what last is about
	last   wire.Switch
	timers map[*version]*time.Timer // until a version is ready
}

// item is what is written in one go: descriptors of these files, or bytes.
type item struct {
	b     []byte
	files []*os.File // the server's own; each client gets open file descriptions of its own
}

// send queues an item. Who leaves no room does not read. Server.mu is held.
func (n *session) send(it item) {
	if n.closed {
		return
	}
	select {
	case n.out <- it:
	default:
		n.server.detach(n, fmt.Sprintf("does not read: %d frames wait for it", queueRoom), nil)
	}
}

// write writes what is queued, until the queue is closed or a write fails.
func (n *session) write() {
	defer func() { _ = n.conn.Close() }() // all that could be said was
	for it := range n.out {
		if err := n.put(it); err != nil {
			n.server.lost(n, err)
			return
		}
	}
}

func (n *session) put(it item) error {
	n.server.mu.Lock()
	if !n.closed { // else the deadline for the last words stands
		_ = n.conn.SetWriteDeadline(now().Add(n.server.opts.Ready)) // a write that fails says it
	}
	n.server.mu.Unlock()
	if it.files != nil {
		return sendFiles(n.conn, it.files)
	}
	_, err := n.conn.Write(it.b)
	return err
}

// sendFiles sends descriptors of files, each of an open file description that
// nobody else has: offset, flags and locks of one that is shared would be shared.
func sendFiles(c *net.UnixConn, files []*os.File) error {
	fds := make([]int, 0, len(files))
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(fd) // the client has its own by now, or none
		}
	}()
	for _, f := range files {
		fd, err := reopen(f)
		if err != nil {
			return err
		}
		fds = append(fds, fd)
	}
	return wire.SendFiles(c, fds)
}

// read serves a connection until it ends.
func (n *session) read() {
	s := n.server
	err := n.attach()
	if err == nil {
		s.wg.Go(n.write)
		r := bufio.NewReader(n.conn) // without room for descriptors: the kernel drops what a client sends of them
		buf := make([]byte, wire.HeaderSize+wire.MaxAsk)
		for err == nil {
			var t wire.Type
			var body []byte
			if t, body, err = wire.ReadAsk(r, buf); err == nil {
				err = n.handle(t, body)
			}
		}
		s.lost(n, err)
		return
	}
	s.mu.Lock()
	delete(s.sessions, n)
	s.mu.Unlock()
	n.proc.close()
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		_ = n.conn.Close() // it is given up
		return
	}
	refuse(n.conn, err.Error()) // no event: it shares nothing yet, and anybody can come a thousand times
}

// attach reads the Hello and finds out who it is.
func (n *session) attach() (err error) {
	s := n.server
	_ = n.conn.SetReadDeadline(now().Add(helloWithin)) // a read that fails says it
	if n.proc, err = peer(n.conn); err != nil {
		return err
	}
	t, body, err := wire.ReadAsk(n.conn, make([]byte, wire.HeaderSize+wire.MaxAsk))
	if err != nil {
		return err
	}
	if t != wire.TypeHello {
		return fmt.Errorf("begins with %v, want %v", t, wire.TypeHello)
	}
	if n.hello, err = wire.ParseHello(body); err != nil {
		return err
	}
	if err := n.conn.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	g := s.group(n.hello.Model)
	n.group = g
	g.sessions[n] = struct{}{}
	s.emit(loader.Event{Kind: loader.EventAttached, Model: g.name, Reason: fmt.Sprintf("pid %d, uid %d", n.proc.pid, n.proc.uid)})
	n.send(item{b: wire.Welcome{PageSize: mmap.PageSize(), Ready: s.opts.Ready, Reclaim: s.opts.Reclaim}.Append(nil)})
	first := []*version{g.active, g.canary, g.standby}
	for _, v := range append(first, g.versions...) {
		if v != nil {
			s.give(n, v)
		}
	}
	return nil
}

// handle does what a frame says.
func (n *session) handle(t wire.Type, body []byte) error {
	s := n.server
	var number uint64
	var reason string
	var err error
	switch t {
	case wire.TypeReady, wire.TypeReleased:
		number, err = wire.ParseNumber(t, body)
	case wire.TypeFailed:
		number, reason, err = wire.ParseFailed(body)
	default:
		err = fmt.Errorf("sends %v out of turn", t)
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	v, mark := n.holding(number)
	s.mu.Unlock()
	if v == nil {
		return fmt.Errorf("sends %v for version %d, which it was not shown", t, number)
	}
	marks, known := n.proc.marks() // outside of the lock: the kernel writes a line a mapping
	here := known && marks[mark]
	s.mu.Lock()
	defer s.mu.Unlock()
	if n.closed {
		return net.ErrClosed
	}
	at, ok := v.holders[n]
	switch {
	case !ok:
		return fmt.Errorf("sends %v for version %d, which it does not have any more", t, number)
	case t == wire.TypeReady && at != shown:
		return fmt.Errorf("says twice that version %d is ready", number)
	case t == wire.TypeReady && known && !here:
		return fmt.Errorf("says that version %d is ready, but does not map its mark", number)
	case t == wire.TypeReady:
		v.holders[n] = ready
		n.stopTimer(v)
		delete(v.waits, n)
		s.decide(v)
		s.sync(n)
	case here && !v.others(n):
		return fmt.Errorf("sends %v for version %d, but still maps it", t, number)
	case t == wire.TypeReleased && v.gone == nil:
		return fmt.Errorf("sends %v for version %d unasked", t, number)
	default:
		return s.released(n, v, t, reason)
	}
	return nil
}

// released is handle for a version that the client does not map any more, or
// never did. s.mu is held.
func (s *Server) released(n *session, v *version, t wire.Type, reason string) error {
	delete(v.holders, n)
	n.stopTimer(v)
	_, awaited := v.waits[n]
	delete(v.waits, n)
	switch {
	case t == wire.TypeFailed && awaited && v.decided != nil:
		s.veto(v, fmt.Errorf("pid %d: %s: %w", n.proc.pid, reason, ErrVeto))
	case t == wire.TypeFailed && v.gone == nil && !v.vetoed: // who cannot map what answers has nothing to stay for
		return fmt.Errorf("version %d: %s", v.number(), reason)
	}
	s.settle(v)
	for _, next := range n.group.versions {
		if _, ok := next.asked[n]; ok {
			s.give(n, next)
		}
	}
	return nil
}

// ErrVeto is why a version is not used that a client could not map or check.
var ErrVeto = errors.New("vetoed by a process that shares it")

// holding returns the version with a number that was shown to n, with its mark, or
// nil. s.mu is held.
func (n *session) holding(number uint64) (*version, fileID) {
	for _, v := range n.group.versions {
		if _, ok := v.holders[n]; ok && v.number() == number {
			return v, v.pack.mark
		}
	}
	return nil, fileID{}
}

// others reports whether another connection of n's process may map v as well: its
// mark does not say which of them does. Server.mu is held.
func (v *version) others(n *session) bool {
	for o := range v.holders {
		if o != n && o.proc.pid == n.proc.pid {
			return true
		}
	}
	return false
}

func (n *session) stopTimer(v *version) {
	if t := n.timers[v]; t != nil {
		t.Stop()
		delete(n.timers, v)
	}
}

// lost detaches a client whose connection failed.
func (s *Server) lost(n *session, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE):
		s.detach(n, "", nil)
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.detach(n, fmt.Sprintf("does not read: nothing could be written for %v", s.opts.Ready), nil)
	default:
		s.detach(n, err.Error(), wire.AppendRefused(nil, err.Error()))
	}
}

// detach ends a client's part: nothing is waited for, and what it may map is
// looked after until it does not. why is empty when it left by itself. s.mu is
// held.
func (s *Server) detach(n *session, why string, last []byte) {
	if n.closed {
		return
	}
	if last != nil {
		select {
		case n.out <- item{b: last}:
			_ = n.conn.SetWriteDeadline(now().Add(lastWords)) // a write that fails says it
		default:
			last = nil
		}
	}
	n.closed = true
	close(n.out)
	if last == nil {
		_ = n.conn.Close() // it is given up
	}
	delete(s.sessions, n)
	g := n.group
	if g == nil { // Close came before the Hello
		_ = n.conn.Close() // it is given up
		return
	}
	delete(g.sessions, n)
	held := false
	for _, v := range g.versions {
		n.stopTimer(v)
		delete(v.asked, n)
		_, may := v.holders[n]
		held = held || may
		if _, ok := v.waits[n]; ok {
			delete(v.waits, n)
			s.decide(v)
		}
	}
	switch {
	case s.closed:
	case why == "":
		s.emit(loader.Event{Kind: loader.EventLeft, Model: g.name, Reason: fmt.Sprintf("pid %d", n.proc.pid)})
	default:
		s.emit(loader.Event{Kind: loader.EventDetached, Model: g.name, Reason: fmt.Sprintf("pid %d: %s", n.proc.pid, why)})
	}
	if !held {
		n.proc.close()
		s.tidy(g)
		return
	}
	s.orphans[n] = struct{}{}
	select {
	case s.kick <- struct{}{}:
	default:
	}
}
