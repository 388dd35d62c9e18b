package share

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/loader/wire"
)

// Defaults of Options.
const (
	DefaultClients = 64
	DefaultReady   = 30 * time.Second // a core hashes 2 GB a second; a cold disk reads 100 MB
	DefaultSealed  = 4 << 30

	helloWithin = 5 * time.Second // a connection that says nothing takes a client's place
	lastWords   = time.Second     // to take in why it is cut off
	pollEvery   = 500 * time.Millisecond
	queueRoom   = 256 // frames, or groups of frames, that wait for a client
	eventRoom   = 1024
)

// Options say how a Server works.
type Options struct {
	Socket  string        // path; made anew, with mode 0660
	Clients int           // connections, and processes that still hold something, at a time; default 64
	Ready   time.Duration // how long a client may take to map and check a version; default 30 s
	Reclaim time.Duration // how long it may keep one that is out of use; default the loader's
	Sealed  int64         // bytes that sealed copies may take in memory; 0: clients that need them are refused
}

// Server shows versions to other processes. Make one with Listen.
type Server struct {
	opts   Options
	ln     *net.UnixListener
	socket os.FileInfo // what Close may remove
	events chan loader.Event
	wg     sync.WaitGroup
	kick   chan struct{} // somebody has left
	done   chan struct{} // closed by Close

	mu       sync.Mutex // held for a few stores, never over input or output
	closed   bool
	groups   map[string]*group     // by model
	sessions map[*session]struct{} // connections
	orphans  map[*session]struct{} // connections that ended while the process maps something
	copies   map[fileID]*sealed
	sealed   int64 // bytes of copies, and of those being made
}

// Listen takes the socket and serves it.
func Listen(ctx context.Context, o Options) (*Server, error) {
	o.Clients = cmp.Or(o.Clients, DefaultClients)
	o.Ready = cmp.Or(o.Ready, DefaultReady)
	o.Reclaim = cmp.Or(o.Reclaim, loader.DefaultReclaim)
	if o.Clients < 0 || o.Ready < 0 || o.Reclaim < 0 || o.Sealed < 0 {
		return nil, fmt.Errorf("share: %d clients, ready %v, reclaim %v, sealed %d bytes: want no negative numbers", o.Clients, o.Ready, o.Reclaim, o.Sealed)
	}
	if errUnsupported != nil {
		return nil, fmt.Errorf("share: %s: %w", o.Socket, errUnsupported)
	}
	ln, fi, err := listen(ctx, o.Socket)
	if err != nil {
		return nil, fmt.Errorf("share: %w", err)
	}
	s := &Server{
		opts: o, ln: ln, socket: fi, events: make(chan loader.Event, eventRoom), kick: make(chan struct{}, 1), done: make(chan struct{}),
		groups: make(map[string]*group), sessions: make(map[*session]struct{}), orphans: make(map[*session]struct{}), copies: make(map[fileID]*sealed),
	}
	s.wg.Go(s.accept)
	s.wg.Go(s.watch)
	return s, nil
}

// listen binds the socket beside its place and moves it there with its final
// mode: a socket that a dead process left is replaced, a living one is not.
func listen(ctx context.Context, path string) (*net.UnixListener, os.FileInfo, error) {
	if fi, err := os.Lstat(path); err == nil {
		if fi.Mode().Type() != os.ModeSocket {
			return nil, nil, fmt.Errorf("%s: is there and is no socket: choose another path, or move it away", path)
		}
		var d net.Dialer
		c, err := d.DialContext(ctx, "unix", path)
		switch {
		case err == nil:
			c.Close()
			return nil, nil, fmt.Errorf("%s: another process listens there: give each sidecar a socket of its own", path)
		case !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, os.ErrNotExist): // a full queue, for one, is somebody's who lives
			return nil, nil, fmt.Errorf("%s: is there, and whether a process listens cannot be told: %w: remove it if none does", path, err)
		}
	}
	next := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, nil, err
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: next, Net: "unix"})
	if err != nil {
		return nil, nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	ln.SetUnlinkOnClose(false)
	const mode = 0o660 // who else may connect, the folder's group says
	fi, err := os.Lstat(next)
	if err == nil {
		err = os.Chmod(next, mode)
	}
	if err == nil { // a socket with another mode never gets there
		err = os.Rename(next, path)
	}
	if err != nil {
		_ = ln.Close() // it came to nothing
		return nil, nil, errors.Join(err, os.Remove(next))
	}
	return ln, fi, nil
}

// Events returns what happens to clients, in order. Who does not read loses the
// newest; the server never waits.
func (s *Server) Events() <-chan loader.Event { return s.events }

func (s *Server) emit(ev loader.Event) {
	ev.Time = now()
	if !ev.Began.IsZero() {
		ev.Took = ev.Time.Sub(ev.Began)
	}
	select {
	case s.events <- ev:
	default: // nobody reads
	}
}

// Close ends all connections, lets the loader go on without them, and removes the
// socket. What the clients map stays theirs.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.done)
	for c := range s.sessions {
		s.detach(c, "", wire.AppendRefused(nil, "the sidecar ends"))
	}
	for _, g := range s.groups {
		for _, v := range slices.Clone(g.versions) {
			clear(v.holders)
			clear(v.waits)
			s.decide(v)
			s.settle(v)
			v.close(s)
		}
	}
	s.mu.Unlock()
	err := s.ln.Close()
	s.wg.Wait()
	s.mu.Lock()
	for c := range s.orphans {
		s.forget(c)
	}
	s.mu.Unlock()
	if fi, e := os.Lstat(s.opts.Socket); e == nil && os.SameFile(fi, s.socket) {
		err = errors.Join(err, os.Remove(s.opts.Socket))
	}
	return err
}

// accept takes connections until the listener is closed.
func (s *Server) accept() {
	for {
		c, err := s.ln.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, most likely
			select {
			case <-s.done:
				return
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		s.mu.Lock()
		full := len(s.sessions)+len(s.orphans) >= s.opts.Clients
		if s.closed || full {
			s.mu.Unlock()
			refuse(c, fmt.Sprintf("%d clients are attached already, which is as many as may be", s.opts.Clients))
			continue
		}
		n := &session{server: s, conn: c, out: make(chan item, queueRoom), timers: make(map[*version]*time.Timer)}
		s.sessions[n] = struct{}{}
		s.wg.Go(n.read)
		s.mu.Unlock()
	}
}

// refuse ends a connection that nothing is known of. Its buffer is empty: this
// does not wait.
func refuse(c *net.UnixConn, why string) {
	_ = c.SetWriteDeadline(now().Add(lastWords)) // a write that fails says it
	_, _ = c.Write(wire.AppendRefused(nil, why)) // who is not there any more need not know
	_ = c.Close()                                // it is given up
}

// Status is what clients do with a model.
type Status struct {
	Model     string
	Processes int   // attached
	Held      int64 // bytes of versions that are out of use and still mapped by some, each time counted
}

// Status returns it for every model that is known, by name.
func (s *Server) Status() (out []Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, g := range s.groups {
		st := Status{Model: name, Processes: len(g.sessions)}
		for _, v := range g.versions {
			if v.gone != nil {
				st.Held += int64(len(v.holders)) * v.shared.Info().Size
			}
		}
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b Status) int { return cmp.Compare(a.Model, b.Model) })
	return out
}

// Sealed returns the bytes that sealed copies take in memory.
func (s *Server) Sealed() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sealed
}
