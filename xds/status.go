package xds

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quadnine/quadnine/snapshot"
)

// Status is what /xds/status says.
type Status struct {
	Server    string           `json:"server"`
	Connected bool             `json:"connected"`
	Variant   string           `json:"variant,omitempty"`    // delta or sotw
	StreamAge string           `json:"stream_age,omitempty"` // how long the stream is open
	DownFor   string           `json:"down_for,omitempty"`
	LastError string           `json:"last_error,omitempty"` // of the stream
	Streams   uint64           `json:"streams"`              // opened since start
	LastACK   *time.Time       `json:"last_ack,omitempty"`
	LastNACK  *time.Time       `json:"last_nack,omitempty"`
	Stale     *Stale           `json:"stale,omitempty"`
	Applied   uint64           `json:"applied"`                   // snapshots since start
	Unapplied string           `json:"apply_error,omitempty"`     // why the newest is not in use
	Store     string           `json:"last_good_store,omitempty"` // what is wrong with the stored configuration
	APIs      []APIStatus      `json:"apis"`
	Resources []ResourceStatus `json:"resources"`
}

// Stale says that what is in use comes from disk and no server has confirmed it.
type Stale struct {
	APIs  []string  `json:"apis"`  // which no server has answered since start
	Saved time.Time `json:"saved"` // when its last change was written
	Age   string    `json:"age"`
}

// APIStatus is one kind of resource.
type APIStatus struct {
	API       string     `json:"api"` // CDS, EDS, …
	Version   string     `json:"version,omitempty"`
	Updates   uint64     `json:"updates"`          // since start
	Rejected  uint64     `json:"updates_rejected"` // those in which anything was
	Last      *time.Time `json:"last_update,omitempty"`
	Resources int        `json:"resources"`
	Bad       int        `json:"rejected,omitempty"` // resources whose newest is rejected
	Ignored   int        `json:"ignored_fields,omitempty"`
	Unknown   int        `json:"unknown_fields,omitempty"`
}

// ResourceStatus is one resource.
type ResourceStatus struct {
	API      string    `json:"api"`
	Name     string    `json:"name"`
	Source   string    `json:"source,omitempty"` // of a secret that does not come over the aggregated stream
	State    State     `json:"state"`
	Since    time.Time `json:"since"`
	Received string    `json:"version_received,omitempty"`
	Accepted string    `json:"version_accepted,omitempty"`
	InUse    string    `json:"version_in_use,omitempty"`
	Static   bool      `json:"static,omitempty"` // of the bootstrap
	Stale    bool      `json:"stale,omitempty"`  // from disk, not confirmed
	Error    string    `json:"error,omitempty"`
	WaitsFor []string  `json:"waits_for,omitempty"`
	Ignored  []string  `json:"ignored,omitempty"` // fields without effect
}

// link is the state of the stream.
type link struct {
	server    string
	connected bool
	variant   string
	since     time.Time // of connected; zero: never
	streams   uint64
	err       string
}

func (l *link) change(server string, up bool, err error, now time.Time) {
	if up != l.connected || l.since.IsZero() || server != l.server {
		l.since = now
	}
	l.server, l.connected = server, up
	switch {
	case up:
		l.streams++
		l.err = ""
	case err != nil:
		l.err = err.Error()
	}
}

// Status returns where everything stands.
func (a *Applier) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := now()
	s := Status{
		Server: a.link.server, Connected: a.link.connected, Variant: a.link.variant, LastError: a.link.err, Streams: a.link.streams,
		Stale: a.stale(), Applied: a.applies,
	}
	switch {
	case a.link.since.IsZero():
	case a.link.connected:
		s.StreamAge = age(now.Sub(a.link.since))
	default:
		s.DownFor = age(now.Sub(a.link.since))
	}
	if a.applyErr != nil {
		s.Unapplied = a.applyErr.Error()
	}
	if a.keep != nil {
		s.Store = a.keep.trouble
	}
	s.APIs = a.apis()
	for _, kind := range Kinds() {
		k := &a.kinds[kind]
		s.LastACK, s.LastNACK = later(s.LastACK, k.acked), later(s.LastNACK, k.nacked)
		for _, r := range a.all(kind) {
			s.Resources = append(s.Resources, a.describe(r))
		}
		switch kind {
		case KindCluster:
			s.Resources = append(s.Resources, a.retained()...)
		case KindListener:
			s.Resources = append(s.Resources, a.leaving()...)
		case KindEndpoints, KindRoutes, KindRuntime, KindSecret, kinds:
		}
	}
	return s
}

// APIs returns the counts of each kind, in the order of Kinds. It is cheap, for
// metrics.
func (a *Applier) APIs() []APIStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.apis()
}

func (a *Applier) apis() (out []APIStatus) {
	for _, kind := range Kinds() {
		k := &a.kinds[kind]
		s := APIStatus{API: kind.String(), Version: k.version, Updates: k.updates, Rejected: k.nacks, Last: when(k.last)}
		for _, m := range []map[string]*resource{k.static, k.byName} {
			for _, r := range m {
				s.Ignored += len(r.notes.Ignored)
				s.Unknown += r.notes.Unknown
				s.Resources++
				if r.refused != nil {
					s.Bad++
				}
			}
		}
		out = append(out, s)
	}
	return out
}

// all returns the resources of a kind, the bootstrap's first, by name.
func (a *Applier) all(kind Kind) (out []*resource) {
	k := &a.kinds[kind]
	for _, m := range []map[string]*resource{k.static, k.byName} {
		for _, name := range sortedKeys(m) {
			out = append(out, m[name])
		}
	}
	return out
}

func (a *Applier) describe(r *resource) ResourceStatus {
	s := ResourceStatus{
		API: r.kind.String(), Name: r.plainName(), Source: r.source(), State: r.state, Since: r.since, Received: r.received,
		Static: r.static, Stale: r.restored, Error: a.trouble(r), WaitsFor: a.waitsFor(r), Ignored: slices.Clone(r.notes.Ignored),
	}
	if r.accepted() {
		s.Accepted, s.InUse = r.version, a.inUse(r)
	}
	return s
}

// retained describes the clusters that were taken away.
func (a *Applier) retained() (out []ResourceStatus) {
	for _, name := range sortedKeys(a.clusters) {
		if c := a.clusters[name]; c.next == nil {
			out = append(out, ResourceStatus{
				API: KindCluster.String(), Name: name, State: Retained, Since: c.since, InUse: c.inUse,
				Error: "the management server took it away; it is let go when nothing uses it, at " + c.since.Add(retainFor).UTC().Format(time.TimeOnly) + " UTC at the latest",
			})
		}
	}
	return out
}

// leaving describes the listeners that were taken away and are still served.
func (a *Applier) leaving() (out []ResourceStatus) {
	for _, name := range sortedKeys(a.listeners) {
		l := a.listeners[name]
		if l.next != nil {
			continue
		}
		if heir := a.heir(l); heir != nil {
			out = append(out, ResourceStatus{
				API: KindListener.String(), Name: name, State: Retained, Since: l.since, InUse: l.inUse,
				Error: fmt.Sprintf("the management server took it away; it keeps %s until listener %q is ready", l.cur.Address, heir.name),
			})
		}
	}
	return out
}

// trouble says what is wrong with r, or "".
func (a *Applier) trouble(r *resource) string {
	var out []string
	if r.refused != nil {
		for _, w := range r.refused.why {
			out = append(out, w.text())
		}
	}
	if r.failure != "" {
		out = append(out, "the management server says: "+r.failure)
	} else if r.missing {
		out = append(out, "the management server does not have it")
	}
	if r.shadowed {
		out = append(out, "has no effect: the bootstrap has one of this name")
	}
	switch r.kind {
	case KindListener:
		if l := a.listeners[r.name]; l != nil && l.bind != nil && l.next != l.cur {
			out = append(out, l.bind.Error())
		}
	case KindCluster:
		if c := a.clusters[r.name]; c != nil && c.nextDNS != nil {
			for _, host := range sortedKeys(c.nextDNS.failures) {
				out = append(out, c.nextDNS.failures[host])
			}
		}
	case KindEndpoints, KindRoutes, KindRuntime, KindSecret, kinds:
	}
	return strings.Join(out, "; ")
}

// waitsFor names what r waits for.
func (a *Applier) waitsFor(r *resource) []string {
	if r.state != Warming {
		return nil
	}
	switch r.kind {
	case KindCluster:
		return a.clusterWaitsFor(a.clusters[r.name])
	case KindListener:
		return a.listenerWaitsFor(a.listeners[r.name])
	case KindRoutes:
		return a.tables[r.name].waitsFor()
	case KindEndpoints, KindRuntime, KindSecret, kinds:
	}
	return nil
}

func (a *Applier) listenerWaitsFor(l *listenerSlot) (out []string) {
	for face := range l.next.Faces {
		t := a.tables[face.RouteName]
		switch {
		case isInline(face.RouteName):
			out = append(out, t.waitsFor()...)
		case t == nil || t.cur == nil:
			out = append(out, "RDS "+face.RouteName)
		}
		if name := a.missingSecret(face.TLS); name != "" {
			out = append(out, "SDS "+name)
		}
	}
	if o := a.holder(l); o != nil && o.next != nil {
		out = append(out, "LDS "+o.name) // to leave the address
	}
	return out
}

func (a *Applier) clusterWaitsFor(c *clusterSlot) (out []string) {
	if c.next == nil {
		return nil
	}
	switch {
	case a.known(c.next, c.nextDNS):
	case c.next.Discovery == snapshot.EDS:
		out = append(out, "EDS "+service(c.next))
	default:
		out = append(out, "DNS")
	}
	if name := a.missingSecret(c.next.TLS); name != "" {
		out = append(out, "SDS "+name)
	}
	return out
}

func (t *tableSlot) waitsFor() (out []string) {
	for _, name := range sortedKeys(t.waits) {
		out = append(out, "CDS "+name)
	}
	return out
}

// age writes a duration as a person says it.
func age(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return new(t)
}

func later(a *time.Time, b time.Time) *time.Time {
	if b.IsZero() || a != nil && a.After(b) {
		return a
	}
	return new(b)
}

// AcceptedResource is a resource that is valid, for /config_dump.
type AcceptedResource struct {
	Name    string
	Version string
	Body    []byte // inside the Any; must not be changed
	Updated time.Time
	Static  bool
	State   State
	Warming bool // whatever State says of newer bytes: these wait for what they need
	InUse   string
	Before  *InUse // what is in use while these warm; nil: these, or nothing
	Refused []byte // newer bytes that were not taken; nil: none
	Error   string
}

// InUse is what is in use of a resource whose newer bytes warm.
type InUse struct {
	Version string
	Body    []byte // inside the Any; must not be changed
	Updated time.Time
}

// Accepted returns what is valid of a kind, the bootstrap's first, by name.
func (a *Applier) Accepted(kind Kind) []AcceptedResource {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []AcceptedResource
	for _, r := range a.all(kind) {
		if !r.accepted() {
			continue
		}
		d := AcceptedResource{Name: r.plainName(), Version: r.version, Body: r.wire, Updated: r.updated, Static: r.static, State: r.state, Warming: a.standing(r) == Warming, InUse: a.inUse(r), Before: r.before, Error: a.trouble(r)}
		if r.refused != nil {
			d.Refused = r.refused.wire
		}
		out = append(out, d)
	}
	return out
}

// Version returns the version of the last response of a kind that was taken, whole
// or in part: version_info of /config_dump.
func (a *Applier) Version(kind Kind) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.kinds[kind].version
}
