package proxy

import (
	"sync/atomic"

	"github.com/quadnine/quadnine/policy"
)

// Experiment spreads a model's callers over versions that all serve. It is made
// once and shown to requests by Model.SetExperiment; all but what its
// arms count, and whether they are away, is read-only.
type Experiment struct {
	Name string
	Salt uint64 // of the draw: two experiments assign different callers
	By   string // the request header whose value a caller is known by; empty: the user
	Arms []*Arm

	choices []policy.Choice // the same
}

// Arm is one version of an experiment and what it did.
type Arm struct {
	policy.Arm

	Version uint64
	// Challenger is a version that was not the active one when the experiment began:
	// its first NaN or infinity takes it back.
	Challenger bool

	away atomic.Bool
}

// NewExperiment returns an experiment over arms, two or more, each with a weight
// above 0.
func NewExperiment(name string, salt uint64, by string, arms []*Arm, weights []float64) *Experiment {
	e := &Experiment{Name: name, Salt: salt, By: by, Arms: arms}
	for i, a := range arms {
		e.choices = append(e.choices, policy.Choice{ID: a.Version, Weight: weights[i]})
	}
	return e
}

// SetAway says whether the arm's version serves: while it does not, its callers are
// answered by the active version and counted for no arm.
func (a *Arm) SetAway(away bool) { a.away.Store(away) }

// Away reports whether the arm's callers go to the active version.
func (a *Arm) Away() bool { return a.away.Load() }

// SetExperiment shows m's requests an experiment, or none. It is safe for
// concurrent use.
func (m *Model) SetExperiment(e *Experiment) { m.experiment.Store(e) }

// assign takes the version of the experiment's arm that the caller falls to: always
// the same one, as long as the arms' weights stay.
func (v version) assign(x *Exchange, e *Experiment) bool {
	caller := find(x, x.site.Keys.User)
	if e.By != "" {
		caller = x.req.Get(e.By)
	}
	models := v.server.models
	draw := policy.Draw(e.Salt, x.Key.Tenant, caller)
	if arm := e.Arms[policy.Assign(draw, e.choices)]; !arm.Away() {
		if lease, result := models.Pin(x.model, arm.Version); result == Pinned && !lease.Version.Refused() {
			x.lease, x.assigned = lease, arm
			x.lease.Trial, x.lease.Shadow = nil, nil
			return true
		} else if result == Pinned {
			lease.drop()
		}
	}
	lease, ok := models.AcquireShare(x.model, draw, 0)
	if !ok {
		return false
	}
	if lease.Version.Refused() { // its taking back is under way
		lease.drop()
		return false
	}
	x.lease = lease
	x.lease.Trial = nil // the active version's callers are not a sample of all
	return true
}
