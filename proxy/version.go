package proxy

import (
	"bytes"
	"math"
	"strconv"

	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/proxy/field"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

const (
	// versionHeader says which version answers: set towards the upstream, which
	// echoes it.
	versionHeader = "x-model-version"
	// modelHeader tells the caller which version answered. It is there only when
	// that is certain.
	modelHeader = "x-quadnine-model"
)

// version picks the model's version that answers the request or accompanies it,
// and takes the lease that finish gives back. It refuses nothing and never waits:
// without a version a routed request goes on as it is.
type version struct{ *loop }

func (v version) Step(x *Exchange) Verdict {
	if v.server.models == nil {
		return Continue
	}
	if x.input != nil {
		return Continue // a chain of models ends here
	}
	v.inherit(x)
	m := v.choose(x)
	if m == nil {
		return Continue
	}
	x.model = m
	if !v.pin(x) {
		v.draw(x)
	}
	x.req.Del(versionHeader) // a caller's own says nothing
	if rv := x.routed(); rv != nil {
		x.req.AddFixed(rv.named().ask)
	}
	if x.lease.Version != nil && v.server.onRouted != nil {
		v.server.onRouted(x.lease.Version.Name, v.server.now())
	}
	return Continue
}

// inherit has the cluster say which model its app runs, where neither the route
// nor the listener does.
func (v version) inherit(x *Exchange) {
	if x.policies.Model != nil || x.Route == nil || x.Route.Forward == nil {
		return
	}
	if c := x.site.cluster(x.destination(x.Route.Forward)); c != nil {
		x.policies.Model = c.Settings().Model
	}
}

// choose finds the model that has a say in the request: the one that the route
// names, else the one of its metric.
func (v version) choose(x *Exchange) *Model {
	r := x.policies.Model
	if r == nil {
		return v.server.models.For(x.Key)
	}
	x.mode = r.Mode
	switch {
	case r.Mode == snapshot.ModelOff:
		return nil
	case r.Model != "":
		return v.server.models.Named(r.Model)
	default:
		return v.server.models.For(x.Key)
	}
}

// share is the canary's percentage of callers, where the route or the runtime
// says it instead of the manifest.
func (v version) share(x *Exchange) (percent float64, has bool) {
	r := x.policies.Model
	if r == nil {
		return 0, false
	}
	percent, has = r.Weight, r.HasWeight
	if r.WeightKey != "" {
		const unset = math.MaxUint64
		if n := x.site.snap.Runtime.Value(r.WeightKey, unset); n != unset {
			percent, has = float64(n), true
		}
	}
	return min(percent, 100), has
}

// pin follows a trusted caller's wish for a version, and reports false where
// there is none, or where it is not followed, which is counted.
func (v version) pin(x *Exchange) bool {
	wish := x.req.Get(versionHeader)
	if wish == nil {
		return false
	}
	if !x.conn.trusted {
		v.tel.Count(telemetry.ModelPinUntrusted, 1)
		return false
	}
	number, ok := parseVersion(wish, x.model.Name)
	if !ok {
		v.tel.Count(telemetry.ModelPinUnknown, 1)
		return false
	}
	lease, result := v.server.models.Pin(x.model, number)
	switch result {
	case Pinned:
		x.lease, x.pinned = lease, true
		x.lease.Trial, x.lease.Shadow = nil, nil // whoever chooses a version is no sample of the callers
		return true
	case PinRefused:
		v.tel.Count(telemetry.ModelPinRefused, 1)
	default:
		v.tel.Count(telemetry.ModelPinUnknown, 1)
	}
	return false
}

// parseVersion reads "score@2" or "2" as a version of the model called name.
func parseVersion(b []byte, name string) (uint64, bool) {
	if i := bytes.LastIndexByte(b, '@'); i >= 0 {
		if string(b[:i]) != name {
			return 0, false
		}
		b = b[i+1:]
	}
	n, err := strconv.ParseUint(string(b), 10, 64)
	return n, err == nil
}

// draw takes the version that the caller falls to: always the same, as long as
// the versions and the canary's share stay.
func (v version) draw(x *Exchange) {
	m := x.model
	if e := m.experiment.Load(); e != nil && v.assign(x, e) {
		return
	}
	caller := policy.Draw(m.Salt, x.Key.Tenant, find(x, x.site.Keys.User))
	var lease Lease
	var ok bool
	if share, has := v.share(x); has {
		lease, ok = v.server.models.AcquireShare(m, caller, share)
	} else {
		lease, ok = v.server.models.Acquire(m, caller)
	}
	if ok && lease.Version.Refused() { // its taking back is under way
		number := lease.Version.Number
		lease.drop()
		lease, ok = v.server.models.Other(m, number)
	}
	if ok {
		x.lease = lease
	}
}

// echo looks for the version's name in the upstream's reply, and says so in
// the reply that goes out: a version that was not echoed is never reported as
// having answered.
func (x *Exchange) echo(resp *field.List) {
	rv := x.routed()
	if rv == nil || x.toPeer || x.status >= 500 {
		return // a peer speaks for itself, and an error page need not echo
	}
	if string(resp.Get(versionHeader)) != rv.Name {
		x.loop.tel.Count(telemetry.ModelMismatch, 1)
		x.storable = false // told again it would pass for the version's
		return
	}
	x.echoed = true
	resp.AddFixed(rv.named().tell)
	x.countAnswer()
}

// countAnswer counts a reply of the exchange's version.
func (x *Exchange) countAnswer() {
	id := telemetry.AnsweredActive
	switch {
	case x.step == policy.Previous:
		id = telemetry.AnsweredPrevious
	case x.pinned:
		id = telemetry.AnsweredPinned
	case x.lease.Canary:
		id = telemetry.AnsweredCanary
	}
	x.loop.tel.Count(id, 1)
}
