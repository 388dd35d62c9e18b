package loader

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/loader/oci"
)

// drop is what is known about a drop.
type drop struct {
	cand   Candidate
	seen   time.Time   // when it was found
	raw    []byte      // its manifest's bytes
	layout *oci.Layout // nil for a plain drop
	links  []link      // what it brings in below itself
	mf     *delta.Manifest
	status dropStatus
	reason error // why it waits or is quarantined
	at     time.Time
	tries  int
	retry  time.Time // when it is looked at again; zero: when it changes
	fresh  bool      // it was reported again while it was being read
	stored *image    // it is in the store already, undecided from the last run
	base   *image    // what its delta is being brought in for
}

type dropStatus uint8

const (
	reading     dropStatus = iota // its manifest
	waiting                       // for its turn, or its base
	working                       // its version is being brought in, or is the canary
	done                          // its version was decided
	quarantined                   // it is not used
)

// Quarantine is a drop that is not used, or waits, and why.
type Quarantine struct {
	Drop    string
	Model   string // empty when the manifest could not be read
	Version uint64
	Reason  string
	Since   time.Time
	Retry   time.Time // zero: when the drop changes
}

// Quarantined lists the drops that are not used, by name.
func (l *Loader) Quarantined() []Quarantine { return l.list(quarantined) }

// Waiting lists the drops that wait for their turn or their base, by name.
func (l *Loader) Waiting() []Quarantine { return l.list(waiting) }

func (l *Loader) list(s dropStatus) (out []Quarantine) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, d := range l.drops {
		if d.status != s {
			continue
		}
		q := Quarantine{Drop: name, Since: d.at, Retry: d.retry}
		if d.reason != nil {
			q.Reason = d.reason.Error()
		}
		if d.mf != nil {
			q.Model, q.Version = d.mf.Model, d.mf.Version
		}
		out = append(out, q)
	}
	slices.SortFunc(out, func(a, b Quarantine) int { return cmp.Compare(a.Drop, b.Drop) })
	return out
}

// set changes a drop's status.
func (l *Loader) set(d *drop, s dropStatus, reason error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d.status, d.reason, d.at, d.retry = s, reason, now(), time.Time{}
}

// candidate takes note of a drop.
func (l *Loader) candidate(c Candidate) {
	l.mu.Lock()
	d := l.drops[c.Drop]
	if c.Gone {
		if d != nil && d.status != working && d.status != reading {
			delete(l.drops, c.Drop)
		}
		l.mu.Unlock()
		return
	}
	if d == nil {
		d = &drop{status: done}
		l.drops[c.Drop] = d
	}
	l.mu.Unlock()
	if d.status == working || d.status == reading {
		if c.Asked != nil {
			c.Asked(fmt.Errorf("%s: %w", c.Drop, ErrUndecided))
		}
		c.Asked = d.cand.Asked
		d.fresh, d.cand = true, c
		return
	}
	d.cand = c
	l.read(d)
}

// read reads a drop's manifest again.
func (l *Loader) read(d *drop) {
	before := d.status
	c := d.cand
	d.fresh = false
	l.set(d, reading, nil)
	seen := now()
	var raw []byte
	var mf *delta.Manifest
	var layout *oci.Layout
	var links []link
	l.submit(lane{readLane, c.Drop}, func() (err error) {
		if raw, mf, layout, err = readManifest(c); err == nil {
			links, err = readLinks(c)
		}
		return err
	}, func(err error) {
		same := err == nil && bytes.Equal(raw, d.raw)
		l.mu.Lock()
		d.raw, d.mf, d.layout, d.seen, d.links = raw, mf, layout, seen, links
		l.mu.Unlock()
		if !same {
			d.stored = nil
		}
		switch {
		case err != nil:
			l.quarantine(d, err)
		case same && before == done && c.Asked == nil && !errors.Is(l.admit(d), ErrRefused):
			l.set(d, done, nil)
			l.again(d)
		default:
			l.consider(d)
		}
	})
}

func (l *Loader) admit(d *drop) error {
	if err := l.isBlocked(d.mf.Model, d.mf.Version, d.mf.TargetRoot); err != nil {
		return err
	}
	return l.model(d.mf.Model).admit(d.mf, d.cand.Asked != nil, l.opts.LookupEnv, l.opts.Schemas)
}

// consider lets a drop whose manifest was read wait for its turn, unless it can
// be told already that it will not get one.
func (l *Loader) consider(d *drop) {
	m := l.model(d.mf.Model)
	if err := l.admit(d); err != nil {
		if errors.Is(err, ErrPresent) && l.known(m, d) {
			l.set(d, done, nil)
			d.answer(err)
			return
		}
		l.quarantine(d, err)
		return
	}
	l.set(d, waiting, nil)
	if m.busy == nil {
		l.next(m)
	}
	l.unask(m, d)
	l.again(d)
}

// known reports whether a drop is the one that its version was brought in from,
// seen again after a restart.
func (l *Loader) known(m *model, d *drop) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, v := range m.mapped {
		if v.info.Number == d.mf.Version {
			return v.info.Root == d.mf.TargetRoot && v.info.Drop == d.cand.Drop && v.image.origin.restored
		}
	}
	return false
}

// quarantine puts a drop aside. What may pass later is tried again, ever more
// rarely.
func (l *Loader) quarantine(d *drop, err error) {
	err = explain(err)
	l.set(d, quarantined, err)
	if transient(err) {
		l.mu.Lock()
		d.retry = d.at.Add(min(retryFirst<<min(d.tries, 16), retryMost))
		d.tries++
		l.mu.Unlock()
	}
	ev := Event{Kind: EventQuarantined, Drop: d.cand.Drop, Reason: err.Error(), Began: d.seen}
	if d.mf != nil {
		ev.Model, ev.Version = d.mf.Model, d.mf.Version
	}
	l.events.emit(ev)
	d.answer(err)
	l.again(d)
}

// again reads a drop once more that was reported while it was being worked on.
func (l *Loader) again(d *drop) {
	if d.fresh && d.status != working && d.status != reading {
		l.read(d)
	}
}

// next brings in the newest of a model's waiting drops whose base is here, unless
// one is not decided yet.
func (l *Loader) next(m *model) {
	if m.busy != nil || l.ctx.Err() != nil {
		return
	}
	var mine []*drop
	for _, d := range l.drops {
		if d.status == waiting && d.mf.Model == m.name {
			mine = append(mine, d)
		}
	}
	slices.SortFunc(mine, func(a, b *drop) int {
		return cmp.Or(cmp.Compare(b.mf.Version, a.mf.Version), cmp.Compare(a.cand.Drop, b.cand.Drop))
	})
	for _, d := range mine {
		if err := l.admit(d); err != nil {
			stored := d.stored != nil
			if stored { // from before the start: an experiment may wait for it, and others for that
				l.endArm(m, d.mf.Version, err.Error())
			}
			if l.quarantine(d, err); stored {
				l.next(m)
				return
			}
			continue
		}
		if err := m.held(d); err != nil {
			l.set(d, waiting, err)
			continue
		}
		if m.images[d.mf.Version] != nil && d.stored == nil {
			continue // its place in the store is taken until what is made of it is gone
		}
		if _, ok := m.start(d); !ok && d.stored == nil {
			l.wait(d)
			continue
		}
		l.bring(m, d)
		return
	}
}

// base returns the image that a drop's delta is made for, or nil.
func (m *model) base(mf *delta.Manifest) *image {
	if mf.Base == nil {
		return nil
	}
	if im := m.images[mf.Base.Version]; im != nil && im.manifest.TargetRoot == mf.Base.Root {
		return im
	}
	return nil
}

// wait says what a drop waits for.
func (l *Loader) wait(d *drop) {
	first := d.mf
	if len(d.links) > 0 {
		first = d.links[0].mf
	}
	err := fmt.Errorf("%w: %s@%d with root %s is not here and the drop has no full file: drop that version, or add one", errBaseMissing,
		d.mf.Model, first.Base.Version, first.Base.Root.Short())
	if d.reason != nil && d.reason.Error() == err.Error() {
		return
	}
	l.set(d, waiting, err)
	l.events.emit(Event{Kind: EventWaiting, Model: d.mf.Model, Version: d.mf.Version, Drop: d.cand.Drop, Reason: err.Error()})
}
