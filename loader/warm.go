package loader

import "fmt"

// warm brings a proved version into memory, prepares it and has it answer its manifest's warm-up
// requests; then it is shown to those that share it, and decided what it becomes.
func (l *Loader) warm(m *model, d *drop, v *Version) {
	began, requests := now(), int64(0)
	l.submit(lane{modelLane, m.name}, func() error {
		if err := v.region.Populate(); err != nil {
			return fmt.Errorf("%s: its file was cut or cannot be read: %w", v.image.blob.name, err)
		}
		if err := l.prepare(v); err != nil {
			return err
		}
		return v.with(func(w View) (err error) {
			requests, err = l.opts.Warm(w, v.prepared)
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

// fillStudies sets what is not set to what nobody cares about.
func (o *Options) fillStudies() {
	if o.Warm == nil {
		o.Warm = func(View, any) (int64, error) { return 0, nil }
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
