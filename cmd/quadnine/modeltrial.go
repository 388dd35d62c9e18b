package main

import (
	"maps"
	"sync/atomic"
	"time"

	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/proxy"
	"github.com/quadnine/quadnine/telemetry"
	"github.com/quadnine/quadnine/xds/evidence"
)

// trial is a canary and the active version that it is compared with. Its
// evidence is shown until the model's next one begins.
type trial struct {
	canary, active uint64
	number         uint64              // which of this process's trials
	of             [2]evidence.Version // by policy.Side
	judge          *policy.Judge
	pooled         atomic.Pointer[evidence.Verdict] // what the pool said last; nil: nothing
	undecided      atomic.Bool                      // that it is was told
	over           atomic.Bool                      // one of the two was promoted or taken back: nothing more is to be said
	promoted       atomic.Pointer[string]           // the evidence that the canary was promoted on; nil until then
}

// TakeBack implements proxy.Models.
func (a *models) TakeBack(m *proxy.Model, number uint64, e policy.Evidence) (uint64, error) {
	to, err := a.loader.TakeBack(m.Name, number, e.String())
	if err == nil {
		a.away(m.Name, number)
		a.end(m.Name, number)
		a.pool.nudge()
	}
	return to, err
}

// Verdict implements loader.Judge: it is asked every 100 ms while there is a
// canary, on the loader's goroutine.
func (a *models) Verdict(canary, active *loader.Info) (loader.Verdict, string) {
	t := (*a.trials.Load())[canary.Model]
	if t == nil || t.canary != canary.Number || t.active != active.Number {
		var err error
		if t, err = a.begin(canary, active); err != nil {
			return loader.Rollback, "it cannot be judged: " + err.Error()
		}
	}
	v, e := t.judge.Verdict(a.now())
	switch v {
	case policy.Promote:
		if e.First { // else a request found the verdict, and its shard counted it
			a.registry.Count(telemetry.ModelPromoted, 1)
			a.log.Info("canary promoted", "model", canary.Model, "version", canary.Number, "evidence", e.String())
		}
		why := e.String()
		t.promoted.Store(&why)
		t.over.Store(true)
		return loader.Promote, why
	case policy.Rollback: // also when a request found it and could not act on it
		a.pool.nudge()
		return loader.Rollback, e.String()
	default:
		if e.Why == policy.Undecided && !t.undecided.Swap(true) {
			a.registry.Count(telemetry.ModelUndecided, 1)
			a.log.Warn("canary undecided, and still tried", "model", canary.Model, "version", canary.Number, "evidence", e.String())
		}
		return loader.Hold, a.expect(t, &e)
	}
}

// refuse marks a version before it is out of use: no answer leaves with its
// number.
func refuse(prepared any) {
	if v, ok := prepared.(*proxy.ModelVersion); ok {
		v.SetRefused(true)
	}
}

// takenBack counts and audits the rollbacks that no request's shard has made.
func (a *models) takenBack(bad, to *loader.Info, reason string, judged bool) {
	a.end(bad.Model, bad.Number)
	a.registry.Count(telemetry.ModelTakenBack, 1)
	if judged {
		if e, ok := a.trial(bad.Model, bad.Number); ok {
			proxy.TakenBack{Model: bad.Model, From: bad.Number, To: to.Number, Evidence: e}.Log(a.log)
			return
		}
	}
	a.log.Warn("version taken back", "model", bad.Model, "from", bad.Number, "to", to.Number, "rollback", "swapped", "judged", judged, "reason", reason)
}

// begin puts a canary on trial.
func (a *models) begin(canary, active *loader.Info) (*trial, error) {
	cfg := a.bounds
	cfg.PromoteAfter = max(canary.Canary.PromoteAfter, time.Millisecond) // a manifest may say 0s: the judge's least
	cfg.MinRequests = int(min(max(canary.Canary.MinRequests, 1), 1<<30))
	judge, err := policy.NewJudge(cfg, a.now())
	if err != nil {
		return nil, err
	}
	t := &trial{canary: canary.Number, active: active.Number, judge: judge}
	t.of = [2]evidence.Version{policy.SideCanary: identity(canary), policy.SideActive: identity(active)}
	a.pool.enter(t, func() {
		next := maps.Clone(*a.trials.Load())
		next[canary.Model] = t
		a.trials.Store(&next)
	})
	return t, nil
}

// end ends the trial that a version is part of, once it was taken back.
func (a *models) end(name string, number uint64) {
	if t := (*a.trials.Load())[name]; t != nil && (t.canary == number || t.active == number) {
		t.over.Store(true)
	}
}

// trial returns the evidence of the trial that a model's canary is on. It never
// takes the verdict that somebody has to act on.
func (a *models) trial(name string, canary uint64) (policy.Evidence, bool) {
	t := (*a.trials.Load())[name]
	if t == nil || t.canary != canary {
		return policy.Evidence{}, false
	}
	return t.judge.Look(a.now()), true
}
