package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"

	"github.com/quadnine/quadnine/snapshot"
)

// socket is a listener's address. It outlives states: connections look up their
// site in it for every request.
type socket struct {
	name    string
	address string // as configured
	door    *door
	base    *place            // without a chain, or of the default one; nil: there is none; guarded by Server.mu
	places  map[string]*place // of filter chains, by name; guarded by Server.mu
	chains  atomic.Pointer[chains]
}

// door is what connections come in by. It stays open when an address goes from
// one listener to another, which is what a new name comes to.
type door struct {
	ln    net.Listener
	owner atomic.Pointer[socket] // nil until a state serves it
}

// Listen opens l's address and access logs, so that Apply can serve it. It does
// nothing when they are open already, and leaves the address alone when no
// connection is taken any more.
func (s *Server) Listen(l *snapshot.Listener) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	for face := range l.Faces {
		if err := s.files.open(face.HTTP.AccessLogs); err != nil {
			return err
		}
	}
	if s.draining.Load() {
		return nil
	}
	var d *door
	for k := range s.sockets {
		switch {
		case k.address != l.Address:
		case k.name == l.Name:
			return nil
		case !l.PicksPort():
			d = k.door
		}
	}
	if d == nil {
		ln, err := s.listen(l)
		if err != nil {
			if e, ok := errors.AsType[syscall.Errno](err); ok {
				err = e // what net says around it is the address once more
			}
			return fmt.Errorf("cannot bind %s: %w", l.Address, err)
		}
		d = &door{ln: ln}
	}
	s.sockets[&socket{name: l.Name, address: l.Address, door: d}] = struct{}{}
	return nil
}

// listenTCP opens l's address with what l asks of the kernel.
func listenTCP(l *snapshot.Listener) (net.Listener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		cerr := c.Control(func(fd uintptr) {
			for i := range l.TCP.Options {
				o := &l.TCP.Options[i]
				if err = setOption(fd, o); err != nil {
					err = fmt.Errorf("socket option %d of level %d: %w", o.Name, o.Level, err)
					return
				}
			}
		})
		return errors.Join(cerr, err)
	}}
	return lc.Listen(context.Background(), "tcp", l.Address)
}

// Addrs returns where the listener called name takes connections.
func (s *Server) Addrs(name string) []net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []net.Addr
	for k := range s.sockets {
		if k.name == name {
			out = append(out, k.door.ln.Addr())
		}
	}
	return out
}

// rearrange gives every socket its site, serves new ones and drains those whose
// listener is gone.
func (s *Server) rearrange(next *state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	live := make(map[*door]*socket, len(s.sockets))
	var gone []*socket
	var chainless []*place
	for k := range s.sockets {
		st := next.sites[k.name]
		if st == nil || st.Address != k.address {
			delete(s.sockets, k)
			gone = append(gone, k)
			continue
		}
		chainless = append(chainless, s.arrange(k, st)...)
		live[k.door] = k
	}
	for d, k := range live {
		if d.owner.Swap(k) == nil {
			s.accepting.Go(func() { _ = s.accept(d) }) // it ends when the door closes
		}
	}
	for _, k := range gone {
		if live[k.door] == nil {
			s.shut(k.door)
		}
		s.retire(k)
	}
	for _, p := range chainless {
		s.drainPlace(p)
	}
}

func (s *Server) shut(d *door) {
	if err := d.ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		s.log.Warn("closing a listener failed", "addr", d.ln.Addr().String(), "err", err)
	}
}

// retire has k's connections finish what they have begun, and end.
func (s *Server) retire(k *socket) {
	if k.base != nil {
		s.drainPlace(k.base)
	}
	for _, p := range k.places {
		s.drainPlace(p)
	}
}

func (s *Server) drainPlace(p *place) {
	p.retired.Store(true)
	for _, l := range s.loops {
		l.post(func() {
			for c := range l.conns {
				if c.place == p {
					c.drain()
				}
			}
		})
	}
}

func (s *Server) closeListeners() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.sockets {
		s.shut(k.door)
		delete(s.sockets, k)
	}
}
