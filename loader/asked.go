package loader

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// ErrUndecided says that a version cannot be activated by hand now.
var ErrUndecided = errors.New("another version of the model is being brought in or tried")

// answer tells who asked for a drop's version what came of it. From then on the
// drop is one like any other.
func (d *drop) answer(err error) {
	if f := d.cand.Asked; f != nil {
		d.cand.Asked = nil
		f(err)
	}
}

// unask gives up on a version that was asked for and cannot be brought in now: it
// must not become active at a moment that nobody expects.
func (l *Loader) unask(m *model, d *drop) {
	if d.cand.Asked == nil || d.status != waiting {
		return
	}
	err := d.reason
	if err == nil {
		err = fmt.Errorf("%s@%d: %w: decide that one first", m.name, d.mf.Version, ErrUndecided)
	}
	l.mu.Lock()
	delete(l.drops, d.cand.Drop)
	l.mu.Unlock()
	d.answer(err)
}

// Reactivate makes a version that is here the active one, without a trial: the
// canary, the standby, or one that the store has, be it as a base. It returns when it is
// active, ErrNoVersion when there is no such version here. A version that was
// rolled back is refused.
func (l *Loader) Reactivate(ctx context.Context, model string, version uint64) error {
	m, err := l.find(model)
	if err != nil {
		return err
	}
	result := make(chan error, 1)
	err = l.call(ctx, func() error { return l.reactivate(m, version, func(err error) { result <- err }) })
	if err != nil {
		return err
	}
	select {
	case err := <-result:
		return err
	case <-l.closed:
		return ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *Loader) reactivate(m *model, version uint64, asked func(error)) error {
	m.mu.Lock()
	v := m.canary
	if v == nil || v.info.Number != version {
		v = m.standby
	}
	if v == nil || v.info.Number != version {
		v = m.shadow
	}
	m.mu.Unlock()
	if v != nil && v.info.Number == version {
		asked(l.promote(m, v, "asked for"))
		return nil
	}
	if err := m.running(); err != nil {
		return err
	}
	im := m.images[version]
	if im == nil {
		return fmt.Errorf("loader: %s@%d: %w", m.name, version, ErrNoVersion)
	}
	if err := l.isBlocked(m.name, version, im.manifest.TargetRoot); err != nil {
		return err
	}
	if err := m.admit(im.manifest, true, l.opts.LookupEnv, l.opts.Schemas); err != nil {
		return err
	}
	if m.busy != nil {
		return fmt.Errorf("%s: %w: decide that one first", im, ErrUndecided)
	}
	c := Candidate{Drop: im.origin.Drop, Open: func() (*os.Root, error) { return nil, fs.ErrNotExist }, Asked: asked}
	l.mu.Lock()
	d := l.drops[c.Drop]
	if d == nil || d.mf == nil || d.mf.Version != version || d.status == reading || d.status == working {
		// Its directory is gone or holds another version by now.
		c.Drop = fmt.Sprintf("store:%s", im)
		d = &drop{cand: c, seen: im.origin.Dropped, mf: im.manifest, status: done, at: now()}
		l.drops[c.Drop] = d
	}
	d.cand.Asked, d.stored = asked, im
	l.mu.Unlock()
	l.bring(m, d)
	return nil
}

// Past returns the number up to which no version of a model comes by itself: that
// of the active one, or of one that was left by hand for an older.
func (l *Loader) Past(model string) uint64 {
	m := (*l.models.Load())[model]
	if m == nil {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.active == nil {
		return m.floor
	}
	return max(m.floor, m.active.info.Number)
}
