package xds

import "time"

// Readiness is what /ready needs to know.
type Readiness struct {
	// Live is set once every listener that was configured is served, and every
	// kind of resource that a server is asked for as a whole was answered or came
	// from disk. It stays set: what is added later says nothing about what is
	// served.
	Live bool
	Why  string // something is not served yet; "": everything is
	// Stale is set while what is in use comes from disk, Age after its last
	// change was written.
	Stale bool
	Age   time.Duration
}

// readiness is what Ready reads.
type readiness struct {
	live  bool
	why   string
	saved time.Time // of what is stale; zero: nothing is
}

const unapplied = "no configuration has been applied"

// Ready reports whether traffic should come. It waits for nothing.
func (a *Applier) Ready() Readiness {
	r := a.readiness.Load()
	if r == nil {
		return Readiness{Why: unapplied}
	}
	out := Readiness{Live: r.live, Why: r.why, Stale: !r.saved.IsZero()}
	if out.Stale {
		out.Age = now().Sub(r.saved)
	}
	return out
}

// publish makes what Ready says what holds now.
func (a *Applier) publish() {
	next := readiness{why: a.lacks()}
	a.live = a.live || next.why == ""
	next.live = a.live
	if a.keep != nil && !a.keep.confirmed {
		if s := a.stale(); s != nil {
			next.saved = s.Saved
		}
		a.keep.confirmed = next.saved.IsZero() && !a.restoring
	}
	if before := a.readiness.Load(); before == nil || *before != next {
		a.readiness.Store(&next)
	}
}

// lacks says what of the configuration is not served, or "".
func (a *Applier) lacks() string {
	if a.served == nil || a.applyErr != nil && a.applies == 0 {
		return unapplied
	}
	for _, kind := range Kinds() {
		if k := &a.kinds[kind]; kind.Wildcard() && k.dynamic && k.answered.IsZero() && !k.stale {
			return "waits for " + kind.String() + " of the management server"
		}
	}
	name := ""
	for n, l := range a.listeners {
		if l.cur == nil && (name == "" || n < name) {
			name = n
		}
	}
	if name != "" {
		return "listener " + name + " waits for its routes or their clusters"
	}
	return ""
}

// stale returns what no server has confirmed, or nil.
func (a *Applier) stale() *Stale {
	if a.keep == nil || a.keep.saved.IsZero() || a.keep.confirmed {
		return nil
	}
	s := &Stale{Saved: a.keep.saved, Age: age(now().Sub(a.keep.saved))}
	for _, kind := range Kinds() {
		if a.unconfirmed(kind) {
			s.APIs = append(s.APIs, kind.String())
		}
	}
	if s.APIs == nil {
		return nil
	}
	return s
}

// unconfirmed reports whether what is there of a kind comes from disk, in part or
// as a whole.
func (a *Applier) unconfirmed(kind Kind) bool {
	if kind.Wildcard() {
		return a.kinds[kind].stale
	}
	for _, r := range a.kinds[kind].byName {
		if r.restored {
			return true
		}
	}
	return false
}
