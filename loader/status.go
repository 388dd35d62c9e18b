package loader

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Status is a version and where it is in its life, for /models.
type Status struct {
	Info

	State   State
	Since   time.Time // when it came to be in State
	Leases  int64
	Faults  int64   // reads that failed
	Weight  float64 // percent of the callers; of a canary, and of the versions of an experiment but the active one
	Beside  float64 // percent of the queries that it computes in shadow
	Locked  int64   // bytes that are locked into memory
	Durable bool    // a power cut will not lose it
	Blocked string  // why it must not be tried any more, although it is here; empty: it is not blocked
}

// Models returns the models' names, sorted.
func (l *Loader) Models() []string { return slices.Sorted(maps.Keys(*l.models.Load())) }

// Versions returns the versions of a model that take memory, by number.
func (l *Loader) Versions(model string) (out []Status) {
	m := (*l.models.Load())[model]
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, v := range m.mapped {
		s := Status{Info: v.info, State: v.state, Since: v.entered, Leases: v.refs.Load(), Faults: v.faults.Load(), Durable: v.image.durable.Load()}
		if v.state != Unloading && v.state != Failed {
			s.Leases-- // the loader's own
		}
		if v.region.IsLocked() {
			s.Locked = v.region.Size()
		}
		if v == m.canary {
			s.Weight = m.current.Load().percent
		}
		if e := m.experiment; v != m.active && e.arm(v.info.Number) != nil && e.arm(v.info.Number).Ended == "" {
			s.Weight = e.shares()[v.info.Number]
		}
		if v == m.shadow {
			s.Beside = m.percent
		}
		if b, ok := l.blockOf(&v.info); ok {
			s.Blocked = b.Reason
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Status) int { return cmp.Compare(a.Number, b.Number) })
	return out
}

// Refused returns the versions of a model that were rolled back, and why.
func (l *Loader) Refused(model string) map[uint64]Refusal {
	m := (*l.models.Load())[model]
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.refused)
}
