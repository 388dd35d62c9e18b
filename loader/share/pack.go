package share

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quadnine/quadnine/internal/mmap"
	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/loader/wire"
)

// fileID names a file on this machine.
type fileID struct{ dev, ino uint64 }

func idOf(f *os.File) (fileID, *unix.Stat_t, error) {
	var st unix.Stat_t
	conn, err := f.SyscallConn()
	if err != nil {
		return fileID{}, nil, err
	}
	var failed error
	err = conn.Control(func(fd uintptr) { failed = unix.Fstat(int(fd), &st) })
	return fileID{device(&st), st.Ino}, &st, errors.Join(err, failed)
}

// pack is what clients are sent of a version. Guarded by Server.mu; the fields are
// set once each, by adopt.
type pack struct {
	own   *os.File // sealed: the mark, one page that says which version it is, then the pages that were put together
	mark  fileID   // of own: who maps it, maps the version
	files []store
	offer wire.Offer
	tail  []byte // the Windows and Pieces frames
	sum   [32]byte
	sums  bool // sum is there
}

// store is one of the store's files.
type store struct {
	f    *os.File // of ours: the loader may close its own
	id   fileID
	size int64
	st   *unix.Stat_t
	copy *sealed // nil until it is needed
}

// writable reports whether a process of a user could open the file for writing,
// for instance by its descriptor's name in /proc: if it may everything, owns the
// file (its mode does not matter then), or if the mode lets others.
func (f *store) writable(uid uint32) bool {
	const others = 0o022 // an ACL that lets somebody write shows as the group's bit
	return uid == 0 || uid == f.st.Uid || f.st.Mode&others != 0
}

// needs is what of a pack a client needs.
type needs struct{ sealed, sum bool }

func (n *session) needs(p *pack) (w needs) {
	w.sum = n.hello.SHA256
	for i := range p.files {
		w.sealed = w.sealed || p.files[i].writable(n.proc.uid)
	}
	return w
}

// has reports whether the pack has what a client needs.
func (p *pack) has(w needs) bool {
	if p.own == nil || w.sum && !p.sums {
		return false
	}
	for i := range p.files {
		if w.sealed && p.files[i].copy == nil {
			return false
		}
	}
	return true
}

// give shows a version to a client: at once, or when it is built. Once is enough.
// s.mu is held.
func (s *Server) give(n *session, v *version) {
	if _, ok := v.holders[n]; ok || v.gone != nil || n.closed {
		return
	}
	if n.hasOther(v) {
		v.asked[n] = struct{}{}
		return // released gives it
	}
	w := n.needs(&v.pack)
	if !v.pack.has(w) {
		v.asked[n] = struct{}{}
		n.stopTimer(v) // what takes time now is this side's work
		s.build(v, w)
		return
	}
	delete(v.asked, n)
	v.holders[n] = shown
	files := make([]*os.File, 0, 1+len(v.pack.files))
	files = append(files, v.pack.own)
	for _, f := range v.pack.files {
		if w.sealed {
			files = append(files, f.copy.f)
		} else {
			files = append(files, f.f)
		}
	}
	offer := v.pack.offer
	offer.Sealed = w.sealed
	if w.sum {
		offer.SHA256 = v.pack.sum
	}
	n.send(item{b: offer.Append(nil)})
	for len(files) > 0 {
		k := min(len(files), wire.MaxFiles)
		n.send(item{files: files[:k]})
		files = files[k:]
	}
	n.send(item{b: v.pack.tail})
	s.limit(n, v)
}

// hasOther reports whether the client still has an earlier version with v's
// number, one that came to nothing. Server.mu is held.
func (n *session) hasOther(v *version) bool {
	return slices.ContainsFunc(n.group.versions, func(o *version) bool {
		_, held := o.holders[n]
		return held && o != v && o.number() == v.number()
	})
}

// limit gives a client the time until which a version must be ready. s.mu is held.
func (s *Server) limit(n *session, v *version) {
	if !n.closed {
		n.stopTimer(v)
		n.timers[v] = time.AfterFunc(s.opts.Ready, func() { s.late(n, v) })
	}
}

// late cuts off who does not come to be ready.
func (s *Server) late(n *session, v *version) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n.timers[v] != nil && v.holders[n] != ready {
		why := fmt.Sprintf("version %d is not ready after %v", v.number(), s.opts.Ready)
		s.detach(n, why, wire.AppendRefused(nil, why))
	}
}

// build has a worker make what is missing for clients with these needs; one thing
// at a time. s.mu is held.
func (s *Server) build(v *version, w needs) {
	if v.working {
		return
	}
	lease, ok := v.shared.Acquire()
	if !ok { // it is on its way out, and who asks will be told
		return
	}
	v.working = true
	next := v.pack // the worker's own, until adopt
	next.files = append([]store(nil), v.pack.files...)
	v.shared.Work(func() error { return s.make(&next, v.shared, lease, w) }, func(err error) {
		lease.Release()
		s.adopt(v, &next, w, err)
	})
}

// make is build's part for the worker.
func (s *Server) make(p *pack, of *loader.Shared, lease loader.Lease, w needs) error {
	switch {
	case p.own == nil:
		return p.assemble(of, lease)
	case w.sealed && !p.has(needs{sealed: true}):
		return s.seal(p, of)
	case w.sum && !p.sums:
		return p.hash(lease)
	}
	return nil
}

// adopt takes what a worker made for clients with the needs w, and goes on with who
// waits for it.
func (s *Server) adopt(v *version, made *pack, w needs, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v.working = false
	v.pack = *made
	over := v.gone != nil && len(v.holders) == 0
	if s.closed || over {
		v.close(s)
		return
	}
	for n := range v.asked {
		switch {
		case err != nil && missed(w, n.needs(&v.pack), &v.pack):
			why := fmt.Sprintf("version %d cannot be shared with it: %v", v.number(), err)
			s.detach(n, why, wire.AppendRefused(nil, why))
		default:
			s.give(n, v)
		}
	}
}

// missed reports whether a client needs what could not be made for clients with
// the needs w: it has no part in what only others need.
func missed(w, client needs, p *pack) bool {
	switch {
	case p.own == nil:
		return true
	case w.sealed && !p.has(needs{sealed: true}):
		return client.sealed
	default:
		return client.sum
	}
}

// close gives back what a version's pack takes. s.mu is held.
func (v *version) close(s *Server) {
	if v.pack.own != nil {
		v.pack.own.Close()
	}
	for i := range v.pack.files {
		f := &v.pack.files[i]
		f.f.Close()
		if f.copy != nil {
			s.unuse(f.copy)
		}
	}
	v.pack = pack{}
}

// assemble puts together what every client needs.
func (p *pack) assemble(of *loader.Shared, lease loader.Lease) (err error) {
	info, l, page := of.Info(), of.Layout(), mmap.PageSize()
	for _, f := range l.Files {
		own, err := reopenFile(f)
		if err != nil {
			return errors.Join(err, p.discard())
		}
		id, st, err := idOf(own)
		p.files = append(p.files, store{f: own, id: id, size: st.Size, st: st})
		if err != nil {
			return errors.Join(err, p.discard())
		}
	}
	own, err := newMemory(fmt.Sprintf("quadnine %s", info))
	if err != nil {
		return errors.Join(err, p.discard())
	}
	pieces := make([]wire.Piece, 0, len(l.Pieces)+1)
	at := page
	err = lease.With(func(w loader.View) error {
		mark := make([]byte, page)
		copy(mark, fmt.Sprintf("quadnine %s %s\n", info, info.Root))
		if _, err := own.Write(mark); err != nil {
			return err
		}
		for _, x := range l.Pieces {
			if x.File >= 0 {
				pieces = append(pieces, wire.Piece{At: x.At, Len: x.Len, File: uint32(x.File) + 1, Kind: wire.Map, Off: x.Off})
				continue
			}
			b, err := w.Region(x.At, x.Len)
			if err != nil {
				return err
			}
			if _, err := own.Write(b); err != nil {
				return err
			}
			pieces = append(pieces, wire.Piece{At: x.At, Len: x.Len, Kind: wire.Copy, Off: at})
			at += x.Len
		}
		return nil
	})
	if err == nil {
		err = sealMemory(own)
	}
	if err == nil {
		p.mark, _, err = idOf(own)
	}
	if err != nil {
		own.Close()
		return errors.Join(err, p.discard())
	}
	pieces = append(pieces, wire.Piece{At: l.Region, Len: page, Kind: wire.Map}) // the mark, behind everything
	windows := make([]wire.Window, len(l.Windows))
	for i, w := range l.Windows {
		windows[i] = wire.Window(w)
	}
	p.offer = wire.Offer{
		Version: info.Number, Size: info.Size, Region: l.Region + page, Root: info.Root,
		Files: 1 + len(p.files), Windows: len(windows), Pieces: len(pieces),
	}
	p.tail = wire.AppendPieces(wire.AppendWindows(nil, windows), pieces)
	if err := p.offer.Check(windows, pieces, page); err != nil {
		own.Close()
		return errors.Join(err, p.discard())
	}
	p.own = own
	return nil
}

// discard closes what a pack that came to nothing has.
func (p *pack) discard() error {
	errs := make([]error, 0, len(p.files))
	for _, f := range p.files {
		errs = append(errs, f.f.Close())
	}
	p.files = nil
	return errors.Join(errs...)
}

// hash computes the SHA-256 of the version's bytes, for clients without BLAKE3.
func (p *pack) hash(lease loader.Lease) error {
	const step = 1 << 20
	h := sha256.New()
	err := lease.With(func(w loader.View) error {
		for off := int64(0); off < p.offer.Size; {
			at, room, ok := w.At(off)
			if !ok {
				return io.ErrUnexpectedEOF
			}
			n := min(room, step)
			b, err := w.Region(at, n)
			if err != nil {
				return err
			}
			_, _ = h.Write(b) // a hash takes all
			off += n
		}
		return nil
	})
	if err != nil {
		return err
	}
	p.sum, p.sums = [32]byte(h.Sum(nil)), true
	return nil
}

// reopenFile is reopen for a file of ours.
func reopenFile(f *os.File) (*os.File, error) {
	fd, err := reopen(f)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}
