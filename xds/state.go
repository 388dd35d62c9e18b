package xds

import "time"

// State is where a resource stands.
type State string

// The states.
const (
	Requested State = "requested" // asked for, not answered yet
	Accepted  State = "accepted"  // valid, and nothing in use needs it
	Warming   State = "warming"   // valid, and waits for what it needs; the one before stays in use
	Active    State = "active"    // in use
	Retained  State = "retained"  // taken away, and kept for who still uses it
	Refused   State = "rejected"  // the newest is not valid; the one before, if any, stays in use
	Absent    State = "missing"   // no server has it
)

// inUse returns the version of r that is in use; "" when none is.
func (a *Applier) inUse(r *resource) string {
	if r.shadowed || r.aside {
		return ""
	}
	switch r.kind {
	case KindCluster:
		if c := a.clusters[r.name]; c != nil {
			return c.inUse
		}
	case KindListener:
		if l := a.listeners[r.name]; l != nil && l.cur != nil {
			return l.inUse
		}
	case KindRoutes:
		if t := a.tables[r.name]; t != nil && a.serves(r.name) {
			return t.inUse
		}
	case KindEndpoints, KindRuntime, KindSecret:
		return r.version // in use at once
	case kinds:
	}
	return ""
}

// inStep notes that version means the same as what r has.
func (a *Applier) inStep(r *resource, version string) {
	if r.shadowed {
		return
	}
	switch r.kind {
	case KindCluster:
		if c := a.clusters[r.name]; c != nil && c.next == c.cur {
			c.inUse = version
		}
	case KindListener:
		l := a.listeners[r.name]
		if l != nil && l.next == l.cur {
			l.inUse = version
		}
	case KindRoutes:
		if t := a.tables[r.name]; t != nil && t.next == t.cur {
			t.inUse = version
		}
	case KindEndpoints, KindRuntime, KindSecret, kinds:
	}
}

// states notes which resources have come to another state. It looks at those that
// something has happened to, and is what forgets that it has.
func (a *Applier) states(now time.Time) {
	look := func(r *resource) {
		if r == nil {
			return
		}
		if s := a.state(r); s != r.state {
			r.state, r.since = s, now
		}
		if r.before != nil && a.standing(r) != Warming {
			r.before = nil
		}
	}
	for name := range a.stirred {
		look(a.kinds[KindCluster].static[name])
		look(a.kinds[KindCluster].byName[name])
	}
	clear(a.stirred)
	for _, r := range a.touched {
		if r == a.kinds[r.kind].static[r.name] || r == a.kinds[r.kind].byName[r.name] {
			look(r)
		}
	}
	clear(a.touched)
	a.touched = a.touched[:0]
	for _, kind := range []Kind{KindListener, KindRoutes} { // they depend on each other and on clusters
		for _, m := range []map[string]*resource{a.kinds[kind].static, a.kinds[kind].byName} {
			for _, r := range m {
				look(r)
			}
		}
	}
}

func (a *Applier) state(r *resource) State {
	if r.refused != nil {
		return Refused
	}
	return a.standing(r)
}

// standing is the state of r without regard to newer bytes that were not taken.
func (a *Applier) standing(r *resource) State {
	switch {
	case !r.accepted() && r.missing:
		return Absent
	case !r.accepted():
		return Requested
	case r.shadowed || r.aside:
		return Accepted
	}
	switch r.kind {
	case KindCluster:
		c := a.clusters[r.name]
		if c == nil {
			return Accepted // not started yet
		}
		if c.next != c.cur || !a.warm(c.cur, c.curDNS) {
			return Warming
		}
	case KindListener:
		l := a.listeners[r.name]
		if l == nil {
			return Accepted
		}
		if l.next != l.cur {
			return Warming
		}
		for face := range l.next.Faces {
			if t := a.tables[face.RouteName]; isInline(face.RouteName) && t.next != t.cur {
				return Warming
			}
			if a.missingSecret(face.TLS) != "" {
				return Warming
			}
		}
	case KindRoutes:
		if t := a.tables[r.name]; t.next != t.cur {
			return Warming
		}
		if !a.serves(r.name) {
			return Accepted
		}
	case KindEndpoints, KindRuntime, KindSecret, kinds:
	}
	return Active
}
