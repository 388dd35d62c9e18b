package xds

import (
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"strings"
	"time"

	"github.com/quadnine/quadnine/snapshot"
)

// listenerSlot is one listener: what is configured and what is in use.
type listenerSlot struct {
	name  string
	next  *snapshot.Listener // nil: it is gone
	cur   *snapshot.Listener // nil: it is not served yet
	since time.Time          // when next and cur parted
	inUse string             // the version of cur, when it is not next
	bind  error              // why its address could not be opened when its time came
	retry time.Time
}

const (
	hintBind = "nothing else may listen there: another listener's address, or another process's port"
	hintLog  = "name a file in a directory that exists and that this process may write to"
)

// inlineTable is the name of the table of a listener that holds its routes
// itself. Tables from elsewhere cannot have it: no name in a configuration holds
// a zero byte.
func inlineTable(listener string) string { return "\x00" + listener }

// hasInline reports whether name is the inline table of a listener.
func (a *Applier) hasInline(name string) bool {
	of, ok := strings.CutPrefix(name, "\x00")
	return ok && a.listeners[of] != nil
}

// configureListener makes l what is configured under its name. Its routes become
// a table of their own, so that an edit of them leaves the listener, and with it
// its connections, as it is.
func (a *Applier) configureListener(r *resource, l *snapshot.Listener, now time.Time, bind bool) []Rejected {
	inline := l.Inline
	alone := *l
	if inline != nil {
		alone.Inline, alone.RouteName = nil, inlineTable(l.Name)
	}
	s := a.listeners[l.Name]
	next := &alone
	if s != nil && s.next == nil && reflect.DeepEqual(s.cur, next) {
		next = s.cur // it was gone and is back
	}
	if s != nil && s.next != nil && reflect.DeepEqual(s.next, next) {
		next = s.next // other bytes that mean the same
	} else if bind {
		if why := a.open(next); why != nil {
			return why
		}
	}
	if s == nil {
		s = &listenerSlot{name: l.Name, since: now}
		a.listeners[l.Name] = s
	}
	if s.next == s.cur || s.next == nil {
		s.since = now
	}
	s.next = next
	if inline != nil {
		a.configureTable(inlineTable(l.Name), inline, r.version)
	}
	if s.cur == next {
		s.inUse = r.version
	}
	return nil
}

// open opens l's address. It may still belong to a listener of ours that is on
// its way out: then moveListeners hands it over.
func (a *Applier) open(l *snapshot.Listener) []Rejected {
	leaving := false
	for _, o := range a.listeners {
		if o.name == l.Name {
			continue
		}
		if o.next != nil && o.next.Address == l.Address && !l.PicksPort() {
			return []Rejected{{Name: l.Name, Path: "address", Reason: fmt.Sprintf("%s is the address of listener %q", l.Address, o.name), Hint: hintBind}}
		}
		leaving = leaving || o.cur != nil && o.cur.Address == l.Address
	}
	if leaving {
		return nil
	}
	if err := a.plane.Listen(l); err != nil {
		if _, ok := errors.AsType[*fs.PathError](err); ok {
			return []Rejected{{Name: l.Name, Path: "filter_chains[0].filters[0].typed_config.access_log", Reason: err.Error(), Hint: hintLog}}
		}
		return []Rejected{{Name: l.Name, Path: "address", Reason: err.Error(), Hint: hintBind}}
	}
	a.force = true // the plane closes what it opened and does not find in a snapshot
	return nil
}

// moveListeners puts listeners in use whose table is there, and lets go of those
// that are gone. An address goes from one listener to another in one step: who has
// it is served until who gets it is ready, for at most 60 s. It reports whether an
// address could not be opened.
func (a *Applier) moveListeners(now time.Time) bool {
	refused := make(map[string]bool)
	moving := a.moving(now, refused)
	for tried := false; !tried; {
		tried = true
		for _, name := range sortedKeys(moving) {
			l := moving[name]
			if l.bind = a.bind(l); l.bind != nil {
				l.retry = now.Add(retryAfter)
				refused[name], tried = true, false
			}
		}
		if !tried { // who was to have an address from it stays, too
			moving = a.moving(now, refused)
		}
	}
	for name, l := range moving {
		l.cur, l.retry = l.next, time.Time{}
		if r := a.current(KindListener, name); r != nil {
			l.inUse = r.version
		}
	}
	for name, l := range a.listeners {
		if l.next == nil && (a.heir(l) == nil || over(l.since, retainFor, now)) {
			delete(a.listeners, name)
			a.compiler.ForgetListener(name)
		}
	}
	return len(refused) > 0
}

// moving returns the listeners that can take their next version all at once: whose
// routes are there and whose address, if another one has it, is free when they all
// have moved.
func (a *Applier) moving(now time.Time, refused map[string]bool) map[string]*listenerSlot {
	out := make(map[string]*listenerSlot)
	for name, l := range a.listeners {
		if l.next != nil && l.next != l.cur && !refused[name] && a.routed(l, now) {
			out[name] = l
		}
	}
	for stuck := true; stuck; {
		stuck = false
		for name, l := range out {
			if o := a.holder(l); o != nil && o.next != nil && out[o.name] == nil {
				delete(out, name)
				stuck = true
			}
		}
	}
	return out
}

// holder returns the listener in use that has the address of l's next version, and
// is not l; or nil.
func (a *Applier) holder(l *listenerSlot) *listenerSlot {
	if l.next.PicksPort() {
		return nil
	}
	for _, o := range a.listeners {
		if o != l && o.cur != nil && o.cur.Address == l.next.Address {
			return o
		}
	}
	return nil
}

// heir returns the listener that waits for the address of l, which is gone; or nil.
func (a *Applier) heir(l *listenerSlot) *listenerSlot {
	if l.cur == nil || l.cur.PicksPort() {
		return nil
	}
	for _, o := range a.listeners {
		if o.next != nil && o.next != o.cur && o.next.Address == l.cur.Address {
			return o
		}
	}
	return nil
}

// bind opens the address of l's next version, if l does not have it.
func (a *Applier) bind(l *listenerSlot) error {
	if l.cur != nil && l.cur.Address == l.next.Address {
		return nil
	}
	err := a.plane.Listen(l.next)
	a.force = a.force || err == nil
	return err
}

// routed reports whether the routes of a listener's next version can be served,
// or have had their time.
func (a *Applier) routed(l *listenerSlot, now time.Time) bool {
	t := a.tables[l.next.RouteName]
	if l.next.RouteName == inlineTable(l.name) {
		return t.cur == t.next || over(l.since, warmFor, now) // they came together and begin together
	}
	return t != nil && t.cur != nil || over(l.since, l.next.RouteFetch, now)
}

// due returns when l can move on by itself, or zero.
func (l *listenerSlot) due(now time.Time) time.Time {
	var at time.Time
	switch {
	case l.next == l.cur:
		return at
	case l.next == nil:
		return end(l.since, retainFor)
	case l.next.RouteName == inlineTable(l.name):
		at = end(l.since, warmFor)
	default:
		at = end(l.since, l.next.RouteFetch)
	}
	if !at.After(now) || !l.retry.IsZero() && l.retry.Before(at) {
		return l.retry
	}
	return at
}

// serves reports whether a listener in use has its routes from the table.
func (a *Applier) serves(table string) bool {
	for _, l := range a.listeners {
		if l.cur != nil && l.cur.RouteName == table {
			return true
		}
	}
	return false
}

// current returns the resource that holds under a name: the bootstrap's, or else
// the server's.
func (a *Applier) current(kind Kind, name string) *resource {
	if r := a.kinds[kind].static[name]; r != nil {
		return r
	}
	return a.kinds[kind].byName[name]
}

// tableVersion returns the version of what is configured as a table.
func (a *Applier) tableVersion(name string) string {
	kind := KindRoutes
	if of, ok := strings.CutPrefix(name, "\x00"); ok {
		kind, name = KindListener, of
	}
	if r := a.current(kind, name); r != nil {
		return r.version
	}
	return ""
}
