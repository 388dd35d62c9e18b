package loader

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// recover brings back what the last run left. It runs before the loader's
// goroutine does.
func (l *Loader) recover(ctx context.Context) error {
	r, err := l.store.load()
	if err != nil {
		return err
	}
	names, err := l.store.models()
	if err != nil {
		return fmt.Errorf("loader: store: %w", err)
	}
	l.saved = r
	for _, b := range r.Blocked {
		l.block(b)
	}
	for name, mr := range r.Models {
		m := l.model(name)
		maps.Copy(m.refused, mr.Refused)
		m.floor = mr.Floor
		m.byHand, m.experiment = mr.Shadow, mr.Experiment
		l.restore(ctx, m, mr)
	}
	for _, name := range names {
		if err := l.undecided(ctx, l.model(name)); err != nil {
			return fmt.Errorf("loader: store: %w", err)
		}
	}
	for _, m := range *l.models.Load() {
		l.restudy(m)
		for n := range m.images {
			l.store.measure(m.name, n)
		}
	}
	for _, m := range *l.models.Load() {
		l.tellBlocked(m)
	}
	l.tellMemory()
	_ = l.save() // an event tells, and it is tried again: a full disk must not keep what is here from serving
	return nil
}

// restore maps the active and the standby version again. What cannot be brought
// back is told, and the other one answers.
func (l *Loader) restore(ctx context.Context, m *model, mr *modelRecord) {
	var found []*Version
	for _, n := range []uint64{mr.Active, mr.Standby} {
		if n == 0 {
			continue
		}
		v, err := l.revive(ctx, m, n)
		if err != nil {
			l.events.emit(Event{Kind: EventLost, Model: m.name, Version: n, Reason: err.Error()})
			continue
		}
		found = append(found, v)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, v := range found {
		if i == 0 {
			m.active, v.state = v, Active
		} else {
			m.standby, v.state = v, Standby
		}
	}
	m.publish()
}

func (l *Loader) revive(ctx context.Context, m *model, n uint64) (*Version, error) {
	im, err := l.store.reopen(ctx, m.images, m.name, n, l.hashing())
	if err != nil {
		return nil, err
	}
	im.origin.restored = true
	v, err := l.mapVersion(m, im)
	if err == nil {
		err = l.prepare(v)
	}
	if err == nil {
		l.submit(lane{settleLane, m.name}, func() error { return l.repopulate(v) }, func(error) {})
		if !im.durable.Load() {
			l.settle(m, im)
		}
		return v, nil
	}
	if v != nil {
		m.mu.Lock()
		m.mapped = m.mapped[:len(m.mapped)-1]
		m.mu.Unlock()
		err = errors.Join(err, v.region.Unmap())
	}
	return nil, err
}

// undecided looks at the stored versions that nothing refers to: those that were
// not decided when the last run ended go on from where they were, the rest is
// removed.
func (l *Loader) undecided(ctx context.Context, m *model) error {
	numbers, err := l.store.numbers(m.name)
	if err != nil {
		return err
	}
	past := m.floor // what came up to it was decided
	if m.active != nil {
		past = max(past, m.active.info.Number)
	}
	bases, numbers := l.store.split(m.name, numbers)
	for _, n := range slices.Concat(numbers, bases) { // by then it is known which bases something is made of
		if m.images[n] != nil {
			continue
		}
		_, refused := m.refused[n]
		if (n > past || l.opts.Retain) && !refused && !slices.Contains(bases, n) {
			im, err := l.store.reopen(ctx, m.images, m.name, n, l.hashing())
			if err == nil && n <= past {
				m.retained[n] = true
				continue
			}
			if err == nil {
				if err = l.requeue(im); err == nil {
					continue
				}
				im.blob.f.Close()
				delete(m.images, n)
			}
			l.events.emit(Event{Kind: EventLost, Model: m.name, Version: n, Reason: err.Error()})
		}
		if err := l.store.remove(m.name, n); err != nil {
			return err
		}
	}
	return nil
}

// requeue makes a stored version a drop that waits for its turn. Nobody was
// served by it yet, so the keys that are configured now count, not those of the
// last run.
func (l *Loader) requeue(im *image) error {
	raw, err := os.ReadFile(filepath.Join(im.dir, manifestFile))
	if err == nil {
		err = l.checkStored(im, raw)
	}
	if err != nil {
		return err
	}
	name := im.origin.Drop
	l.drops[name] = &drop{
		cand: Candidate{Drop: name, Open: func() (*os.Root, error) { return nil, fs.ErrNotExist }}, // until it is found again
		seen: im.origin.Dropped, raw: raw, mf: im.manifest, status: waiting, at: now(), stored: im,
	}
	return nil
}
