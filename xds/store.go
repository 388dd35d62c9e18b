package xds

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/xds/compile"
)

// resource is what is known of one resource of a server or of the bootstrap.
type resource struct {
	kind     Kind
	name     string
	static   bool
	aside    bool   // of the bootstrap, and not for the data plane
	shadowed bool   // the bootstrap has one of this name, which holds
	restored bool   // from disk, and no server has spoken of it since
	missing  bool   // no server answered for it
	round    uint64 // the last response of all of its kind that it was in; counts as api.updates
	received string
	version  string // of wire
	wire     []byte // the last good bytes; nil: none
	updated  time.Time
	before   *InUse // what is in use, while these warm; nil: these, or nothing
	notes    compile.Notes
	refused  *refusal // newer bytes that were not taken
	failure  string   // why the server does not send it
	state    State
	since    time.Time // of state
}

// accepted reports whether there are good bytes.
func (r *resource) accepted() bool { return r.wire != nil }

// refusal is a verdict on bytes.
type refusal struct {
	wire    []byte
	version string
	at      time.Time
	why     []Rejected
	again   bool // another try with the same bytes may go well
	lacking bool // namely when there are other clusters or listeners
}

// resource returns the server's resource of that name; a new one when there is
// none.
func (a *Applier) resource(kind Kind, name string, now time.Time) *resource {
	r := a.kinds[kind].byName[name]
	if r == nil {
		r = &resource{kind: kind, name: name, state: Requested, since: now}
		a.kinds[kind].byName[name] = r
		if kind == KindEndpoints {
			a.eds.moved[name] = true // nobody may want it
		}
	}
	return r
}

// takeStatic compiles the bootstrap's resources.
func (a *Applier) takeStatic(now time.Time) error {
	var errs []error
	for _, kind := range Kinds() {
		for _, name := range sortedKeys(a.kinds[kind].static) {
			r := a.kinds[kind].static[name]
			a.touched = append(a.touched, r)
			if r.aside {
				continue
			}
			why := a.accept(r, r.wire, now, true)
			if len(why) > 0 && !a.strict && !slices.ContainsFunc(why, func(w Rejected) bool { return !w.unsupported() }) {
				// As with a server's: it is named, and what is left is served.
				r.refused, r.wire = &refusal{wire: r.wire, at: now, why: why}, nil
				a.log.Warn("a resource of the bootstrap is not used", "type", kind.String(), "resource", name, "err", why[0].text(), "hint", "--strict refuses it")
				continue
			}
			for _, w := range why {
				errs = append(errs, fmt.Errorf("static_resources: %s %q: %s", kind.Message(), name, w.text()))
			}
		}
	}
	return errors.Join(errs...)
}

// take takes what is valid of an update and returns the rest.
func (a *Applier) take(u Update, now time.Time) (rejected []Rejected) {
	k := &a.kinds[u.Kind]
	if a.empties(u) {
		return []Rejected{{Reason: "holds no resource, which would delete them all", Hint: "--refuse-empty is set: send at least one, or unset it"}}
	}
	// What goes makes room for what comes, as in Envoy: an address, a name.
	for _, name := range u.Removed {
		if u.Kind != KindSecret || secretIn(name, u.of) {
			a.remove(u.Kind, name, now)
		}
	}
	if u.Variant == VariantSotw && u.Kind.Wildcard() {
		there := 0
		present := func(name string) {
			if r := k.byName[name]; r != nil && r.round != k.updates {
				r.round = k.updates
				there++
			}
		}
		for _, in := range u.Resources {
			present(in.Name)
		}
		for _, e := range u.Errors { // not sent, for a reason: not gone
			present(e.Name)
		}
		if there < len(k.byName) {
			for name, r := range k.byName {
				if r.round != k.updates {
					a.remove(u.Kind, name, now)
				}
			}
		}
	}
	var asked func(string) bool
	if !u.Kind.Wildcard() {
		asked = a.asks(u.Kind)
	}
	if asks := asked; u.Kind == KindSecret { // nobody speaks for another supplier
		asked = func(name string) bool { return secretIn(name, u.of) && asks(name) }
	}
	for _, in := range u.Resources {
		if asked != nil && !asked(in.Name) {
			continue // not asked for: not ours to judge
		}
		r := a.resource(u.Kind, in.Name, now)
		// A server knows of it: should it not be valid, what is on disk holds.
		r.received, r.missing, r.failure, r.restored = in.Version, false, "", false
		rejected = append(rejected, a.judge(r, in, now)...)
		if r.state != Active || r.refused != nil {
			a.touched = append(a.touched, r)
		}
	}
	for _, e := range u.Errors {
		if e.Name == "" || asked != nil && !asked(e.Name) {
			continue
		}
		r := a.resource(u.Kind, e.Name, now)
		r.failure = fmt.Sprintf("%s: %s", e.Code, e.Message)
		r.missing = r.missing || e.Final()
		r.restored = false
		a.touched = append(a.touched, r)
	}
	if u.Kind == KindCluster {
		a.reconsider(now, KindListener, KindRoutes)
	}
	return rejected
}

// empties reports whether u would delete everything and may not.
func (a *Applier) empties(u Update) bool {
	return a.refuseEmpty && u.Variant == VariantSotw && u.Kind.Wildcard() && len(u.Resources) == 0 && len(u.Errors) == 0
}

// judge accepts in as the newest r, or says why not. Bytes that were judged before
// are not judged again.
func (a *Applier) judge(r *resource, in Resource, now time.Time) []Rejected {
	if f := r.refused; f != nil && !f.again && bytes.Equal(f.wire, in.Body) {
		f.version = in.Version
		return f.why
	}
	if r.accepted() && bytes.Equal(r.wire, in.Body) {
		a.inStep(r, in.Version)
		r.version, r.refused, r.restored = in.Version, nil, false
		return nil
	}
	before, inUse := r.version, r.before
	if (r.kind == KindCluster || r.kind == KindListener) && r.accepted() && a.standing(r) != Warming {
		inUse = &InUse{Version: r.version, Body: r.wire, Updated: r.updated}
	}
	r.version = in.Version // what is installed has this version
	why := a.accept(r, in.Body, now, true)
	if why == nil {
		r.wire, r.updated, r.before, r.refused, r.restored = in.Body, now, inUse, nil, false
		a.dirty(now)
		return nil
	}
	r.version = before
	has := func(hint string) bool {
		return slices.ContainsFunc(why, func(w Rejected) bool { return w.Hint == hint })
	}
	lacking := has(hintCluster) || has(hintMisfit)
	r.refused = &refusal{in.Body, in.Version, now, why, lacking || has(hintBind) || has(hintLog) || has(hintFile), lacking}
	return why
}

const hintCluster = "send the cluster first, or set validate_clusters to false"

// unknown returns why a table that asks for its clusters to be checked is not
// taken, or nil. Envoy has the same verdict, and it is final there: a server that
// sends routes before clusters and does not repeat itself leaves it with neither.
// See reconsider.
func (a *Applier) unknown(resource string, t *snapshot.RouteTable) (why []Rejected) {
	if t == nil || !t.Validate || a.restoring { // what is restored was taken once
		return nil
	}
	for _, name := range t.Clusters {
		if c := a.clusters[name]; c == nil || c.next == nil {
			why = append(why, Rejected{Name: resource, Path: "validate_clusters", Reason: fmt.Sprintf("a route names cluster %q, which is not known", name), Hint: hintCluster})
		}
	}
	return why
}

// reconsider takes what was refused for lack of clusters that are there now, and
// secrets that are asked for as something else by now. The server was told that it is
// refused, and that it is what the server wants still holds. It reports whether there
// was any.
func (a *Applier) reconsider(now time.Time, kinds ...Kind) (found bool) {
	for _, kind := range kinds {
		for _, name := range sortedKeys(a.kinds[kind].byName) {
			r := a.kinds[kind].byName[name]
			if f := r.refused; f != nil && f.lacking && a.judge(r, Resource{Name: name, Version: f.version, Body: f.wire}, now) == nil {
				a.log.Info("taken after all: what it needs is there now", "type", kind.String(), "resource", r.plainName())
				found = true
			}
		}
	}
	return found
}

// accept compiles wire and makes it what is configured under r's name. With bind,
// a listener's address is opened, and it counts as a fault when that fails.
func (a *Applier) accept(r *resource, wire []byte, now time.Time, bind bool) []Rejected {
	// A secret of the bootstrap is another one: it is named without a source.
	r.shadowed = !r.static && r.kind != KindSecret && a.kinds[r.kind].static[r.name] != nil
	var (
		name string
		err  error
		why  []Rejected
		n    compile.Notes
	)
	fits := func() bool { return err == nil && name == r.plainName() && !r.shadowed }
	switch r.kind {
	case KindCluster:
		var s *snapshot.ClusterSettings
		if s, n, err = a.compiler.Cluster(wire); err == nil {
			name = s.Name
		}
		if fits() {
			if why = a.unsecuredTLS(name, s.TLS, "transport_socket.typed_config.common_tls_context"); why == nil {
				a.configureCluster(r, s, now)
			}
		}
	case KindEndpoints:
		var s *snapshot.Assignment
		name, s, n, err = a.compiler.Assignment(wire)
		if fits() && !reflect.DeepEqual(a.assigned[name], s) {
			a.assigned[name] = s
			a.stirUsers(name)
		}
	case KindListener:
		var l *snapshot.Listener
		if l, n, err = a.compiler.Listener(wire); err == nil {
			name = l.Name
		}
		if fits() {
			for face := range l.Faces {
				why = append(why, a.unknown(name, face.Inline)...)
			}
			if why == nil {
				why = a.unsecured(name, l)
			}
			if why == nil {
				why = a.configureListener(r, l, now, bind)
			}
		}
	case KindRoutes:
		var t *snapshot.RouteTable
		if t, n, err = a.compiler.Routes(wire); err == nil {
			name = t.Name
		}
		if fits() {
			if why = a.unknown(name, t); why == nil {
				a.configureTable(name, t, r.version)
			}
		}
	case KindRuntime:
		var l snapshot.RuntimeLayer
		if l, n, err = a.compiler.Runtime(wire); err == nil {
			name = l.Name
		}
		if fits() {
			a.layers.receive(l)
		}
	case KindSecret:
		var s *snapshot.Secret
		if s, n, err = a.compiler.Secret(wire); err == nil {
			name = s.Name
		}
		if fits() {
			why = a.takeSecret(r, s)
		}
	case kinds:
	}
	switch {
	case err != nil:
		return reasons(r.name, err)
	case name != r.plainName():
		return []Rejected{{Name: r.name, Path: nameField[r.kind], Reason: fmt.Sprintf("is %q, and the resource was sent as %q", name, r.plainName()), Hint: "give both the same name"}}
	case why == nil:
		r.notes = n
	}
	return why
}

var nameField = [kinds]string{"name", "cluster_name", "name", "name", "name", "name"}

// remove takes away what a server says is gone. Of what is asked for by name only
// the word of it is kept: it stays in use until something better comes, as in
// Envoy.
func (a *Applier) remove(kind Kind, name string, now time.Time) {
	r := a.kinds[kind].byName[name]
	if r == nil {
		return
	}
	if !kind.Wildcard() {
		r.missing = true
		a.touched = append(a.touched, r)
		return
	}
	delete(a.kinds[kind].byName, name)
	a.dirty(now)
	if r.shadowed {
		return
	}
	switch kind {
	case KindCluster:
		if c := a.clusters[name]; c != nil {
			a.retain(c, now)
		}
	case KindListener:
		if l := a.listeners[name]; l != nil {
			l.next, l.since = nil, now
		}
	case KindEndpoints, KindRoutes, KindRuntime, KindSecret, kinds:
	}
}

// confirm takes away what only the disk knew, some time after a server has
// answered without it.
func (a *Applier) confirm(now time.Time) {
	for kind := range a.kinds {
		k := &a.kinds[kind]
		if k.confirm.IsZero() || now.Before(k.confirm) {
			continue
		}
		k.confirm = time.Time{}
		for _, name := range sortedKeys(k.byName) {
			if k.byName[name].restored {
				a.remove(Kind(kind), name, now)
			}
		}
	}
}

// reasons takes a compiler's error apart.
func reasons(name string, err error) (out []Rejected) {
	for _, e := range compile.Reasons(err) {
		out = append(out, Rejected{Name: name, Path: e.Path, Reason: e.Reason, Hint: e.Hint})
	}
	if out == nil {
		out = []Rejected{{Name: name, Reason: err.Error()}}
	}
	return out
}

// unsupported reports whether the resource is valid in Envoy, and has what
// quadnine does not do.
func (r Rejected) unsupported() bool { return (&compile.Error{Reason: r.Reason}).Unsupported() }

// text is the reason with its field and what to do about it.
func (r Rejected) text() string {
	s := r.Reason
	if r.Path != "" {
		s = r.Path + ": " + s
	}
	if r.Hint != "" {
		s += " (" + r.Hint + ")"
	}
	return s
}
