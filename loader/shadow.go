package loader

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Errors that callers tell apart.
var (
	ErrNotShadow  = errors.New("version not in shadow")
	ErrShadow     = errors.New("cannot be computed in shadow")
	ErrExperiment = errors.New("an experiment holds the model's versions where they are")
)

// shadowing is what a model computes in shadow. It is part of model and guarded
// by its mu.
type shadowing struct {
	shadow  *Version      // computed beside the active one, and never served; nil: none
	percent float64       // of the queries
	byHand  *shadowRecord // what Shadow said last, over what the manifest says
}

// shadowRecord is shadowing by hand as it stands in state.json.
type shadowRecord struct {
	Version uint64  `json:"version"`
	Percent float64 `json:"percent"` // 0: the version was taken out of shadow
}

// Shadow has a version computed beside the active one for a percentage of the
// queries, from 0 to 100, and never served: the canary, which then serves nobody,
// the standby, or one that is in shadow already. With 0 it ends that: a version
// that was not tried yet becomes the canary, as its manifest says. It is kept over
// a restart.
func (l *Loader) Shadow(ctx context.Context, model string, version uint64, percent float64) error {
	m, err := l.find(model)
	if err != nil {
		return err
	}
	if !(percent >= 0 && percent <= 100) { // NaN is not
		return fmt.Errorf("loader: %s: shadow %v: want a percentage from 0 to 100", model, percent)
	}
	return l.call(ctx, func() error {
		if percent == 0 {
			return l.endShadow(m, version, "by hand")
		}
		return l.beginShadow(m, version, percent)
	})
}

// beginShadow puts the canary or the standby in shadow, or changes the percentage.
func (l *Loader) beginShadow(m *model, version uint64, percent float64) error {
	m.mu.Lock()
	v, err := m.toShadow(version, l.opts.Comparable)
	if err == nil && v.state == Canary {
		m.canary = nil
		err = m.enter(v, Shadow)
	}
	if err != nil {
		m.mu.Unlock()
		return err
	}
	m.shadow, m.percent, m.byHand = v, percent, &shadowRecord{version, percent}
	m.publish()
	m.mu.Unlock()
	return l.tellShadow(m, v)
}

// toShadow finds the version that can be put in shadow. m.mu is held.
func (m *model) toShadow(version uint64, allowed func(shadow, active any) error) (v *Version, err error) {
	for _, c := range []*Version{m.shadow, m.canary, m.standby} {
		if c != nil && c.info.Number == version {
			v = c
			break
		}
	}
	switch {
	case m.experiment != nil:
		return nil, fmt.Errorf("loader: %s: %s: %w: stop it first", m.name, m.experiment.Name, ErrExperiment)
	case v == nil || m.active == nil:
		return nil, fmt.Errorf("loader: %s@%d: %w", m.name, version, ErrNotServing)
	case m.shadow != nil && m.shadow != v && m.shadow.state == Shadow:
		return nil, fmt.Errorf("loader: %s: %w: %s is in shadow already, and one version is at a time", m.name, ErrShadow, &m.shadow.info)
	}
	if err := allowed(v.prepared, m.active.prepared); err != nil {
		return nil, fmt.Errorf("loader: %s: %w: %w", &v.info, ErrShadow, err)
	}
	return v, nil
}

// tellShadow says that a version is in shadow now.
func (l *Loader) tellShadow(m *model, v *Version) error {
	l.events.emit(l.about(EventShadow, v, v.info.Dropped, v.info.Ingested))
	l.changed(m)
	return l.save()
}

// endShadow takes a version out of shadow: the standby stays what it is, another
// is offered to the callers.
func (l *Loader) endShadow(m *model, version uint64, reason string) error {
	m.mu.Lock()
	v := m.shadow
	if v == nil || v.info.Number != version {
		m.mu.Unlock()
		return fmt.Errorf("loader: %s@%d: %w", m.name, version, ErrNotShadow)
	}
	m.shadow, m.percent, m.byHand = nil, 0, &shadowRecord{Version: version}
	m.publish()
	untried := v.state == Shadow
	m.mu.Unlock()
	ev := l.about(EventShadowEnded, v, time.Time{}, 0)
	ev.Reason = reason
	l.events.emit(ev)
	if untried {
		l.offer(m, v)
	}
	l.changed(m)
	return l.save()
}

// place decides what a proved version becomes: in shadow where its manifest or
// somebody says so and there is a version to compare it with, or offered.
func (l *Loader) place(m *model, d *drop, v *Version) {
	if err := l.isBlocked(m.name, v.info.Number, v.info.Root); err != nil { // while it was brought in
		l.fail(m, d, v, err)
		return
	}
	m.mu.Lock()
	percent := 0.0
	if s := v.info.Shadow; s != nil {
		percent = s.Percent
	}
	if h := m.byHand; h != nil && h.Version == v.info.Number {
		percent = h.Percent
	}
	if m.active == nil || m.experiment != nil || d.cand.Asked != nil {
		percent = 0
	}
	if percent == 0 {
		m.mu.Unlock()
		l.offer(m, v)
		l.changed(m)
		return
	}
	err := l.opts.Comparable(v.prepared, m.active.prepared)
	if err != nil {
		m.mu.Unlock()
		l.fail(m, d, v, fmt.Errorf("shadow: %s: %w: %w", &v.info, ErrShadow, err))
		return
	}
	if err = m.enter(v, Shadow); err == nil {
		m.shadow, m.percent = v, percent
		m.publish()
	}
	m.mu.Unlock()
	if err == nil {
		err = l.tellShadow(m, v)
	}
	l.defect(err)
}

// compared offers the version in shadow to the callers once it was compared as
// often as its manifest says. What was put in shadow by hand is taken out by hand.
func (l *Loader) compared(m *model, at time.Time) {
	m.mu.Lock()
	v := m.counted()
	due := v != nil && at.Sub(v.judged) >= l.opts.JudgeEvery
	if due {
		v.judged = at
	}
	m.mu.Unlock()
	if due && l.opts.Compared(&v.info) {
		l.defect(l.endShadow(m, v.info.Number, fmt.Sprintf("%d queries were compared", v.info.Shadow.Queries)))
	}
}

// counted returns the version whose shadow ends by itself, or nil. m.mu is held.
func (m *model) counted() *Version {
	v := m.shadow
	if v == nil || v.state != Shadow || v.info.Shadow == nil || v.info.Shadow.Queries == 0 {
		return nil
	}
	if m.byHand != nil && m.byHand.Version == v.info.Number {
		return nil
	}
	return v
}

// AcquireShadow takes a lease on a version, if it is the one in shadow. It takes
// no lock.
func (l *Loader) AcquireShadow(model string, number uint64) (Lease, error) {
	m, err := l.find(model)
	if err != nil {
		return Lease{}, err
	}
	if v := m.current.Load().shadow; v != nil && v.info.Number == number && v.acquire() {
		return Lease{v, Shadow}, nil
	}
	return Lease{}, fmt.Errorf("loader: %s@%d: %w", model, number, ErrNotShadow)
}
