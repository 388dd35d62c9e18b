package loader

import (
	"errors"
	"fmt"
	"slices"

	"github.com/quadnine/quadnine/internal/mmap"
)

// ErrLockLimit is why a drop is refused that is to be locked into memory, where
// the process may not lock so much.
var ErrLockLimit = mmap.ErrLockLimit

// populate brings a version's pages into memory, and keeps them there where
// Options.Lock says so. It runs on a worker.
func (l *Loader) populate(v *Version) error {
	if err := l.lock(v); err != nil {
		return err
	}
	if err := v.region.Populate(); err != nil {
		return fmt.Errorf("%s: its file was cut or cannot be read: %w", v.image.blob.name, err)
	}
	v.resident.Store(true)
	return nil
}

// repopulate is populate for a version that answers already, of the last run. It
// goes on to answer when it cannot be locked any more: an event tells.
func (l *Loader) repopulate(v *Version) error {
	if v.refs.Load() == 0 { // it was replaced before its turn came
		return nil
	}
	if err := l.lock(v); err != nil {
		l.events.emit(Event{Kind: EventUnlocked, Model: v.info.Model, Version: v.info.Number, Drop: v.info.Drop, Bytes: v.info.Size, Reason: err.Error()})
	}
	err := v.region.Populate() // only to spare the readers the faults
	v.resident.Store(err == nil)
	return err
}

// lock locks a version into memory, or says why it is not. One is locked at a
// time, so that each sees what the others take.
func (l *Loader) lock(v *Version) error {
	if !l.opts.Lock {
		return nil
	}
	l.mapping.Lock()
	defer l.mapping.Unlock()
	if err := l.admitLock(v); err != nil {
		return err
	}
	if err := v.region.Lock(); err != nil {
		next := "run without locking"
		if errors.Is(err, mmap.ErrLockLimit) {
			next = "raise that limit to three or four times a version's size (canary, active and standby count each), give the process CAP_IPC_LOCK, or run without locking"
		}
		return fmt.Errorf("%s is to be locked into memory: %w: %s", &v.info, err, next)
	}
	return nil
}

// admitLock says why a version must not be locked: pages of files that the kernel
// cannot drop would have it kill the process. Pages that a locked version holds
// already are among what the group cannot take back.
func (l *Loader) admitLock(v *Version) error {
	limit, fixed, limited := l.opts.group()
	if !limited {
		return nil
	}
	held := make(map[*blob]bool)
	wanted := slices.Collect(v.image.chain)
	for _, m := range *l.models.Load() {
		m.mu.Lock()
		for _, o := range m.mapped {
			switch {
			case !o.region.IsLocked():
			case o.resident.Load():
				for im := range o.image.chain {
					held[im.blob] = true
				}
			default: // it is being read in
				wanted = slices.AppendSeq(wanted, o.image.chain)
			}
		}
		m.mu.Unlock()
	}
	files := int64(0)
	for _, im := range wanted {
		if !held[im.blob] {
			held[im.blob] = true
			files += im.blob.size
		}
	}
	if fixed+files <= roomIn(limit) {
		return nil
	}
	const mb = 1e6
	return fmt.Errorf("%s is to be locked into memory: that takes %.1f MB more of files; of the %.1f MB that the control group allows %.1f MB cannot be taken back already, at most %.1f MB may be: "+
		"raise its limit, or run without locking: %w", &v.info, float64(files)/mb, float64(limit)/mb, float64(fixed)/mb, float64(roomIn(limit))/mb, errGroupMemory)
}
