package loader

import (
	"context"
	"errors"
	"fmt"
)

// errWarmUp is a warm-up's that takes too long: nobody else's drops of the model are
// brought in meanwhile.
var errWarmUp = errors.New("warm-up takes too long")

// warm brings a proved version into memory, prepares it and has it answer its manifest's warm-up
// requests; then it is shown to those that share it, and decided what it becomes.
func (l *Loader) warm(m *model, d *drop, v *Version) {
	began, requests := now(), int64(0)
	l.submit(lane{modelLane, m.name}, func() error {
		if err := l.populate(v); err != nil {
			return err
		}
		if err := l.prepare(v); err != nil {
			return err
		}
		return v.with(func(w View) (err error) {
			requests, err = l.answer(w, v.prepared)
			return err
		})
	}, func(err error) {
		if err != nil {
			l.fail(m, d, v, err)
			return
		}
		ev := l.about(EventWarmed, v, began, 0)
		ev.Requests = requests
		l.events.emit(ev)
		l.show(m, d, v)
	})
}

// answer has a version answer its manifest's warm-up requests, all of them in
// Options.WarmFor, and only while the loader is open.
func (l *Loader) answer(w View, prepared any) (requests int64, err error) {
	ctx, cancel := context.WithTimeoutCause(l.ctx, l.opts.WarmFor, errWarmUp)
	defer cancel()
	requests, err = l.opts.Warm(ctx, w, prepared)
	switch {
	case err == nil || ctx.Err() == nil:
		return requests, err
	case l.ctx.Err() != nil:
		return requests, fmt.Errorf("warm-up: %w", ErrClosed)
	default:
		return requests, fmt.Errorf("%w: %d of %d requests were answered in %v, which is all the time there is: give it fewer, or ones that are answered faster",
			errWarmUp, requests, len(w.Info().Warmup), l.opts.WarmFor)
	}
}

// fillStudies sets what is not set to what nobody cares about.
func (o *Options) fillStudies() {
	if o.Warm == nil {
		o.Warm = func(context.Context, View, any) (int64, error) { return 0, nil }
	}
	if o.WarmFor == 0 {
		o.WarmFor = DefaultWarmFor
	}
	if o.Comparable == nil {
		o.Comparable = func(_, _ any) error { return nil }
	}
	if o.Compared == nil {
		o.Compared = func(*Info) bool { return false }
	}
	if o.Changed == nil {
		o.Changed = func(Study) {}
	}
}
