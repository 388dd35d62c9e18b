package evidence

import (
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/quadnine/quadnine/policy"
	modelv1 "github.com/quadnine/quadnine/xds/api/quadnine/model/v1"
)

// Version is one version of a model. Two with one number and other roots are
// different.
type Version struct {
	Model  string
	Number uint64
	Root   [32]byte
}

func (v *Version) encode() *modelv1.Version {
	return &modelv1.Version{Model: v.Model, Number: v.Number, Root: v.Root[:]}
}

// Trial is a canary beside an active version, and what it has shown.
type Trial struct {
	Number         uint64 // another one for each trial since the start
	Canary, Active Version
	policy.Summary
}

// Verdict is what the server says of a version.
type Verdict struct {
	Version  Version
	Decision policy.Verdict // Rollback: it is blocked
	Reason   string
	Expect   string
	Sidecars int
}

func encode(of []Trial) (out []*modelv1.Trial) {
	for i := range of {
		t := &of[i]
		m := &modelv1.Trial{
			Number: t.Number, Canary: t.Canary.encode(), Active: t.Active.encode(),
			Bounds: &modelv1.Bounds{
				Alpha: t.Config.Alpha, Beta: t.Config.Beta, Margin: t.Config.Margin, BaselineErrorPercent: t.Config.BaselineErrorPercent,
				PromoteAfter: durationpb.New(t.Config.PromoteAfter), MinRequests: uint32(t.Config.MinRequests), MinFailures: uint32(t.Config.MinFailures),
			},
			Age: durationpb.New(t.Age), CanaryTally: tally(&t.Summary.Canary), ActiveTally: tally(&t.Summary.Active),
			LatencyUnknown: t.Unknown, Slow: t.Slow, Veto: vetoes[t.Veto],
			ErrorsAgainst: t.Against[:], ErrorsFor: t.Clear[:], LatencyAgainst: t.Slower[:], LatencyFor: t.Faster[:],
		}
		if t.LatencyLimit > 0 {
			m.LatencyLimit = durationpb.New(t.LatencyLimit)
		}
		out = append(out, m)
	}
	return out
}

func tally(t *policy.Tally) *modelv1.Tally {
	return &modelv1.Tally{Requests: t.Requests, Failures: t.Failures, NotFinite: t.NotFinite, Timed: t.Timed, P95: durationpb.New(t.P95)}
}

var vetoes = map[policy.Cause]modelv1.Trial_Veto{
	policy.NonFinite: modelv1.Trial_NON_FINITE, policy.ErrorRate: modelv1.Trial_ERROR_RATE, policy.SlowAnswers: modelv1.Trial_LATENCY,
}

// decode leaves out what cannot be meant for anybody.
func decode(of []*modelv1.Verdict) (out []Verdict) {
	for _, m := range of {
		v := Verdict{
			Version:  Version{Model: m.GetVersion().GetModel(), Number: m.GetVersion().GetNumber()},
			Decision: decisions[m.GetDecision()], Reason: m.GetReason(), Expect: m.GetExpect(), Sidecars: int(m.GetSidecars()),
		}
		if copy(v.Version.Root[:], m.GetVersion().GetRoot()) != len(v.Version.Root) {
			continue
		}
		out = append(out, v)
	}
	return out
}

// decisions has no entry for what a newer server may know: such a trial goes on.
var decisions = map[modelv1.Verdict_Decision]policy.Verdict{
	modelv1.Verdict_HOLD: policy.Hold, modelv1.Verdict_PROMOTE: policy.Promote, modelv1.Verdict_BLOCK: policy.Rollback,
}
