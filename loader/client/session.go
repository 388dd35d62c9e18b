package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/quadnine/quadnine/internal/mmap"
	"github.com/quadnine/quadnine/loader/wire"
)

// session is one connection. Its state belongs to the goroutine that runs it.
type session struct {
	client   *Client
	conn     *wire.Conn
	versions map[uint64]*version           // that were mapped and checked
	checking map[uint64]context.CancelFunc // that are being mapped
	done     chan func() error             // from what goes on beside
	over     chan struct{}                 // closed when run ends
	wg       sync.WaitGroup
	welcomed bool
}

func newSession(c *Client, conn *wire.Conn) *session {
	return &session{
		client: c, conn: conn, versions: make(map[uint64]*version), checking: make(map[uint64]context.CancelFunc), done: make(chan func() error), over: make(chan struct{}),
	}
}

// heard is what a frame, or an offer with all that belongs to it, says.
type heard func() error

// run says hello and does what it is told until the connection ends.
func (s *session) run(ctx context.Context) (attached bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	frames := make(chan heard)
	failed := make(chan error, 1)
	defer func() {
		cancel()
		close(s.over)
		_ = s.conn.Close() // it is given up
		s.end()
	}()
	if err := s.conn.Send(wire.Hello{Model: s.client.model}.Append(nil)); err != nil {
		return false, err
	}
	s.wg.Go(func() { failed <- s.read(ctx, frames) })
	for {
		select {
		case f := <-frames:
			err = f()
		case f := <-s.done:
			err = f()
		case err = <-failed:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		if err != nil {
			return s.welcomed, err
		}
	}
}

// end waits for what goes on beside, and lets go of what does not answer.
func (s *session) end() {
	for _, cancel := range s.checking {
		cancel()
	}
	over := make(chan struct{})
	go func() { s.wg.Wait(); close(over) }()
	for waiting := true; waiting; {
		select {
		case f := <-s.done:
			_ = f() // the connection is closed: nothing can be said any more
		case <-over:
			waiting = false
		}
	}
	answering := s.client.current.Load().versions()
	for _, v := range s.versions {
		if !slices.Contains(answering, v) {
			v.drop()
		}
	}
}

// read turns frames into what they say, for run.
func (s *session) read(ctx context.Context, frames chan<- heard) error {
	var now *offer
	defer func() { now.discard() }()
	for {
		f, err := s.conn.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("the sidecar has closed the connection: %w", err)
		}
		if err != nil {
			return err
		}
		var h heard
		var o *offer
		switch f.Type {
		case wire.TypeOffer, wire.TypeFiles, wire.TypeWindows, wire.TypePieces:
			var whole bool
			if now, whole, err = now.add(f); whole {
				o, now = now, nil
				h = func() error { return s.check(ctx, o) }
			}
		default:
			h, err = s.parse(f)
		}
		if err != nil {
			return err
		}
		if h == nil {
			continue
		}
		select {
		case frames <- h:
		case <-ctx.Done():
			o.discard()
			return context.Cause(ctx)
		}
	}
}

// parse is read for a frame that stands by itself.
func (s *session) parse(f wire.Frame) (heard, error) {
	switch f.Type {
	case wire.TypeWelcome:
		w, err := wire.ParseWelcome(f.Body)
		return func() error { return s.welcome(w) }, err
	case wire.TypeSwitch:
		m, err := wire.ParseSwitch(f.Body)
		return func() error { return s.change(m) }, err
	case wire.TypeRelease:
		m, err := wire.ParseRelease(f.Body)
		return func() error { return s.release(m.Version) }, err
	case wire.TypeRevoked:
		n, err := wire.ParseNumber(f.Type, f.Body)
		return func() error { return s.revoked(n) }, err
	case wire.TypeRefused:
		return nil, fmt.Errorf("%w: %s", ErrRefused, wire.ParseRefused(f.Body))
	default:
		return nil, fmt.Errorf("the sidecar sends %v", f.Type)
	}
}

func (s *session) welcome(w wire.Welcome) error {
	if w.PageSize != mmap.PageSize() {
		return fmt.Errorf("the sidecar's pages have %d bytes, this process's %d", w.PageSize, mmap.PageSize())
	}
	s.welcomed = true
	s.client.setErr(nil)
	return nil
}

// check maps an offered version and checks it, beside everything else.
func (s *session) check(ctx context.Context, o *offer) error {
	n := o.head.Version
	if s.versions[n] != nil || s.checking[n] != nil {
		o.discard()
		return fmt.Errorf("the sidecar offers version %d twice", n)
	}
	ctx, cancel := context.WithCancel(ctx)
	s.checking[n] = cancel
	s.wg.Go(func() {
		v, err := o.mapped(ctx, s)
		s.done <- func() error { return s.checked(n, v, err) }
	})
	return nil
}

// checked is what comes of it.
func (s *session) checked(n uint64, v *version, err error) error {
	cancel, wanted := s.checking[n]
	if wanted {
		cancel()
		delete(s.checking, n)
	}
	switch {
	case !wanted: // it was asked back meanwhile
		if v != nil {
			v.drop()
			<-v.freed
		}
		return s.conn.Send(wire.AppendNumber(nil, wire.TypeReleased, n))
	case err != nil:
		return s.conn.Send(wire.AppendFailed(nil, n, err.Error()))
	default:
		s.versions[n] = v
		return s.conn.Send(wire.AppendNumber(nil, wire.TypeReady, n))
	}
}

// change makes versions answer.
func (s *session) change(m wire.Switch) error {
	next := &published{share: m.Share}
	for n, to := range map[uint64]**version{m.Active: &next.active, m.Canary: &next.canary} {
		if n == 0 {
			continue
		}
		v := s.versions[n]
		if v == nil {
			return fmt.Errorf("the sidecar switches to version %d, which is not ready here", n)
		}
		*to = v
	}
	s.client.publish(s, next)
	return nil
}

// release lets go of a version, and says so when its last lease was given back.
func (s *session) release(n uint64) error {
	if cancel := s.checking[n]; cancel != nil {
		cancel()
		delete(s.checking, n)
		return nil // checked says it
	}
	v := s.versions[n]
	if v == nil {
		return nil // it has failed here
	}
	s.hide(v)
	v.drop()
	s.wg.Go(func() {
		select {
		case <-v.freed:
			s.done <- func() error {
				delete(s.versions, n)
				return s.conn.Send(wire.AppendNumber(nil, wire.TypeReleased, n))
			}
		case <-s.over:
		}
	})
	return nil
}

// hide stops a version from being acquired, should it still answer.
func (s *session) hide(v *version) {
	p := *s.client.current.Load()
	if p.active != v && p.canary != v {
		return
	}
	if p.active == v {
		p.active = nil
	}
	if p.canary == v {
		p.canary, p.share = nil, 0
	}
	s.client.publish(s, &p)
}

// revoked takes a version's memory back from under its readers: the sidecar has
// waited for long enough. The connection ends with it.
func (s *session) revoked(n uint64) error {
	if v := s.versions[n]; v != nil {
		s.hide(v)
		v.revoke()
		v.drop()
	}
	return fmt.Errorf("version %d was not given back in time: %w", n, ErrRevoked)
}

// closeAll closes the files of an offer.
func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
