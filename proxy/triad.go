package proxy

import (
	"log/slog"
	"time"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/telemetry"
)

// testify tells the trial or the experiment that the version is part of what came
// of the exchange, once, and acts on the verdict where that is one.
func (x *Exchange) testify(o policy.Outcome) {
	trial := x.lease.Trial
	if trial == nil && x.assigned == nil || x.testified {
		return
	}
	x.testified = true
	if arm := x.assigned; arm != nil {
		arm.Record(o, time.Duration(x.answeredAt-x.start))
		if o == policy.Success && x.computed && x.rows > 0 {
			arm.Answer(x.score)
		}
		return // an experiment has no trial beside it
	}
	if trial.Record(x.side(), o, time.Duration(x.answeredAt-x.start)) {
		x.verdict(trial)
	}
}

func (x *Exchange) side() policy.Side {
	if x.lease.Canary {
		return policy.SideCanary
	}
	return policy.SideActive
}

// notFinite acts on an evaluation that gave NaN or an infinity: a canary is
// taken back at its first, the active version when it has done so as often as
// opens a breaker, if there is another to stand in for it. What a trusted caller
// asked for by its number says nothing of the others.
func (x *Exchange) notFinite() {
	l := x.loop
	l.tel.Count(telemetry.ModelNotFinite, 1)
	if x.pinned {
		return
	}
	if arm := x.assigned; arm != nil && !x.testified {
		x.testified = true
		arm.NotFinite()
		if arm.Challenger && !arm.away.Swap(true) { // else another request of it is at that
			now := l.server.now()
			x.takeBack(policy.Evidence{Verdict: policy.Rollback, Why: policy.NonFinite, First: true, At: now}, now)
			return
		}
	}
	if trial := x.lease.Trial; trial != nil && !x.testified {
		x.testified = true
		if trial.NotFinite(x.side()) {
			x.verdict(trial)
		}
	}
	x.distrust(policy.ModelNotFinite, policy.NonFinite)
}

// failed acts on an evaluation that failed: a trial hears of it, and the active
// version is taken back when it has failed as often as opens a breaker, if there
// is another to stand in for it.
func (x *Exchange) failed() {
	x.loop.tel.Count(telemetry.ModelFailed, 1)
	x.testify(policy.Failure)
	if !x.pinned {
		x.distrust(policy.ModelFailed, policy.ErrorRate)
	}
}

// distrust counts a failure against a version that is no canary.
func (x *Exchange) distrust(reason policy.Reason, why policy.Cause) {
	if x.lease.Canary {
		return
	}
	l := x.loop
	now := l.shard.Now()
	k := quadnine.Key{Tenant: x.model.Name, Metric: x.lease.Version.Name}
	if d, permit := l.server.versions.Decide(k, now); d != policy.Reject && l.server.versions.Record(permit, policy.Failure, reason, now) == policy.Opened {
		x.takeBack(policy.Evidence{Verdict: policy.Rollback, Why: why, First: true, At: now}, l.server.now())
	}
}

// verdict asks the trial what is to become of the canary and, where the answer
// is found right now, acts on it here: rollback, breaker and degradation are one
// decision.
func (x *Exchange) verdict(trial *policy.Judge) {
	decided := x.loop.server.now() // the shard's time is as old as its wake-up
	v, e := trial.Verdict(decided)
	switch {
	case !e.First:
	case v == policy.Promote:
		x.loop.tel.Count(telemetry.ModelPromoted, 1) // whoever asks next makes it active
	case v == policy.Rollback:
		x.takeBack(e, decided)
	}
}

// takeBack is the rollback. From its return on no request is given the version;
// this exchange, and those that a worker still computes for, find it refused and
// go to the version that stands in.
func (x *Exchange) takeBack(e policy.Evidence, decided int64) {
	s := x.loop.server
	v := x.lease.Version
	if x.lease.Canary {
		v.SetRefused(true) // it holds even if the swap fails: the active version is there
	}
	to, err := s.models.TakeBack(x.model, v.Number, e)
	if err == nil {
		v.SetRefused(true)
		x.loop.tel.Count(telemetry.ModelTakenBack, 1)
	}
	t := TakenBack{Model: x.model.Name, From: v.Number, To: to, Evidence: e, Took: time.Duration(s.now() - decided), Err: err}
	go t.Log(s.log) // writing a line may wait
}

// TakenBack is a rollback as the audit log tells it.
type TakenBack struct {
	Model    string
	From, To uint64
	Evidence policy.Evidence
	Took     time.Duration // from the verdict to the swap
	Err      error         // the version is still there, or somebody was faster
}

// Log writes the one line that names all three: the breaker that the verdict
// is, the degrade step, the rollback.
func (t TakenBack) Log(log *slog.Logger) {
	attrs := []any{
		"model", t.Model, "from", t.From, "to", t.To, "breaker", "open", "degrade", policy.Previous.String(), "rollback", "swapped",
		"why", t.Evidence.Why.String(), "took", t.Took, "evidence", t.Evidence.String(),
	}
	if t.Err != nil {
		log.Warn("version not taken back: see err; it is not routed to while another can answer",
			"model", t.Model, "from", t.From, "why", t.Evidence.Why.String(), "err", t.Err)
		return
	}
	log.Warn("version taken back", attrs...)
}
