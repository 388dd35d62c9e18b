package share

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/quadnine/quadnine/loader"
)

// ErrSealed is why a client is refused that would need sealed copies.
var ErrSealed = errors.New("sealed copies take too much memory")

// sealed is a copy in memory of one of the store's files that nobody can change.
// Versions made of the same file share it.
type sealed struct {
	id    fileID
	f     *os.File
	size  int64
	users int // versions; guarded by Server.mu
}

// seal copies the files of p that are not copied yet.
func (s *Server) seal(p *pack, of *loader.Shared) error {
	for i := range p.files {
		f := &p.files[i]
		if f.copy != nil {
			continue
		}
		c, err := s.copyOf(f, of)
		if err != nil {
			return err // the copies that there are stay, for the next try
		}
		f.copy = c
	}
	return nil
}

// copyOf returns a copy of a file, which is made when there is none. Its bytes are
// taken from the budget first.
func (s *Server) copyOf(f *store, of *loader.Shared) (*sealed, error) {
	s.mu.Lock()
	if c := s.copies[f.id]; c != nil {
		c.users++
		s.mu.Unlock()
		return c, nil
	}
	used := s.sealed
	fits := f.size <= s.opts.Sealed-used
	if fits {
		s.sealed += f.size
	}
	s.mu.Unlock()
	if !fits {
		return nil, fmt.Errorf("its user could write the store's file, so it needs a sealed copy of %d bytes; %d of %d are taken: run it as another user than the sidecar, or allow more: %w",
			f.size, used, s.opts.Sealed, ErrSealed)
	}
	c, err := f.seal()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.sealed -= f.size
		return nil, err
	}
	if other := s.copies[f.id]; other != nil { // another model's worker was faster
		s.sealed -= f.size
		c.f.Close()
		c = other
	}
	s.copies[f.id] = c
	c.users++
	i := of.Info()
	s.emit(loader.Event{
		Kind: loader.EventSealed, Model: i.Model, Version: i.Number, Copied: f.size,
		Reason: fmt.Sprintf("a process's user could write the store's files; sealed copies take %d of %d bytes", s.sealed, s.opts.Sealed),
	})
	return c, nil
}

// seal makes the copy.
func (f *store) seal() (*sealed, error) {
	m, err := newMemory("quadnine " + f.f.Name())
	if err != nil {
		return nil, err
	}
	n, err := io.Copy(m, io.NewSectionReader(f.f, 0, f.size))
	if err == nil && n != f.size {
		err = fmt.Errorf("%s: ends at byte %d of %d: it was cut", f.f.Name(), n, f.size)
	}
	if err == nil {
		err = sealMemory(m)
	}
	if err != nil {
		m.Close()
		return nil, fmt.Errorf("sealed copy: %w", err)
	}
	return &sealed{id: f.id, f: m, size: f.size}, nil
}

// unuse gives back a version's part in a copy. s.mu is held.
func (s *Server) unuse(c *sealed) {
	if c.users--; c.users == 0 {
		delete(s.copies, c.id)
		s.sealed -= c.size
		c.f.Close()
	}
}
