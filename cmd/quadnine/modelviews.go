package main

import (
	"cmp"
	"iter"
	"maps"
	"slices"

	"github.com/quadnine/quadnine/console"
	"github.com/quadnine/quadnine/loader"
)

// views yields every model for /models. Drops that belong to no known model stand
// under one without a name.
func (a *models) views() iter.Seq[console.Model] {
	return func(yield func(console.Model) bool) {
		held, drops := a.inBucket()
		for _, q := range a.loader.Quarantined() {
			drops[q.Model] = append(drops[q.Model], console.Quarantine{Drop: q.Drop, Reason: q.Reason})
		}
		waiting := make(map[string][]console.Version)
		for _, q := range a.loader.Waiting() {
			waiting[q.Model] = append(waiting[q.Model], console.Version{
				Number: q.Version, State: "waiting", Since: q.Since, Expect: "drop " + q.Drop + ": " + cmp.Or(q.Reason, "its turn comes when the one before it is decided"),
			})
		}
		metrics := make(map[string]string)
		for metric, m := range *a.byMetric.Load() {
			metrics[m.Name] = metric
		}
		names := a.loader.Models()
		for _, model := range slices.Sorted(maps.Keys(drops)) {
			if !slices.Contains(names, model) {
				names = append(names, model)
			}
		}
		for _, model := range slices.Sorted(maps.Keys(held)) {
			if !slices.Contains(names, model) {
				names = append(names, model)
			}
		}
		for _, name := range names {
			m := console.Model{Name: name, Mode: "routed", Metric: metrics[name], Quarantined: drops[name]}
			if m.Metric != "" {
				m.Mode = "embedded"
			}
			m.Shadow, m.Experiment = a.shadowView(name), a.experimentView(name)
			m.Store, m.Mappings = a.rooms(name)
			m.Versions = append(a.versionViews(name), waiting[name]...)
			for n, r := range a.loader.Refused(name) {
				m.Refused = append(m.Refused, console.Refused{Number: n, Reason: r.Reason, At: r.At})
			}
			m.Versions = append(m.Versions, without(held[name], &m)...)
			slices.SortFunc(m.Refused, func(a, b console.Refused) int { return cmp.Compare(a.Number, b.Number) })
			if !yield(m) {
				return
			}
		}
	}
}

func (a *models) versionViews(name string) []console.Version {
	all := a.loader.Versions(name)
	out := make([]console.Version, 0, len(all))
	canary := 0.0
	for _, s := range all {
		canary += s.Weight
	}
	for _, s := range all {
		v := console.Version{Number: s.Number, Root: s.Root.String(), State: s.State.String(), Since: s.Since, Leases: s.Leases, Weight: s.Weight, Durable: s.Durable}
		v.Narrower = narrower(all, &s)
		if s.State == loader.Active {
			v.Blocked = s.Blocked
			v.Weight = 100 - canary
		}
		if t := (*a.trials.Load())[name]; t != nil && t.canary == s.Number {
			e := t.judge.Look(a.now())
			v.Evidence, v.Expect = e.String(), a.expect(t, &e)
		}
		if why := a.studied(&s); why != "" {
			v.Expect = why
		}
		out = append(out, v)
	}
	return out
}

// lastPromoted returns the version of a model that was promoted last since the
// start, and on what evidence.
func (a *models) lastPromoted(name string) (number uint64, evidence string, ok bool) {
	t := (*a.trials.Load())[name]
	if t == nil {
		return 0, "", false
	}
	why := t.promoted.Load()
	if why == nil {
		return 0, "", false
	}
	return t.canary, *why, true
}

// lastRefused returns the newest version of a model that was taken back, and why.
func (a *models) lastRefused(name string) (number uint64, reason string, ok bool) {
	for n, r := range a.loader.Refused(name) {
		if n >= number {
			number, reason, ok = n, r.Reason, true
		}
	}
	return number, reason, ok
}
