package loader

import (
	"slices"
	"time"

	"github.com/quadnine/quadnine/internal/mmap"
)

// sweep does what is due: frees what is not leased any more, revokes what is
// leased for too long, asks the judge, tries again what failed.
func (l *Loader) sweep() {
	at := now()
	for _, m := range *l.models.Load() {
		l.reclaim(m, at)
		l.judge(m, at)
		l.compared(m, at)
	}
	l.graves = slices.DeleteFunc(l.graves, func(v *Version) bool { return v.refs.Load() == 0 && l.unmap(v) })
	for _, d := range l.drops {
		if d.status == quarantined && !d.retry.IsZero() && !at.Before(d.retry) {
			l.read(d)
		}
	}
	if l.unsaved && !at.Before(l.nextSave) {
		_ = l.save() // an event tells, and it is tried again
	}
}

// unmap gives a version's addresses back.
func (l *Loader) unmap(v *Version) bool {
	if err := v.region.Unmap(); err != nil {
		l.events.emit(Event{Kind: EventStore, Model: v.info.Model, Version: v.info.Number, Reason: err.Error()})
		return false
	}
	return true
}

// revoke takes a version's memory back from under its readers.
func (l *Loader) revoke(v *Version) {
	if v.revoked.Swap(true) {
		return
	}
	close(v.done)
	if err := v.region.Revoke(); err != nil {
		l.events.emit(Event{Kind: EventStore, Model: v.info.Model, Version: v.info.Number, Reason: err.Error()})
	}
}

// reclaim frees the unloading versions of m that can be freed.
func (l *Loader) reclaim(m *model, at time.Time) {
	m.mu.Lock()
	var gone []Event
	freed := false
	m.mapped = slices.DeleteFunc(m.mapped, func(v *Version) bool {
		if v.state != Unloading && v.state != Failed {
			return false
		}
		l.withdraw(v)
		ev := l.about(EventUnloadSuccess, v, v.entered, v.info.Size)
		failed := v.state == Failed
		switch n := v.refs.Load(); {
		case v.revoked.Load(): // other processes held it longer
		case n == 0:
			if !l.unmap(v) {
				return false
			}
		case at.Sub(v.entered) >= l.opts.Reclaim:
			l.revoke(v)
			l.graves = append(l.graves, v)
			ev.Kind, ev.Leases = EventUnloadTimeout, n
			if !failed && v.held() {
				gone = append(gone, ev)
			}
		default:
			return false
		}
		if !failed && v.held() {
			return false
		}
		v.state, v.entered = Freed, at
		freed = true
		if !failed {
			gone = append(gone, ev)
		}
		return true
	})
	m.mu.Unlock()
	for _, ev := range gone {
		l.events.emit(ev)
	}
	if freed {
		l.collect(m)
		l.next(m)
	}
	if len(gone) > 0 {
		l.submit(lane{modelLane, m.name}, func() error { return nil }, func(error) { l.freed() }) // behind the removals
	}
}

// judge asks what becomes of m's canary.
func (l *Loader) judge(m *model, at time.Time) {
	m.mu.Lock()
	c, a := m.canary, m.active
	due := c != nil && m.experiment == nil && at.Sub(c.judged) >= l.opts.JudgeEvery
	if due {
		c.judged = at
	}
	var since time.Duration
	if c != nil {
		since = at.Sub(c.entered)
	}
	m.mu.Unlock()
	if !due {
		return
	}
	v, reason := Hold, "no judge"
	switch {
	case l.opts.Judge != nil:
		v, reason = l.opts.Judge.Verdict(&c.info, &a.info)
	case since >= c.info.Canary.PromoteAfter:
		v = Promote
	}
	switch v {
	case Promote:
		l.defect(l.promote(m, c, reason))
	case Rollback:
		if bad, to, err := l.rollback(m, c.info.Number, reason); err == nil { // else somebody was faster
			l.opts.TakenBack(&bad.info, &to.info, reason, true)
			l.rolledBack(m, bad, reason)
			l.defect(l.save())
		}
	}
}

// schedule sets the timer to when sweep has something to do.
func (l *Loader) schedule() {
	next := time.Hour
	at := now()
	by := func(t time.Time) { next = min(next, max(t.Sub(at), 0)) }
	for _, m := range *l.models.Load() {
		m.mu.Lock()
		for _, v := range m.mapped {
			if (v.state == Unloading || v.state == Failed) && v.refs.Load() > 0 && !v.revoked.Load() {
				by(v.entered.Add(l.opts.Reclaim))
			}
		}
		if v := m.counted(); v != nil {
			by(v.judged.Add(l.opts.JudgeEvery))
		}
		if m.canary != nil && m.experiment == nil {
			by(m.canary.judged.Add(l.opts.JudgeEvery))
		}
		m.mu.Unlock()
	}
	for _, d := range l.drops {
		if d.status == quarantined && !d.retry.IsZero() {
			by(d.retry)
		}
	}
	if l.unsaved {
		by(l.nextSave)
	}
	l.timer.Reset(next)
}

// Mappings returns how many kernel mappings all versions take, about, and how
// many they may.
func (l *Loader) Mappings() (used, limit int64) { return mmap.Mappings(), l.opts.Mappings }
