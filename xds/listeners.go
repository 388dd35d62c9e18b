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

	shown    *snapshot.Listener // shownOf with its secrets: what is served
	shownOf  *snapshot.Listener
	shownTLS []*snapshot.TLS // of its faces
}

const (
	hintBind = "nothing else may listen there: another listener's address, or another process's port"
	hintLog  = "name a file in a directory that exists and that this process may write to"
)

// inlineTable is the name of the table of a listener's filter chain that holds its
// routes itself; the default one's chain is "". Tables from elsewhere cannot have it:
// no name in a configuration holds a zero byte.
func inlineTable(listener, chain string) string {
	if chain == "" {
		return "\x00" + listener
	}
	return "\x00" + listener + "\x00" + chain
}

// isInline reports whether a table's name is one of inlineTable's.
func isInline(name string) bool { return strings.HasPrefix(name, "\x00") }

// inlineOf returns the listener that holds the table itself; nil: none does.
func (a *Applier) inlineOf(table string) *listenerSlot {
	of, ok := strings.CutPrefix(table, "\x00")
	if !ok {
		return nil
	}
	of, _, _ = strings.Cut(of, "\x00")
	return a.listeners[of]
}

// hasInline reports whether name is the inline table of a listener.
func (a *Applier) hasInline(name string) bool {
	l := a.inlineOf(name)
	if l == nil {
		return false
	}
	for _, v := range []*snapshot.Listener{l.next, l.cur} {
		if v == nil {
			continue
		}
		for face := range v.Faces {
			if face.RouteName == name {
				return true
			}
		}
	}
	return false
}

// detach returns l with the routes that its chains hold themselves as tables of their
// own, and these by name.
func detach(l *snapshot.Listener) (alone *snapshot.Listener, inline map[string]*snapshot.RouteTable) {
	inline = make(map[string]*snapshot.RouteTable)
	of := func(face *snapshot.Listener, chain string) *snapshot.Listener {
		out := *face
		if face.Inline != nil {
			out.Inline, out.RouteName = nil, inlineTable(l.Name, chain)
			inline[out.RouteName] = face.Inline
		}
		return &out
	}
	alone = of(l, "")
	alone.Chains = nil
	for _, c := range l.Chains {
		alone.Chains = append(alone.Chains, &snapshot.Chain{Name: c.Name, Match: c.Match, Listener: of(c.Listener, c.Name)})
	}
	return alone, inline
}

// configureListener makes l what is configured under its name. Its routes become
// a table of their own, so that an edit of them leaves the listener, and with it
// its connections, as it is.
func (a *Applier) configureListener(r *resource, l *snapshot.Listener, now time.Time, bind bool) []Rejected {
	next, inline := detach(l)
	s := a.listeners[l.Name]
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
	for name, t := range inline {
		a.configureTable(name, t, r.version)
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
// routes and secrets are there and whose address, if another one has it, is free when
// they all have moved.
func (a *Applier) moving(now time.Time, refused map[string]bool) map[string]*listenerSlot {
	out := make(map[string]*listenerSlot)
	for name, l := range a.listeners {
		if l.next != nil && l.next != l.cur && !refused[name] && a.equipped(l, now) {
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

// equipped reports whether the routes and secrets of a listener's next version are
// there, or have had their time.
func (a *Applier) equipped(l *listenerSlot, now time.Time) bool {
	for face := range l.next.Faces {
		if !a.routed(l, face, now) || !a.supplied(face.TLS, l.since, now) {
			return false
		}
	}
	return true
}

// routed reports whether the routes of one face of a listener's next version can be
// served, or have had their time.
func (a *Applier) routed(l *listenerSlot, face *snapshot.Listener, now time.Time) bool {
	t := a.tables[face.RouteName]
	if isInline(face.RouteName) {
		return t.cur == t.next || over(l.since, warmFor, now) // they came together and begin together
	}
	return t != nil && t.cur != nil || over(l.since, face.RouteFetch, now)
}

// listenerDue returns when l can move on by itself, or zero.
func (a *Applier) listenerDue(l *listenerSlot, now time.Time) (at time.Time) {
	switch l.next {
	case l.cur:
		return at
	case nil:
		return end(l.since, retainFor)
	}
	sooner := func(t time.Time) {
		if t.After(now) && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	for face := range l.next.Faces {
		if isInline(face.RouteName) {
			sooner(end(l.since, warmFor))
		} else {
			sooner(end(l.since, face.RouteFetch))
		}
		a.suppliedBy(face.TLS, l.since, sooner)
	}
	sooner(l.retry)
	return at
}

// serves reports whether a listener in use has its routes from the table.
func (a *Applier) serves(table string) bool {
	for _, l := range a.listeners {
		if l.cur == nil {
			continue
		}
		for face := range l.cur.Faces {
			if face.RouteName == table {
				return true
			}
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
	if l := a.inlineOf(name); l != nil {
		kind, name = KindListener, l.name
	}
	if r := a.current(kind, name); r != nil {
		return r.version
	}
	return ""
}
