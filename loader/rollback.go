package loader

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Rollback takes a version away by hand and never tries it again: the canary, or
// the active version, for which the standby answers from then on. The refusal is
// stored first, so that the version cannot come back should the process end
// meanwhile; then the switch is made. A store that cannot be written, or a ctx
// that ends while it is, does not stop the switch: the error then says that the
// refusal is not stored yet, which is tried again until it works.
func (l *Loader) Rollback(ctx context.Context, model string, version uint64, reason string) error {
	m, err := l.find(model)
	if err != nil {
		return err
	}
	err = l.call(ctx, func() error { return l.storeRefusal(m, version, reason) })
	if errors.Is(err, ErrNotServing) || errors.Is(err, ErrNoStandby) || errors.Is(err, ErrClosed) {
		return err
	}
	bad, to, stored, err := l.takeBack(m, version, reason)
	if err != nil { // somebody was faster: what was stored may not be so
		return errors.Join(err, l.call(context.WithoutCancel(ctx), l.save))
	}
	l.opts.TakenBack(&bad.info, &to.info, reason, false)
	select {
	case err := <-stored:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// storeRefusal writes state.json as it will be once the version is taken back.
func (l *Loader) storeRefusal(m *model, version uint64, reason string) error {
	m.mu.Lock()
	bad, to, err := m.replacement(version)
	m.mu.Unlock()
	if err != nil {
		return err
	}
	r := l.record()
	mr := r.Models[m.name]
	mr.Refused[version] = Refusal{Root: bad.info.Root, Reason: reason, At: now()}
	mr.Floor = forget(mr.Refused, mr.Floor)
	switch version {
	case mr.Active:
		mr.Active, mr.Standby = to.info.Number, 0
	case mr.Standby: // of an experiment
		mr.Standby = 0
	}
	return l.write(r)
}

// TakeBack is Rollback for an event loop: it switches, returns the version that
// answers now, and stores the refusal behind the caller's back. It takes the
// model's mutex for a few stores and waits for nothing else.
func (l *Loader) TakeBack(model string, version uint64, reason string) (to uint64, err error) {
	m, err := l.find(model)
	if err != nil {
		return 0, err
	}
	_, after, _, err := l.takeBack(m, version, reason)
	if err != nil {
		return 0, err
	}
	return after.info.Number, nil
}

// takeBack switches, and stores in the background what came of it.
func (l *Loader) takeBack(m *model, version uint64, reason string) (bad, to *Version, stored <-chan error, err error) {
	bad, to, err = l.rollback(m, version, reason)
	if err != nil {
		return nil, nil, nil, err
	}
	done := make(chan error, 1)
	go func() { // what follows a rollback must follow, whoever waits for it
		done <- l.call(context.Background(), func() error {
			l.rolledBack(m, bad, reason)
			return l.save()
		})
	}()
	return bad, to, done, nil
}

// rollback publishes a rollback and tells of it, before the version can be freed.
// It returns the version that is gone and the one that answers now.
func (l *Loader) rollback(m *model, version uint64, reason string) (bad, to *Version, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	began := now()
	bad, to, err = m.rollback(version, reason, began, l.opts.Refuse)
	if err != nil {
		return nil, nil, err
	}
	ev := l.about(EventRolledBack, bad, began, 0)
	ev.From, ev.Version, ev.Reason = bad.info.Number, to.info.Number, reason
	l.events.emit(ev)
	return bad, to, nil
}

// rolledBack does what is left to do after a rollback was published.
func (l *Loader) rolledBack(m *model, bad *Version, reason string) {
	l.endArm(m, bad.info.Number, reason)
	l.changed(m)
	delete(m.retained, bad.info.Number)
	l.decided(m, bad, fmt.Errorf("%s was rolled back (%s): give its successor a higher number: %w", &bad.info, reason, ErrRefused))
}

// maxRefused is how many refusals of a model are kept with their reasons. The
// numbers of older ones are covered by the floor: versions only go up.
const maxRefused = 64

// forget drops the oldest refusals beyond maxRefused and returns the floor that
// keeps their versions out.
func forget(refused map[uint64]Refusal, floor uint64) uint64 {
	for len(refused) > maxRefused {
		oldest := slices.Min(slices.Collect(maps.Keys(refused)))
		delete(refused, oldest)
		floor = max(floor, oldest)
	}
	return floor
}
