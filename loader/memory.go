package loader

import "fmt"

// need is what versions take of a machine's memory.
type need struct {
	private int64 // bytes: what is copied, which the kernel cannot take back
	files   int64 // bytes of the files that are mapped, each once: bases and deltas
	limit   int64 // bytes that the control group allows
	fixed   int64 // bytes of it that are taken and cannot be taken back
}

// needs returns what the mapped versions take, and one more (nil for none) that is
// about to be mapped; private is what of it is not in the group's figures yet.
// limited is false without a control group that has a limit.
func (l *Loader) needs(more *image, private int64) (n need, limited bool) {
	n.limit, n.fixed, limited = l.opts.group()
	if !limited {
		return n, false
	}
	files := make(map[*blob]bool)
	add := func(im *image) {
		for im := range im.chain {
			if !files[im.blob] {
				files[im.blob] = true
				n.files += im.blob.size
			}
		}
	}
	for _, m := range *l.models.Load() {
		m.mu.Lock()
		for _, v := range m.mapped {
			add(v.image)
			if more == nil {
				n.private += v.info.Copied
			}
		}
		m.mu.Unlock()
	}
	add(more)
	n.private += private
	return n, true
}

// roomIn returns how much of a control group's limit versions may bring what the
// kernel cannot take back up to: nine tenths, as --max-memory is by default. The
// process allocates while a version is brought in, and would be killed for it.
func roomIn(limit int64) int64 { return limit / 10 * 9 }

// String has the figures, for people.
func (n *need) String() string {
	const mb = 1e6
	return fmt.Sprintf("%.1f MB of files, bases and deltas, and %.1f MB of private memory; of the %.1f MB that the control group allows %.1f MB are taken",
		float64(n.files)/mb, float64(n.private)/mb, float64(n.limit)/mb, float64(n.fixed)/mb)
}

// admitMemory says why a version is not mapped: what it copies would have the
// kernel kill the process. Files that do not fit are read again and again instead,
// which is slow and safe: an event tells.
func (l *Loader) admitMemory(model string, im *image, private int64) error {
	n, limited := l.needs(im, private)
	switch {
	case !limited:
	case n.fixed+n.private > roomIn(n.limit):
		return fmt.Errorf("%s takes %s, at most %.1f MB may be: raise its limit, or ship the version whole with tensors that begin on pages: %w", im, &n, float64(roomIn(n.limit))/1e6, errGroupMemory)
	case n.fixed+n.private+n.files > n.limit && !l.opts.Lock: // who locks is refused, or told at the lock
		l.events.emit(Event{
			Kind: EventShort, Model: model, Version: im.number(), Drop: im.origin.Drop, Bytes: n.files,
			Reason: fmt.Sprintf("with it the versions take %s: pages are read from disk again and again, so raise the group's limit", &n),
		})
	}
	return nil
}

// tellMemory tells, at start, what the versions of the last run take.
func (l *Loader) tellMemory() {
	n, limited := l.needs(nil, 0)
	if !limited || n.files == 0 {
		return
	}
	l.events.emit(Event{Kind: EventMemory, Bytes: n.files, Reason: fmt.Sprintf("the versions of the last run take %s", &n)})
}
