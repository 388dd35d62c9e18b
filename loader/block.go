package loader

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quadnine/quadnine/loader/delta"
)

// Block is a version that must not be tried, or tried again, whenever it comes:
// sidecars elsewhere found it bad. Another version with the same number is not
// meant.
type Block struct {
	Model  string     `json:"model"`
	Number uint64     `json:"number"`
	Root   delta.Root `json:"root"`
	Reason string     `json:"reason"`
	At     time.Time  `json:"at"`
}

// blockKey is which version a Block means.
type blockKey struct {
	model  string
	number uint64
	root   delta.Root
}

func (b *Block) key() blockKey { return blockKey{b.Model, b.Number, b.Root} }

// maxBlocks bounds the versions that are remembered as blocked; the oldest are
// forgotten first. Numbers only grow, so what is forgotten is not tried again
// either, unless the store is lost.
const maxBlocks = 1024

// Block takes a version away if it is here, as Rollback does, and refuses it from
// now on, also after a restart. A version that answers alone, with no standby,
// goes on: the error is ErrNoStandby then. Until its refusal is stored, which is
// tried again until it works, Block's error says so. Blocking what is blocked
// does nothing.
func (l *Loader) Block(ctx context.Context, b Block) error {
	return l.call(ctx, func() error {
		if !l.block(b) {
			return nil
		}
		err := l.takeBlocked(&b)
		return errors.Join(err, l.save())
	})
}

// Blocked returns the versions that are blocked, the oldest first.
func (l *Loader) Blocked() []Block {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.blocks()
}

// blocks is Blocked for whoever holds mu or is the loader's goroutine.
func (l *Loader) blocks() []Block {
	out := make([]Block, 0, len(l.blocked))
	for _, b := range l.blocked {
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b Block) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Model, b.Model), cmp.Compare(a.Number, b.Number))
	})
	return out
}

// block remembers b and reports whether that is new.
func (l *Loader) block(b Block) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.blocked[b.key()]; known {
		return false
	}
	if b.At.IsZero() {
		b.At = now()
	}
	if len(l.blocked) >= maxBlocks {
		oldest := l.blocks()[0]
		delete(l.blocked, oldest.key())
	}
	l.blocked[b.key()] = b
	return true
}

// takeBlocked takes a blocked version out of use, if it is here.
func (l *Loader) takeBlocked(b *Block) error {
	m := (*l.models.Load())[b.Model]
	if m == nil {
		return nil
	}
	m.mu.Lock()
	serves := false
	for _, v := range []*Version{m.active, m.canary, m.shadow, m.standby} {
		serves = serves || v != nil && v.info.Number == b.Number && v.info.Root == b.Root
	}
	m.mu.Unlock()
	if !serves {
		return nil
	}
	bad, to, err := l.rollback(m, b.Number, b.Reason)
	if errors.Is(err, ErrNotServing) { // a standby that nobody asks for
		return l.dropStandby(m, b)
	}
	if err != nil {
		l.tellBlocked(m)
		return fmt.Errorf("%w: it goes on: %s", err, b.Reason)
	}
	l.opts.TakenBack(&bad.info, &to.info, b.Reason, false)
	l.rolledBack(m, bad, b.Reason)
	return nil
}

// blockOf returns what blocks a version that is here.
func (l *Loader) blockOf(i *Info) (Block, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.blocked[blockKey{i.Model, i.Number, i.Root}]
	return b, ok
}

// tellBlocked tells of a model's active version that is blocked: it answers all the
// same, for there is nothing to go back to.
func (l *Loader) tellBlocked(m *model) {
	m.mu.Lock()
	v := m.active
	m.mu.Unlock()
	if v == nil {
		return
	}
	if b, ok := l.blockOf(&v.info); ok {
		ev := l.about(EventBlockedActive, v, b.At, 0)
		ev.Reason = b.Reason + ": it goes on, for there is no standby to go back to; ship a version with a higher number"
		l.events.emit(ev)
	}
}

// leaveBlocked unloads a version that was the active one until now, if it is blocked:
// it answered only as long as there was no other, and is not gone back to.
func (l *Loader) leaveBlocked(m *model, old *Version) error {
	if old == nil {
		return nil
	}
	b, ok := l.blockOf(&old.info)
	if !ok {
		return nil
	}
	return l.dropStandby(m, &b)
}

// dropStandby unloads a standby that must not be gone back to.
func (l *Loader) dropStandby(m *model, b *Block) error {
	m.mu.Lock()
	v := m.standby
	if v == nil || v.info.Number != b.Number {
		m.mu.Unlock()
		return nil
	}
	m.standby = nil
	if m.shadow == v {
		m.shadow = nil
	}
	l.opts.Refuse(v.prepared)
	m.publish()
	m.refused[b.Number] = Refusal{Root: b.Root, Reason: b.Reason, At: now()}
	m.floor = forget(m.refused, m.floor)
	err := m.unload(v)
	m.mu.Unlock()
	l.changed(m)
	return err
}

// isBlocked says why a version is refused although this loader never tried it, or
// returns nil.
func (l *Loader) isBlocked(model string, number uint64, root delta.Root) error {
	l.mu.Lock()
	b, ok := l.blocked[blockKey{model, number, root}]
	l.mu.Unlock()
	if !ok {
		return nil
	}
	return fmt.Errorf("%s@%d was blocked (%s): give its successor a higher number: %w", model, number, b.Reason, ErrRefused)
}
