package xds

import (
	"cmp"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quadnine/quadnine/snapshot"
)

// ApplierOptions are what an Applier works with. Plane and Compiler are required.
type ApplierOptions struct {
	Plane    Plane
	Compiler Compiler
	// Static are the bootstrap's clusters and listeners. A server's resource of
	// the same name is accepted and has no effect, as in Envoy.
	Static []StaticResource
	// Strict makes Start fail for what the bootstrap has and quadnine does not
	// support. Without it such a resource is left out, and told.
	Strict bool
	// Dynamic are the kinds that a management server is asked for.
	Dynamic []Kind
	// Layers are layered_runtime's, the lowest first.
	Layers []Layer
	// StateDir is where the last good configuration is kept; "": nowhere.
	StateDir string
	// RefuseEmpty refuses a SotW response without a resource to a kind that is
	// asked for as a whole. Without it such a response deletes them all.
	RefuseEmpty bool
	Resolver    Resolver // nil: net.DefaultResolver
	// Supplier says why secrets cannot be had from a source, or nil: from which
	// management server, for one. Nil takes every source.
	Supplier func(snapshot.SecretSource) error
	Log      *slog.Logger // nil: slog.Default
}

// StaticResource is a resource of the bootstrap.
type StaticResource struct {
	Kind Kind
	Name string
	Body []byte
	// Aside keeps it out of the data plane: it is shown, and not compiled. The
	// management server's own cluster is such a one.
	Aside bool
}

// Applier keeps the configuration: it compiles what servers send and gives the
// data plane a snapshot of it. It implements Sink. Make one with NewApplier.
type Applier struct {
	plane       Plane
	compiler    Compiler
	log         *slog.Logger
	resolver    Resolver
	supplier    func(snapshot.SecretSource) error
	refuseEmpty bool
	strict      bool
	began       time.Time

	readiness atomic.Pointer[readiness] // nil: nothing has been applied

	mu        sync.Mutex // guards everything below
	closed    bool
	wanted    func() // Client.Resubscribe
	supply    func() // what Suppliers says may be new; nil: nobody asks
	kinds     [kinds]api
	clusters  map[string]*clusterSlot
	parted    map[string]*clusterSlot // those of them whose next is not cur, or that are gone
	stirred   map[string]bool         // those whose settings or endpoints may have changed since settle
	touched   []*resource             // those whose state may have
	eds       users
	composed  map[string]*snapshot.Cluster    // the clusters of the last snapshot that was composed; replaced, never changed
	composes  uint64                          // how many times it was
	servedBy  uint64                          // composes, of served
	assigned  map[string]*snapshot.Assignment // by EDS name
	tables    map[string]*tableSlot           // by RDS name, or inlineTable
	listeners map[string]*listenerSlot
	layers    layers

	secrets    map[string]*snapshot.Secret // by key
	ownSecrets map[string]*snapshot.Secret // of the bootstrap, by name
	securing   map[string]*clusterSlot     // those that need a secret
	furnished  map[*snapshot.TLS]furnished // by the context that lacks them
	asked      map[string]bool             // keys of the secrets that were asked for when supply was called

	link      link
	served    *snapshot.Snapshot // what the plane has; nil: nothing yet
	force     bool               // apply even when nothing changed
	live      bool               // everything that was configured was served once
	restoring bool               // Start takes what is on disk
	applyErr  error
	applies   uint64
	timer     *time.Timer
	keep      *keeper // nil: nothing is persisted
}

// api is what is known of one kind.
type api struct {
	dynamic  bool
	static   map[string]*resource
	byName   map[string]*resource
	version  string    // of the last response that was taken
	answered time.Time // when the first response came, or was given up; zero: not yet
	last     time.Time // the last response
	acked    time.Time
	nacked   time.Time
	updates  uint64
	nacks    uint64
	stale    bool      // of a kind that is asked for as a whole: no server has answered since it came from disk
	confirm  time.Time // when what is only on disk is taken as gone; zero: never
}

// NewApplier returns an Applier that has not done anything yet: call Start.
func NewApplier(o ApplierOptions) *Applier {
	a := &Applier{
		plane: o.Plane, compiler: o.Compiler, log: o.Log, resolver: o.Resolver, refuseEmpty: o.RefuseEmpty, strict: o.Strict, began: now(),
		clusters: make(map[string]*clusterSlot), parted: make(map[string]*clusterSlot), stirred: make(map[string]bool), eds: newUsers(), assigned: make(map[string]*snapshot.Assignment), tables: make(map[string]*tableSlot),
		composed: make(map[string]*snapshot.Cluster), listeners: make(map[string]*listenerSlot), layers: newLayers(o.Layers),
		secrets: make(map[string]*snapshot.Secret), ownSecrets: make(map[string]*snapshot.Secret), securing: make(map[string]*clusterSlot),
		furnished: make(map[*snapshot.TLS]furnished), supplier: o.Supplier,
	}
	if a.log == nil {
		a.log = slog.Default()
	}
	if a.resolver == nil {
		a.resolver = net.DefaultResolver
	}
	for k := range a.kinds {
		a.kinds[k] = api{dynamic: slices.Contains(o.Dynamic, Kind(k)), static: make(map[string]*resource), byName: make(map[string]*resource)}
	}
	for _, s := range o.Static {
		a.kinds[s.Kind].static[s.Name] = &resource{kind: s.Kind, name: s.Name, wire: s.Body, aside: s.Aside, static: true, since: a.began, updated: a.began}
	}
	if o.StateDir != "" {
		a.keep = &keeper{dir: o.StateDir}
	}
	return a
}

// Start compiles the bootstrap's resources, restores the last good configuration
// and serves both. An error is about the bootstrap, and then nothing is served:
// what is wrong with the stored configuration is logged and shown in Status.
func (a *Applier) Start() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := now()
	if err := a.takeStatic(now); err != nil {
		return err
	}
	a.restore(now)
	a.settle(now)
	a.restoring = false
	if a.keep != nil {
		a.keep.names = nil // what DNS said then is too old for clusters that come later
	}
	return a.applyErr
}

// OnWanted makes f called, without locks, whenever what Wanted returns may have
// changed outside of Update and Missing.
func (a *Applier) OnWanted(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wanted = f
}

// Update implements Sink.
func (a *Applier) Update(u Update) []Rejected {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := now()
	k := &a.kinds[u.Kind]
	k.updates++
	k.last = now
	if u.Nonce != "" { // a file's has none
		a.link.variant = u.Variant
	}
	rejected := a.take(u, now)
	if len(rejected) == 0 {
		k.acked = now
	} else {
		k.nacks++
		k.nacked = now
	}
	if len(rejected) < max(len(u.Resources), 1) {
		if u.of == "" {
			k.version = u.Version
		}
		a.answer(u.Kind, now)
		if k.stale && u.Kind.Wildcard() && k.confirm.IsZero() {
			k.confirm = now.Add(warmFor) // a server may answer in parts
		}
		k.stale = false
	}
	a.settle(now)
	return rejected
}

// answer notes that kind was answered, or that nothing will come.
func (a *Applier) answer(kind Kind, now time.Time) {
	if k := &a.kinds[kind]; k.answered.IsZero() {
		k.answered = now
	}
}

// Missing implements Sink.
func (a *Applier) Missing(kind Kind, name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := now()
	if name == "" && kind.Wildcard() {
		a.answer(kind, now)
	} else {
		r := a.resource(kind, name, now)
		r.missing = true
		a.touched = append(a.touched, r)
		name = r.plainName()
	}
	a.log.Warn("the management server did not answer in time", "type", kind.String(), "resource", cmp.Or(name, "*"),
		"hint", "what was there stays in use; initial_fetch_timeout sets how long to wait")
	a.settle(now)
}

// Connected implements Sink.
func (a *Applier) Connected(server string, up bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.link.change(server, up, err, now())
}

// settle moves on everything that can, gives the plane what changed and sets the
// timer for what cannot move yet. It reports whether anything changed.
func (a *Applier) settle(now time.Time) bool {
	if a.closed {
		return false
	}
	a.confirm(now)
	a.moveClusters(now)
	a.moveTables(now)
	rebind := a.moveListeners(now)
	if a.reconsider(now, KindSecret) { // someone may have waited for it
		return a.settle(now)
	}
	a.releaseClusters(now)
	a.release(now)
	changed := a.apply()
	if rebind { // the plane has closed the address of a listener that went
		a.moveListeners(now)
		changed = a.apply() || changed
	}
	a.unfurnish()
	a.states(now)
	a.schedule(now)
	a.publish()
	a.resupply()
	return changed
}

// apply composes a snapshot and gives it to the plane if it differs from the one
// that is served.
func (a *Applier) apply() bool {
	next := a.compose()
	if !a.force && a.served != nil && a.servedBy == a.composes && same(a.served, next) {
		return false
	}
	if a.applyErr = a.plane.Apply(next); a.applyErr != nil {
		a.log.Error("the configuration could not be applied", "err", a.applyErr, "hint", "the one before stays in use; tried again every second")
		return false
	}
	a.force = false
	a.applies++
	a.served, a.servedBy = next, a.composes
	return true
}

// wake is what the timer does.
func (a *Applier) wake() {
	a.mu.Lock()
	changed := a.settle(now())
	f := a.wanted
	a.mu.Unlock()
	if changed && f != nil {
		f()
	}
}

// schedule sets the timer to the next time at which settle can do more.
func (a *Applier) schedule(now time.Time) {
	var at time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	for k := range a.kinds {
		sooner(a.kinds[k].confirm)
	}
	for _, c := range a.parted {
		sooner(a.clusterDue(c, now))
	}
	for _, t := range a.tables {
		sooner(t.due(now))
	}
	for _, l := range a.listeners {
		sooner(a.listenerDue(l, now))
	}
	if a.applyErr != nil {
		sooner(now.Add(retryAfter))
	}
	switch {
	case at.IsZero():
		if a.timer != nil {
			a.timer.Stop()
		}
	case a.timer == nil:
		a.timer = time.AfterFunc(at.Sub(now), a.wake)
	default:
		a.timer.Reset(at.Sub(now))
	}
}

// Close stops timers and DNS and writes what is not written yet. The data plane
// keeps what it has.
func (a *Applier) Close() error {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return nil
	}
	a.closed = true
	if a.timer != nil {
		a.timer.Stop()
	}
	for _, c := range a.clusters {
		c.stop()
	}
	k := a.keep
	a.mu.Unlock()
	if k == nil {
		return nil
	}
	k.busy.Wait()
	if err := a.flush(); err != nil {
		return fmt.Errorf("xds: %w", err)
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
