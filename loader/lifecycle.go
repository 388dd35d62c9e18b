package loader

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/quadnine/quadnine/internal/mmap"
	"github.com/quadnine/quadnine/loader/delta"
)

// bring brings a drop's version in: read, mapped, proved, offered. One version of
// a model is undecided at a time.
func (l *Loader) bring(m *model, d *drop) {
	m.busy, d.base = d, m.base(d.mf)
	l.set(d, working, nil)
	in := &ingest{
		store: l.store, cand: d.cand, mf: d.mf, raw: d.raw, mode: l.opts.Mode, keys: l.opts.Keys, hash: l.hashing(),
		base: d.base, from: origin{Drop: d.cand.Drop, Dropped: d.seen},
	}
	im := d.stored
	d.stored = nil
	l.submit(func() (err error) {
		if im == nil {
			im, err = in.run(l.ctx)
		}
		return err
	}, func(err error) {
		var v *Version
		if err == nil {
			m.images[im.number()] = im
			v, err = l.mapVersion(m, im)
		}
		if err != nil {
			l.fail(m, d, v, err)
			return
		}
		l.events.emit(l.about(EventLoaded, v, v.info.Dropped, v.info.Ingested))
		l.prove(m, d, v)
	})
}

// about is an event of a version.
func (l *Loader) about(k Kind, v *Version, began time.Time, bytes int64) Event {
	return Event{Kind: k, Model: v.info.Model, Version: v.info.Number, Drop: v.info.Drop, Began: began, Bytes: bytes, Copied: v.info.Copied}
}

// mapVersion maps an image and makes it a pending version.
func (l *Loader) mapVersion(m *model, im *image) (*Version, error) {
	v := &Version{image: im, idle: l.idle, done: make(chan struct{}), entered: now()}
	v.refs.Store(1)
	canary := delta.DefaultCanary
	if c := im.manifest.Canary; c != nil {
		canary = *c
	}
	v.layout = plan(im.segments, im.size, im.parts)
	if have, need := mmap.Mappings(), v.layout.mappings(); have+need > l.opts.Mappings {
		return nil, fmt.Errorf("%s takes %d mappings, %d of %d are in use: %w", im, need, have, l.opts.Mappings, ErrTooManyMaps)
	}
	r, err := mmap.Reserve(v.layout.size)
	if err != nil {
		return nil, err
	}
	if err := v.layout.mapInto(r, im.segments); err != nil {
		return nil, errors.Join(err, r.Unmap())
	}
	v.region = r
	v.info = Info{
		Model: m.name, Number: im.number(), Root: im.manifest.TargetRoot, Schema: im.manifest.SchemaVersion,
		Eval: im.manifest.Eval, Canary: canary, Drop: im.origin.Drop, Dropped: im.origin.Dropped, LoadedAt: now(),
		Size: im.size, Ingested: im.origin.Ingested, Copied: r.Copied(), Pieces: r.Pieces(),
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mapped = append(m.mapped, v)
	return v, m.enter(v, Pending)
}

// prove proves the whole version, brings it into memory and prepares it; then it
// is decided what it becomes.
func (l *Loader) prove(m *model, d *drop, v *Version) {
	began, read := now(), int64(0)
	l.submit(func() (err error) {
		read, err = l.proveMapped(v)
		return err
	}, func(err error) {
		if err != nil {
			l.fail(m, d, v, err)
			return
		}
		l.events.emit(l.about(EventProved, v, began, read))
		l.offer(m, v)
	})
}

// proveMapped is prove's part for the worker.
func (l *Loader) proveMapped(v *Version) (read int64, err error) {
	im := v.image
	var base, own delta.Leaves
	if im.base != nil {
		base, err = l.store.leaves(im.base)
	} else {
		own, err = l.store.leaves(im)
	}
	if err != nil {
		return 0, err
	}
	leaves, read, err := im.prove(l.ctx, v, base, own, l.hashing())
	if err != nil {
		return read, err
	}
	if im.base != nil {
		if err := l.store.write(filepath.Join(im.dir, leavesFile), leaves); err != nil {
			return read, err
		}
	}
	if err := im.checkDigests(l.ctx, l.hashing()); err != nil {
		return read, err
	}
	if err := v.region.Populate(); err != nil {
		return read, fmt.Errorf("%s: its file was cut or cannot be read: %w", im.blob.name, err)
	}
	return read, l.prepare(v)
}

// prepare runs Options.Prepare on a version that nobody can see yet.
func (l *Loader) prepare(v *Version) error {
	return v.with(func(w View) (err error) {
		v.prepared, err = l.opts.Prepare(w)
		if err != nil {
			err = fmt.Errorf("prepare %s: %w", &v.info, err)
		}
		return err
	})
}

// fail gives up on a drop's version. Nobody ever saw it: it is freed at once, and
// what the store has of it removed before another drop can bring the number in.
func (l *Loader) fail(m *model, d *drop, v *Version, err error) {
	if v != nil {
		m.mu.Lock()
		err = errors.Join(err, m.enter(v, Failed))
		m.mu.Unlock()
		v.release()
		l.reclaim(m, now())
	}
	m.busy, d.base = nil, nil
	l.collect(m)
	l.quarantine(d, err)
	l.next(m)
}

// offer makes a proved version the canary, or the active one when there is
// nothing to compare it with or no canary is wanted.
func (l *Loader) offer(m *model, v *Version) {
	m.mu.Lock()
	percent, first := v.info.Canary.Weight, m.active == nil
	if m.override != nil {
		percent = *m.override
	}
	m.mu.Unlock()
	var err error
	switch {
	case first:
		err = l.promote(m, v, "first version")
	case percent == 0:
		err = l.promote(m, v, "canary weight 0")
	default:
		if err = m.offer(v); err == nil {
			l.events.emit(l.about(EventCanary, v, v.info.Dropped, v.info.Ingested))
		}
	}
	l.defect(err)
}

// defect reports what cannot happen, and what was reported already.
func (l *Loader) defect(err error) {
	if err != nil && !l.unsaved {
		l.events.emit(Event{Kind: EventStore, Reason: err.Error()})
	}
}

// promote makes v the active version.
func (l *Loader) promote(m *model, v *Version, reason string) error {
	old, err := m.activate(v)
	if err != nil {
		return err
	}
	ev := l.about(EventActive, v, v.info.Dropped, v.info.Ingested)
	ev.Reason = reason
	if old != nil {
		ev.From = old.info.Number
	}
	l.events.emit(ev)
	err = l.save()
	l.settle(v.image)
	l.decided(m, v, nil)
	return err
}

// settle brings a version to disk for good, behind everything that is waited for.
func (l *Loader) settle(im *image) {
	began := now()
	l.submit(func() error { return l.store.sync(im) }, func(err error) {
		ev := Event{Kind: EventDurable, Model: im.manifest.Model, Version: im.number(), Drop: im.origin.Drop, Began: began, Bytes: im.origin.Ingested}
		if err != nil { // rolled back and removed meanwhile, or the disk is full: it is hashed again at start
			ev.Kind, ev.Reason = EventStore, explain(err).Error()
		}
		l.events.emit(ev)
	})
}

// decided ends the time in which v's drop keeps others waiting. refused says why
// it will not be tried again, if so.
func (l *Loader) decided(m *model, v *Version, refused error) {
	for _, d := range l.drops {
		if d.mf == nil || d.mf.Model != m.name || d.mf.Version != v.info.Number || d.cand.Drop != v.info.Drop {
			continue
		}
		if m.busy == d {
			m.busy, d.base = nil, nil
		}
		if d.status == reading {
			break
		}
		if refused != nil {
			l.set(d, quarantined, refused)
		} else {
			l.set(d, done, nil)
		}
		l.again(d)
		break
	}
	l.next(m)
}

// collect removes the versions that nothing is made of any more.
func (l *Loader) collect(m *model) {
	keep := make(map[*image]bool)
	m.mu.Lock()
	for _, v := range m.mapped {
		for im := range v.image.chain {
			keep[im] = true
		}
	}
	m.mu.Unlock()
	if m.busy != nil {
		for im := range m.busy.base.chain {
			keep[im] = true
		}
	}
	for _, d := range l.drops {
		if d.stored != nil {
			for im := range d.stored.chain {
				keep[im] = true
			}
		}
	}
	for n, im := range m.images {
		if keep[im] {
			continue
		}
		im.blob.f.Close()
		delete(m.images, n)
		l.submit(func() error { return l.store.remove(m.name, n) }, func(err error) {
			if err != nil {
				l.events.emit(Event{Kind: EventStore, Model: m.name, Version: n, Reason: err.Error()})
			}
		})
	}
}
