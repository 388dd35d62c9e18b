package loader

import (
	"context"
	"os"
	"slices"
	"sync/atomic"
)

// Sharer shows versions to other processes, which map them themselves: loader/share
// is one. Its methods are called by the loader and must not block; Published and
// Withdraw are called under a lock and must not call the loader either.
type Sharer interface {
	// Offer shows a proved version, which nobody answers with yet, to the processes
	// that are attached. decided is called once, from any goroutine: with nil when
	// the version may be used, or with why it must not.
	Offer(v *Shared, decided func(error))
	// Published says which versions of a model answer from now on.
	Published(model string, s Serving)
	// Withdraw asks the processes to let go of a version that is out of use. gone is
	// called once, when none of them maps it any more.
	Withdraw(v *Shared, gone func())
}

// Serving is which versions of a model answer; nil stands for none.
type Serving struct {
	Active, Canary, Standby *Shared

	Share uint64 // of 1<<32 callers, for the canary
}

// Shared is a version as a Sharer handles it. A version has one, always the same.
// Its methods are safe for concurrent use.
type Shared struct {
	v *Version
	l *Loader

	withdrawn bool // of the loader's goroutine
	gone      atomic.Bool
}

// Info describes the version.
func (s *Shared) Info() *Info { return &s.v.info }

// Acquire takes a lease, under which Layout's files stay open and the version's
// bytes can be read. It fails once the version is on its way out.
func (s *Shared) Acquire() (Lease, bool) {
	if !s.v.acquire() {
		return Lease{}, false
	}
	return Lease{s.v, Standby}, true
}

// Work runs work on one of the loader's workers, which have the lowest priority,
// and then done. When the loader is closed neither may be run. It does not block.
func (s *Shared) Work(work func() error, done func(error)) {
	go func() {
		_ = s.l.call(context.Background(), func() error { // after Close there is nobody to tell
			s.l.submit(lane{shareLane, s.v.info.Model}, work, done)
			return nil
		})
	}()
}

// Layout is how a version lies in its region: what another process has to do to
// have the same one.
type Layout struct {
	Region  int64 // bytes, whole pages
	Windows []Window
	Pieces  []Piece // later ones lie over earlier ones
	Files   []*os.File
}

// Window says that the version's bytes [From, To) are at byte At of the region.
type Window struct{ From, To, At int64 }

// Piece is a range of whole pages of the region: those of file number File from
// byte Off on, or, when File is negative, pages that were put together from
// several places.
type Piece struct {
	At, Len int64
	File    int
	Off     int64
}

// Layout returns how the version is mapped. The caller holds a lease and closes
// none of the files. A piece may end in its file's last page.
func (s *Shared) Layout() Layout {
	l := &s.v.layout
	out := Layout{Region: l.size}
	for _, w := range l.windows {
		if w.from < w.to {
			out.Windows = append(out.Windows, Window{w.from, w.to, w.at})
		}
	}
	index := make(map[*blob]int)
	for _, p := range slices.Concat(l.under, l.over) {
		if p.blob == nil {
			out.Pieces = append(out.Pieces, Piece{p.at, p.n, -1, 0})
			continue
		}
		n, ok := index[p.blob]
		if !ok {
			n = len(out.Files)
			index[p.blob] = n
			out.Files = append(out.Files, p.blob.f)
		}
		out.Pieces = append(out.Pieces, Piece{p.at, min(p.n, p.blob.size-p.src), n, p.src})
	}
	return out
}

// Region returns n bytes of the region from byte at on. It is good only inside
// the With of a lease.
func (w View) Region(at, n int64) ([]byte, error) { return w.v.region.Bytes(at, n) }

// At returns where in the region byte off of the version is, and how many bytes
// follow it there.
func (w View) At(off int64) (at, room int64, ok bool) { return w.v.layout.at(off) }

// show shows a proved version to the processes that share it, and then offers it.
func (l *Loader) show(m *model, d *drop, v *Version) {
	if v.shared == nil {
		l.place(m, d, v)
		return
	}
	l.opts.Sharer.Offer(v.shared, func(err error) {
		go func() {
			_ = l.call(context.Background(), func() error { // after Close there is nothing to offer
				if err != nil {
					l.fail(m, d, v, err)
				} else {
					l.place(m, d, v)
				}
				return nil
			})
		}()
	})
}

// share makes a version one that is shared, if any are.
func (l *Loader) share(v *Version) {
	if l.opts.Sharer != nil {
		v.shared = &Shared{v: v, l: l}
	}
}

// publishes tells the Sharer what m publishes, if there is one.
func (l *Loader) publishes(m *model) {
	if l.opts.Sharer == nil {
		return
	}
	shared := func(v *Version) *Shared {
		if v == nil {
			return nil
		}
		return v.shared
	}
	m.tell = func(p *published) {
		l.opts.Sharer.Published(m.name, Serving{shared(p.active), shared(p.canary), shared(p.standby), p.share})
	}
}

// withdraw tells the Sharer once that a version is out of use. The model's mu is
// held.
func (l *Loader) withdraw(v *Version) {
	s := v.shared
	if s == nil || s.withdrawn {
		return
	}
	s.withdrawn = true
	l.opts.Sharer.Withdraw(s, func() {
		s.gone.Store(true)
		select {
		case l.idle <- struct{}{}:
		default: // somebody has woken the loader already
		}
	})
}

// held reports whether other processes may still map v, which was withdrawn.
func (v *Version) held() bool { return v.shared != nil && !v.shared.gone.Load() }
