package loader

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/quadnine/quadnine/loader/delta"
)

// Bases returns the versions of a model that a delta can be brought in on,
// ascending; none for a model that is not known.
func (l *Loader) Bases(ctx context.Context, model string) (bases []delta.Base, err error) {
	err = l.call(ctx, func() error {
		if m := (*l.models.Load())[model]; m != nil {
			for n, im := range m.images {
				bases = append(bases, delta.Base{Version: n, Root: im.manifest.TargetRoot})
			}
		}
		return nil
	})
	slices.SortFunc(bases, func(a, b delta.Base) int { return cmp.Compare(a.Version, b.Version) })
	return bases, err
}

// Admit says why a version would not be brought in now, before any of its files is
// read. asked: somebody wants it though a later one may be active.
func (l *Loader) Admit(ctx context.Context, mf *delta.Manifest, asked bool) error {
	return l.call(ctx, func() error {
		if err := l.isBlocked(mf.Model, mf.Version, mf.TargetRoot); err != nil {
			return err
		}
		m := (*l.models.Load())[mf.Model]
		if m == nil {
			m = newModel(mf.Model)
		}
		return m.admit(mf, asked, l.opts.LookupEnv, l.opts.Schemas)
	})
}

// Standing is what became of a drop, for a source that keeps its files.
type Standing uint8

// The standings.
const (
	Unknown  Standing = iota // never reported, or gone
	Needed                   // its files are still to be read, now or when it is tried again
	Taken                    // its files are not needed any more: its version is in the store, or was decided
	Rejected                 // it is quarantined until it changes
)

// Standing returns what became of the drop called name.
func (l *Loader) Standing(ctx context.Context, name string) (s Standing, err error) {
	err = l.call(ctx, func() error {
		d := l.drops[name]
		switch {
		case d == nil:
			return nil
		case d.status == done || d.stored != nil:
			s = Taken
		case d.status == quarantined && d.retry.IsZero():
			s = Rejected
		default:
			s = Needed
			if d.status == working {
				if im := l.model(d.mf.Model).images[d.mf.Version]; im != nil && im.origin.Drop == name && im.origin.InPlace == "" {
					s = Taken
				}
			}
		}
		return nil
	})
	return s, err
}

// Stored is a version in the store.
type Stored struct {
	Model    string
	Number   uint64
	Root     delta.Root
	Dropped  time.Time  // when its drop was seen
	Drop     string     // where it came from
	Role     delta.Role // which of its manifest's files it is
	Manifest string     // path of the manifest's bytes
	File     string     // path of that file
	Base     *Stored    // what it is a delta of; nil for a full file
}

func stored(im *image) *Stored {
	if im == nil {
		return nil
	}
	path := filepath.Join(im.dir, blobFile)
	if im.origin.InPlace != "" {
		path = im.origin.InPlace
	}
	s := &Stored{
		Model: im.manifest.Model, Number: im.number(), Root: im.manifest.TargetRoot, Dropped: im.origin.Dropped, Drop: im.origin.Drop,
		Role: im.origin.Role, Manifest: filepath.Join(im.dir, manifestFile), File: path, Base: stored(im.base),
	}
	if im.origin.Patch != "" && !im.origin.Flat { // what was made of it is no file of the manifest
		s.Role, s.File = im.origin.Patch, filepath.Join(im.dir, patchFile)
	}
	return s
}

// Idle returns the versions of all models that the store retains (Options.Retain)
// and nothing here needs, by model and number. Those that were taken for a bundle are
// not among them: it signs a directory, and elsewhere they would have none.
func (l *Loader) Idle(ctx context.Context) (out []*Stored, err error) {
	err = l.call(ctx, func() error {
		for _, name := range l.Models() {
			m := (*l.models.Load())[name]
			for _, n := range slices.Sorted(maps.Keys(m.retained)) {
				if im := m.images[n]; im != nil && !im.origin.Bundle && l.idle1(m, im) {
					out = append(out, stored(im))
				}
			}
		}
		return nil
	})
	return out, err
}

// ErrNeeded is why a version is not forgotten.
var ErrNeeded = errors.New("needed here, or not in the store any more")

// Forget removes a retained version from the store that nothing here needs, else it
// is ErrNeeded: it is kept elsewhere, at where. It returns when its files are gone.
func (l *Loader) Forget(ctx context.Context, model string, number uint64, where string) error {
	m, err := l.find(model)
	if err != nil {
		return err
	}
	gone := make(chan error, 1)
	err = l.call(ctx, func() error {
		im := m.images[number]
		if im == nil || !m.retained[number] || !l.idle1(m, im) {
			return fmt.Errorf("loader: %s@%d: %w", model, number, ErrNeeded)
		}
		size, began := im.blob.size, now()
		l.discard(m, im, func(err error) {
			if err == nil {
				l.events.emit(Event{Kind: EventTiered, Model: model, Version: number, Drop: im.origin.Drop, Reason: where, Began: began, Bytes: size})
			}
			gone <- err
		})
		return nil
	})
	if err != nil {
		return err
	}
	select {
	case err := <-gone:
		return err
	case <-l.closed:
		return ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// idle1 reports whether nothing but its being retained keeps im in the store.
func (l *Loader) idle1(m *model, im *image) bool {
	if l.needed(m)[im] {
		return false
	}
	for _, other := range m.images {
		if other != im && m.retained[other.number()] {
			for below := range other.base.chain {
				if below == im {
					return false
				}
			}
		}
	}
	return true
}

// shed removes the oldest retained version that nothing needs, of m if it has one,
// to make room for a drop. The drops that had none are then tried again.
func (l *Loader) shed(m *model) {
	var from *model
	var oldest *image
	for _, other := range *l.models.Load() {
		for n := range other.retained {
			im := other.images[n]
			if im == nil || !l.idle1(other, im) {
				continue
			}
			if oldest == nil || other == m && from != m || (other == m) == (from == m) && im.origin.Dropped.Before(oldest.origin.Dropped) {
				from, oldest = other, im
			}
		}
	}
	if oldest == nil {
		return
	}
	size, began := oldest.blob.size, now()
	l.discard(from, oldest, func(err error) {
		ev := Event{Kind: EventShed, Model: from.name, Version: oldest.number(), Drop: oldest.origin.Drop, Began: began, Bytes: size}
		if err != nil {
			ev.Kind, ev.Reason = EventStore, err.Error()
		}
		l.events.emit(ev)
		l.freed()
	})
}
