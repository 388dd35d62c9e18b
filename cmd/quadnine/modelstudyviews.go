package main

import (
	"fmt"
	"math"
	"strconv"

	"github.com/quadnine/quadnine/console"
	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/telemetry"
)

// shadowView shows what a model has, or had, in shadow; nil when there was none.
func (a *models) shadowView(name string) *console.Shadow {
	s := (*a.studies.shadows.Load())[name]
	if s == nil {
		return nil
	}
	share := s.share.Load()
	v := &console.Shadow{
		Version: s.info.Number, Against: s.active, Since: s.began, Over: share == 0, Percent: math.Round(float64(share)/(1<<32)*1e8) / 1e6,
		Differences: differencesView(s.Look()),
		SkippedBusy: s.Skips(policy.SkipBusy), SkippedInputs: s.Skips(policy.SkipInputs), SkippedGone: s.Skips(policy.SkipGone),
	}
	if w := s.info.Shadow; w != nil {
		v.Queries = w.Queries
	}
	for _, d := range s.Tenants() {
		v.Tenants = append(v.Tenants, console.TenantDifferences{Tenant: d.Tenant, Differences: differencesView(d)})
	}
	return v
}

func differencesView(d policy.Differences) console.Differences {
	return console.Differences{
		Compared: d.Compared, Equal: d.Equal, NotFinite: d.NotFinite, Failed: d.Failed, Bias: d.Bias,
		Absolute: console.Spread(d.Absolute), Relative: console.Spread(d.Relative),
	}
}

// experimentView shows a model's experiment, or its last one; nil when there was
// none.
func (a *models) experimentView(name string) *console.Experiment {
	e := (*a.studies.experiments.Load())[name]
	if e == nil {
		return nil
	}
	v := &console.Experiment{Name: e.Name, By: e.By, Started: e.Started, Counted: e.counted, Over: e.over, Outcome: e.outcome}
	sum := 0.0
	for _, arm := range e.Arms {
		sum += arm.Weight
	}
	control, embedded := -1, false
	tallies := make([]policy.ArmTally, len(e.Arms))
	for i, arm := range e.run.Arms {
		tallies[i] = arm.Tally()
		embedded = embedded || tallies[i].Answers > 0
		if !arm.Challenger {
			control = i
		}
	}
	for i, arm := range e.Arms {
		t := &tallies[i]
		out := console.Arm{
			Version: arm.Version, Weight: arm.Weight, Percent: 100 * arm.Weight / sum, Ended: arm.Ended, Away: e.run.Arms[i].Away(), Control: i == control,
			Requests: t.Requests, Failures: t.Failures, NotFinite: t.NotFinite,
			P50: t.P50.Seconds(), P95: t.P95.Seconds(), P99: t.P99.Seconds(),
		}
		if embedded {
			out.Answers, out.Mean, out.Variance = t.Answers, known(t.Mean), known(t.Variance)
		}
		if control >= 0 && i != control {
			if d, ok := policy.RateDifference(&tallies[control], t); ok {
				out.FailureDifference = (*console.Interval)(&d)
			}
			if d, ok := policy.MeanDifference(&tallies[control], t); ok && known(d.Low) != nil && known(d.High) != nil {
				out.MeanDifference = (*console.Interval)(&d)
			}
		}
		v.Arms = append(v.Arms, out)
	}
	return v
}

// studied says what a version is kept for beside answering, "" when for nothing.
func (a *models) studied(s *loader.Status) string {
	if b := (*a.studies.shadows.Load())[s.Model]; s.Beside > 0 && b != nil && b.info.Number == s.Number {
		d := b.Look()
		line := fmt.Sprintf("in shadow for %.4g %% of the queries: %d compared, %d without an answer of its own", s.Beside, d.Compared, d.NotFinite+d.Failed)
		if w := b.info.Shadow; s.State == loader.Shadow && w != nil && w.Queries > 0 {
			line += fmt.Sprintf(", %d are wanted without a fault", w.Queries)
		}
		return line
	}
	if e := (*a.studies.experiments.Load())[s.Model]; e != nil && !e.over {
		for _, arm := range e.Arms {
			if arm.Version == s.Number && arm.Ended == "" {
				return "experiment " + e.Name + " holds it"
			}
		}
	}
	return ""
}

// known is v where JSON can say it.
func known(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

// measureStudies makes shadows and experiments the source of r's gauges of them.
func (a *models) measureStudies(r *telemetry.Registry) {
	r.Gauges(telemetry.ModelShadowShare, a.perVersion(func(s *loader.Status, yield func(float64, ...string) bool) bool {
		return s.Beside == 0 || yield(s.Beside/100, s.Model, strconv.FormatUint(s.Number, 10))
	}))
	r.Gauges(telemetry.ModelShadowDifference, func(yield func(telemetry.Sample) bool) {
		for _, s := range a.studies.sortedShadows() {
			d := s.Look()
			for q, v := range map[string]float64{"0.5": d.Relative.P50, "0.9": d.Relative.P90, "0.99": d.Relative.P99, "1": d.Relative.Max} {
				if s.share.Load() != 0 && !yield(telemetry.Sample{Labels: []string{s.info.Model, strconv.FormatUint(s.info.Number, 10), q}, Value: v}) {
					return
				}
			}
		}
	})
	perArm := func(id telemetry.GaugesID, sample func(arm *console.Arm, yield func(v float64, labels ...string) bool) bool) {
		r.Gauges(id, func(yield func(telemetry.Sample) bool) {
			for _, model := range a.studies.sortedExperiments() {
				e := a.experimentView(model)
				if e == nil || e.Over {
					continue
				}
				for i := range e.Arms {
					if !sample(&e.Arms[i], func(v float64, labels ...string) bool {
						return yield(telemetry.Sample{Labels: append([]string{model, e.Name, strconv.FormatUint(e.Arms[i].Version, 10)}, labels...), Value: v})
					}) {
						return
					}
				}
			}
		})
	}
	type emit = func(v float64, labels ...string) bool
	perArm(telemetry.ExperimentShare, func(arm *console.Arm, yield emit) bool {
		if arm.Ended != "" {
			return yield(0)
		}
		return yield(arm.Percent / 100)
	})
	perArm(telemetry.ExperimentRequests, func(arm *console.Arm, yield emit) bool { return yield(float64(arm.Requests)) })
	perArm(telemetry.ExperimentFailures, func(arm *console.Arm, yield emit) bool { return yield(float64(arm.Failures)) })
	perArm(telemetry.ExperimentMean, func(arm *console.Arm, yield emit) bool {
		return arm.Answers == 0 || arm.Mean == nil || yield(*arm.Mean)
	})
	perArm(telemetry.ExperimentLatency, func(arm *console.Arm, yield emit) bool {
		return yield(arm.P50, "0.5") && yield(arm.P95, "0.95") && yield(arm.P99, "0.99")
	})
}
