package loader

import (
	"fmt"
	"math"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
)

// published is what leases are taken from: one value, replaced as a whole, so
// that nobody ever sees a canary without the active version it is compared with.
type published struct {
	active, canary, standby *Version
	percent                 float64 // of the callers, for the canary
	share                   uint64  // the same, of 1<<32
	shadow                  *Version
}

// model is one model's versions.
type model struct {
	name    string
	current atomic.Pointer[published] // stored under mu
	tell    func(*published)          // called under mu after each store; nil: nobody is told

	mu       sync.Mutex // held for a few stores, never over input or output
	active   *Version   // guarded by mu
	canary   *Version   // guarded by mu
	standby  *Version   // guarded by mu
	override *float64   // guarded by mu; SetCanary's percentage
	mapped   []*Version // guarded by mu; all that are not Freed
	refused  map[uint64]Refusal
	shadowing
	outcome    string      // guarded by mu; what became of the last experiment
	experiment *Experiment // guarded by mu; nil: none runs. What it points to does not change
	floor      uint64      // guarded by mu; the highest version that was left by hand for a lower one, or whose refusal is too old to be kept: up to it none comes by itself

	// Of the loader's goroutine:
	busy       *drop // the drop whose version is not decided yet
	images     map[uint64]*image
	old        []*image        // of versions whose chain was compacted since: mapped, or the base of one that is
	flattening *image          // whose chain is being compacted
	retained   map[uint64]bool // versions that stay in the store after their use, see Options.Retain
}

func newModel(name string) *model {
	m := &model{name: name, refused: make(map[uint64]Refusal), images: make(map[uint64]*image), retained: make(map[uint64]bool)}
	m.current.Store(new(published))
	return m
}

// enter moves v to a state. m.mu is held.
func (m *model) enter(v *Version, next State) error {
	if !v.state.Can(next) {
		return fmt.Errorf("loader: %s cannot go from %s to %s", &v.info, v.state, next)
	}
	v.state, v.entered = next, now()
	return nil
}

// publish shows readers what m.active, m.canary and m.standby are. m.mu is held.
func (m *model) publish() {
	p := &published{active: m.active, canary: m.canary, standby: m.standby, shadow: m.shadow}
	if m.canary != nil {
		p.percent = m.canary.info.Canary.Weight
		if m.override != nil {
			p.percent = *m.override
		}
		if m.experiment != nil { // who is assigned to it asks for it
			p.percent = 0
		}
		p.percent = min(max(p.percent, 0), 100)
		p.share = shareOf(p.percent)
	}
	m.current.Store(p)
	if m.tell != nil {
		m.tell(p)
	}
}

// shareOf is percent of what the upper half of a draw can be.
func shareOf(percent float64) uint64 {
	return uint64(math.Round(min(max(percent, 0), 100) / 100 * (1 << 32)))
}

// acquire takes a lease on the version that draw falls to.
func (m *model) acquire(draw uint64) (Lease, error) { return m.take(draw, nil) }

// acquireShare does so with share for the canary.
func (m *model) acquireShare(draw, share uint64) (Lease, error) { return m.take(draw, &share) }

// take takes a lease on the version that draw falls to. A version that is
// going away is out of sight before its last reference is: the second look finds
// what replaced it.
func (m *model) take(draw uint64, override *uint64) (Lease, error) {
	for {
		p := m.current.Load()
		share := p.share
		if override != nil {
			share = *override
		}
		l := Lease{p.active, Active}
		if p.canary != nil {
			if draw>>32 < share {
				l = Lease{p.canary, Canary}
			}
		}
		if l.v == nil {
			return Lease{}, fmt.Errorf("loader: %s: %w", m.name, ErrNoVersion)
		}
		if l.v.acquire() {
			return l, nil
		}
		if m.current.Load() == p { // only after Close
			return Lease{}, fmt.Errorf("loader: %s: %w", m.name, ErrNoVersion)
		}
	}
}

// pin takes a lease on one version, if it can be had.
func (m *model) pin(number uint64) (Lease, error) {
	p := m.current.Load()
	for _, l := range []Lease{{p.active, Active}, {p.canary, Canary}, {p.standby, Standby}} {
		if l.v != nil && l.v.info.Number == number && l.v.acquire() {
			return l, nil
		}
	}
	return Lease{}, fmt.Errorf("loader: %s@%d: %w", m.name, number, ErrNotServing)
}

// other takes a lease on the version that answers in place of number.
func (m *model) other(number uint64) (Lease, error) {
	p := m.current.Load()
	for _, l := range []Lease{{p.active, Active}, {p.standby, Standby}} {
		if l.v != nil && l.v.info.Number != number && l.v.acquire() {
			return l, nil
		}
	}
	return Lease{}, fmt.Errorf("loader: %s: none but %d: %w", m.name, number, ErrNoVersion)
}

// same reports whether v has the bytes of the active version and is used the same
// way, so that no caller could tell them apart.
func (m *model) same(v *Version) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.active
	return a != nil && v.info.Root == a.info.Root && v.info.Schema == a.info.Schema && reflect.DeepEqual(v.info.Eval, a.info.Eval)
}

// unload takes v out of use. Its reclaim time runs from here. m.mu is held, and
// v is not published any more.
func (m *model) unload(v *Version) error {
	if err := m.enter(v, Unloading); err != nil {
		return err
	}
	v.release()
	return nil
}

// activate makes v, a pending version, the canary or the standby, the active
// one. It returns the version that it replaces.
func (m *model) activate(v *Version) (old *Version, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.enter(v, Active); err != nil {
		return nil, err
	}
	old = m.active
	drop := m.standby
	m.active, m.standby = v, old
	if m.canary == v {
		m.canary = nil
	}
	if m.shadow != nil && (m.shadow == v || m.shadow == drop) {
		m.shadow = nil
	}
	m.publish()
	if old != nil {
		err = m.enter(old, Standby)
	}
	if drop != nil && drop != v && err == nil {
		err = m.unload(drop)
	}
	return old, err
}

// offer makes v, a pending version, the canary.
func (m *model) offer(v *Version) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.enter(v, Canary); err != nil {
		return err
	}
	m.canary = v
	m.publish()
	return nil
}

// replacement returns version number and the one that answers once it is taken
// away: the active version for the canary, the one in shadow, and a standby that
// takes part in an experiment; the standby for the active one. m.mu is held.
func (m *model) replacement(number uint64) (bad, to *Version, err error) {
	switch {
	case m.canary != nil && m.canary.info.Number == number:
		return m.canary, m.active, nil
	case m.shadow != nil && m.shadow.state == Shadow && m.shadow.info.Number == number:
		return m.shadow, m.active, nil
	case m.standby != nil && m.standby.info.Number == number && m.experiment.arm(number) != nil:
		return m.standby, m.active, nil
	case m.active == nil || m.active.info.Number != number:
		return nil, nil, fmt.Errorf("loader: %s@%d: %w", m.name, number, ErrNotServing)
	case m.standby == nil:
		return nil, nil, fmt.Errorf("loader: %s: %w", &m.active.info, ErrNoStandby)
	default:
		return m.active, m.standby, nil
	}
}

// rollback takes version number away for good; mark is told what was prepared of
// it before that can be seen. It returns which answers now. m.mu is held.
func (m *model) rollback(number uint64, reason string, at time.Time, mark func(prepared any)) (bad, to *Version, err error) {
	bad, to, err = m.replacement(number)
	if err != nil {
		return nil, nil, err
	}
	switch bad {
	case m.canary:
		m.canary = nil
	case m.standby:
		m.standby = nil
	case m.active:
		if err := m.enter(to, Active); err != nil {
			return nil, nil, err
		}
		m.active, m.standby = to, nil
	}
	if m.shadow == bad || m.shadow == m.active {
		m.shadow = nil
	}
	mark(bad.prepared)
	m.publish()
	m.refused[number] = Refusal{Root: bad.info.Root, Reason: reason, At: at}
	m.floor = forget(m.refused, m.floor)
	return bad, to, m.unload(bad)
}
