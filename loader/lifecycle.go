package loader

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/quadnine/quadnine/internal/mmap"
	"github.com/quadnine/quadnine/loader/delta"
)

// bring brings a drop's version in: read, mapped, proved, offered. One version of
// a model is undecided at a time.
func (l *Loader) bring(m *model, d *drop) {
	m.busy = d
	d.base, _ = m.start(d)
	l.set(d, working, nil)
	if err := m.checkLinks(d); err != nil && d.stored == nil {
		l.fail(m, d, nil, err)
		return
	}
	in := &ingest{
		store: l.store, cand: d.cand, mf: d.mf, raw: d.raw, layout: d.layout, mode: l.opts.Mode, keys: l.opts.Keys, trust: l.opts.Trust, hash: l.hashing(), patches: l.patches,
		base: d.base, from: origin{Drop: d.cand.Drop, Dropped: d.seen},
	}
	if d.cand.Copied {
		in.mode = Copy
	}
	im := d.stored // which keeps it in the store until it is mapped
	var bases []*image
	var v *Version
	brought := false // into the store, or it was there
	l.submit(lane{modelLane, m.name}, func() (err error) {
		if im == nil {
			if bases, err = in.below(l.ctx, d.links); err == nil {
				im, err = in.run(l.ctx)
			}
		}
		if brought = err == nil; brought {
			v, err = l.mapImage(m.name, im)
		}
		return err
	}, func(err error) {
		for _, b := range bases {
			m.images[b.number()] = b
		}
		if brought {
			m.images[im.number()] = im
		}
		if v != nil {
			err = errors.Join(err, m.pend(v))
		}
		d.stored = nil
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
	return Event{Kind: k, Model: v.info.Model, Version: v.info.Number, Drop: v.info.Drop, Began: began, Bytes: bytes, Copied: v.info.Copied, Copies: v.info.Copies}
}

// mapVersion maps an image and makes it a pending version.
func (l *Loader) mapVersion(m *model, im *image) (*Version, error) {
	v, err := l.mapImage(m.name, im)
	if err != nil {
		return nil, err
	}
	return v, m.pend(v)
}

// mapImage maps an image, which copies its rows and short extents: on a worker,
// as that may take milliseconds. One is mapped at a time, so that each sees what
// the others take.
func (l *Loader) mapImage(model string, im *image) (*Version, error) {
	l.mapping.Lock()
	defer l.mapping.Unlock()
	v := &Version{image: im, idle: l.idle, done: make(chan struct{}), entered: now()}
	v.refs.Store(1)
	l.share(v)
	canary := delta.DefaultCanary
	if c := im.manifest.Canary; c != nil {
		canary = *c
	}
	v.layout = plan(im.segments, im.size, im.parts)
	if have, need := mmap.Mappings(), v.layout.mappings(); have+need > l.opts.Mappings {
		return nil, fmt.Errorf("%s takes %d mappings, %d of %d are in use: %w", im, need, have, l.opts.Mappings, ErrTooManyMaps)
	}
	if n, most := v.layout.copied, l.opts.CopyLimit; most >= 0 && n > most {
		return nil, fmt.Errorf("%s takes %d bytes of private memory in %d pieces that are too short to be mapped, at most %d are allowed: "+
			"ship it whole, with tensors that begin on pages, or allow more: %w", im, n, v.layout.copies(), most, ErrCopies)
	}
	if err := l.admitMemory(model, im, v.layout.copied); err != nil {
		return nil, err
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
		Model: model, Number: im.number(), Root: im.manifest.TargetRoot, Schema: im.manifest.SchemaVersion,
		Eval: im.manifest.Eval, Canary: canary, Shadow: im.manifest.Shadow, Warmup: im.manifest.Warmup, Drop: im.origin.Drop, Dropped: im.origin.Dropped, LoadedAt: now(),
		Size: im.size, Ingested: im.origin.Ingested, Copied: r.Copied(), Copies: v.layout.copies(), Pieces: r.Pieces(),
	}
	return v, nil
}

// pend makes a mapped version a pending one.
func (m *model) pend(v *Version) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mapped = append(m.mapped, v)
	return m.enter(v, Pending)
}

// prove proves the whole version; then it is brought into memory and warmed up.
func (l *Loader) prove(m *model, d *drop, v *Version) {
	began, read := now(), int64(0)
	l.submit(lane{modelLane, m.name}, func() (err error) {
		read, err = l.proveMapped(v)
		return err
	}, func(err error) {
		if err != nil {
			l.fail(m, d, v, err)
			return
		}
		l.events.emit(l.about(EventProved, v, began, read))
		l.warm(m, d, v)
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
		l.store.measure(im.manifest.Model, im.number())
	}
	return read, im.checkDigests(l.ctx, l.hashing())
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
	l.endArm(m, d.mf.Version, err.Error())
	l.collect(m)
	l.quarantine(d, err)
	if errors.Is(err, ErrQuota) || errors.Is(err, ErrDiskFull) {
		l.shed(m)
	}
	l.next(m)
}

// offer makes a proved version the canary, or the active one when there is
// nothing to compare it with or no canary is wanted.
func (l *Loader) offer(m *model, v *Version) {
	m.mu.Lock()
	percent, first := v.info.Canary.Weight, m.active == nil
	asked := m.busy != nil && m.busy.cand.Asked != nil
	if m.override != nil {
		percent = *m.override
	}
	m.mu.Unlock()
	var err error
	switch {
	case first:
		err = l.promote(m, v, "first version")
	case asked:
		if err := l.promote(m, v, "asked for"); err != nil && v.state == Pending {
			l.fail(m, m.busy, v, err)
		}
		return
	case m.arms(v):
		if err = m.offer(v); err == nil {
			l.events.emit(l.about(EventCanary, v, v.info.Dropped, v.info.Ingested))
		}
	case v.image.base == nil && m.same(v):
		err = l.promote(m, v, "the bytes of the active version as a new base")
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
	if err := m.running(); err != nil {
		return err
	}
	old, err := m.activate(v)
	if err != nil {
		return err
	}
	defer l.changed(m)
	ev := l.about(EventActive, v, v.info.Dropped, v.info.Ingested)
	ev.Reason = reason
	if old != nil {
		ev.From = old.info.Number
		if v.info.Number < old.info.Number {
			m.mu.Lock()
			m.floor = max(m.floor, old.info.Number)
			m.mu.Unlock()
		}
	}
	if l.opts.Retain {
		m.retained[v.info.Number] = true
	}
	l.events.emit(ev)
	err = errors.Join(l.leaveBlocked(m, old), l.save())
	l.settle(m, v.image)
	l.decided(m, v, nil)
	return err
}

// settle brings a version to disk for good, behind everything that is waited for.
func (l *Loader) settle(m *model, im *image) {
	began := now()
	l.submit(lane{settleLane, m.name}, func() error { return l.store.sync(im) }, func(err error) {
		ev := Event{Kind: EventDurable, Model: m.name, Version: im.number(), Drop: im.origin.Drop, Began: began, Bytes: im.origin.Ingested}
		if err != nil { // the disk is full: it is hashed again at start
			ev.Kind, ev.Reason = EventStore, explain(err).Error()
		}
		if err == nil || m.images[im.number()] == im { // else it was rolled back and removed meanwhile
			l.events.emit(ev)
		}
		l.compact(m)
	})
}

// decided ends the time in which v's drop keeps others waiting. refused says why
// it will not be tried again, if so.
func (l *Loader) decided(m *model, v *Version, refused error) {
	for _, d := range l.drops {
		if d.mf == nil || d.mf.Model != m.name || d.mf.Version != v.info.Number || d.cand.Drop != v.info.Drop && d != m.busy {
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
		d.answer(refused)
		l.again(d)
		break
	}
	l.next(m)
}

// collect removes the versions that nothing is made of any more.
func (l *Loader) collect(m *model) {
	keep := l.needed(m)
	for n := range m.retained {
		for im := range m.images[n].chain {
			keep[im] = true
		}
	}
	m.old = slices.DeleteFunc(m.old, func(im *image) bool {
		if !keep[im] {
			l.strip(m, im)
		}
		return !keep[im]
	})
	for _, im := range m.images {
		if keep[im] {
			continue
		}
		l.discard(m, im, func(err error) {
			if err != nil {
				l.events.emit(Event{Kind: EventStore, Model: m.name, Version: im.number(), Reason: err.Error()})
			}
		})
	}
}

// needed returns the images that something is made of, or will be.
func (l *Loader) needed(m *model) map[*image]bool {
	keep := make(map[*image]bool)
	need := func(im *image) {
		for im := range im.chain {
			for stored := range m.images[im.number()].chain { // another one once the chain was compacted
				keep[stored] = true
			}
			keep[im] = true
		}
	}
	m.mu.Lock()
	for _, v := range m.mapped {
		need(v.image)
	}
	m.mu.Unlock()
	need(m.flattening)
	if s := l.saved; l.unsaved && s != nil && s.Models[m.name] != nil { // a start would look for these
		need(m.images[s.Models[m.name].Active])
		need(m.images[s.Models[m.name].Standby])
	}
	if m.busy != nil {
		need(m.busy.base)
	}
	for _, d := range l.drops {
		if d.stored != nil {
			need(d.stored)
		}
	}
	return keep
}

// discard removes an image that nothing needs from memory and store.
func (l *Loader) discard(m *model, im *image, done func(error)) {
	n := im.number()
	im.blob.f.Close()
	delete(m.images, n)
	delete(m.retained, n)
	l.submit(lane{modelLane, m.name}, func() error { return l.store.remove(m.name, n) }, done)
}
