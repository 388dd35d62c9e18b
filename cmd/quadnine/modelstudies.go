package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/loader/model"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/proxy"
	"github.com/quadnine/quadnine/telemetry"
)

// studies is what models' versions are used for beside answering: what is computed
// in shadow, and experiments. Those that are over stay until the next one.
type studies struct {
	shadows     atomic.Pointer[map[string]*shadow]     // by model; replaced as a whole by the loader's goroutine
	experiments atomic.Pointer[map[string]*experiment] // likewise

	queue   chan shadowQuery
	numbers atomic.Int64 // of the queries of several rows in queue
	done    chan struct{}
	wg      sync.WaitGroup
}

// Bounds of the queries that wait to be computed in shadow.
const (
	maxShadowQueue   = 1024
	maxShadowNumbers = 1 << 20 // of queries of several rows, 8 MiB
)

// shadow is a version in shadow: what a query's answer is compared with.
type shadow struct {
	policy.Comparison

	of      *models
	info    *loader.Info
	version *proxy.ModelVersion
	active  uint64 // the version that it is compared with
	began   time.Time
	share   atomic.Uint64 // of 1<<32 queries; 0: it is over
}

// shadowQuery is one query that is to be computed in shadow.
type shadowQuery struct {
	by     *shadow
	tenant string
	n      int
	values [proxy.MaxInputs]float64
	answer float64

	rows, answers []float64 // of a query of several rows, in place of the two; nil otherwise
}

// experiment is one as it is known to requests and to the console.
type experiment struct {
	loader.Experiment

	run     *proxy.Experiment
	counted time.Time // since when
	outcome string
	over    bool
}

func (s *studies) init() {
	s.shadows.Store(&map[string]*shadow{})
	s.experiments.Store(&map[string]*experiment{})
	s.queue, s.done = make(chan shadowQuery, maxShadowQueue), make(chan struct{})
}

// Offer implements proxy.Shadow. What there is no room for is counted and left
// out: the caller's answer waits for nothing.
func (s *shadow) Offer(tenant string, by *proxy.ModelVersion, rows, answers []float64) {
	if by.Number != s.active || uint64(rand.Uint32()) >= s.share.Load() {
		return // just after a switch another version answers than the one it is compared with
	}
	if by.Rows != s.version.Rows { // after a rollback: it answers other queries
		s.skip(policy.SkipInputs)
		return
	}
	q := shadowQuery{by: s, tenant: tenant, n: len(s.version.Inputs)}
	var at [proxy.MaxInputs]int
	for i := range q.n {
		if at[i] = inputOf(by, s.version, i); at[i] < 0 {
			s.skip(policy.SkipInputs)
			return
		}
	}
	if len(answers) == 1 {
		q.answer = answers[0]
		for i := range q.n {
			q.values[i] = rows[at[i]]
		}
	} else if !s.take(&q, len(by.Inputs), at[:q.n], rows, answers) {
		s.skip(policy.SkipBusy)
		return
	}
	select {
	case s.of.studies.queue <- q:
	default:
		s.of.studies.numbers.Add(-q.numbers())
		s.skip(policy.SkipBusy)
	}
}

// take copies the rows of a query of several, each of wide values of which at says
// which ones are wanted. It reports false when too many numbers wait.
func (s *shadow) take(q *shadowQuery, wide int, at []int, rows, answers []float64) bool {
	n := len(answers)
	if s.of.studies.numbers.Add(int64(n*(len(at)+1))) > maxShadowNumbers {
		s.of.studies.numbers.Add(-int64(n * (len(at) + 1)))
		return false
	}
	q.answers, q.rows = slices.Clone(answers), make([]float64, 0, n*len(at))
	for r := range n {
		for _, i := range at {
			q.rows = append(q.rows, rows[r*wide+i])
		}
	}
	return true
}

// numbers is how many the query holds of what maxShadowNumbers bounds.
func (q *shadowQuery) numbers() int64 { return int64(len(q.rows) + len(q.answers)) }

// inputOf returns which of have's inputs is input i of wants, or -1.
func inputOf(have, wants *proxy.ModelVersion, i int) int {
	for at, name := range have.Inputs {
		// Names are for people: "a.b" may be field b of a, or all of metric a.b.
		if h, w := have.Source(at), wants.Source(i); name == wants.Inputs[i] && h.Metric == w.Metric && h.Field == w.Field && h.Meaning == w.Meaning {
			return at
		}
	}
	return -1
}

func (s *shadow) skip(why policy.Skip) {
	s.Skipped(why)
	s.of.registry.Count(telemetry.ShadowSkipped[why], 1)
}

// computeShadows computes what queries offer, on a thread of the lowest priority,
// until the models are closed.
func (a *models) computeShadows() {
	for lowered := false; ; {
		select {
		case <-a.studies.done:
			return
		case q := <-a.studies.queue:
			if !lowered { // without anything in shadow it takes no thread
				loader.Lowest()
				lowered = true
			}
			a.computeShadow(&q)
		}
	}
}

func (a *models) computeShadow(q *shadowQuery) {
	defer a.studies.numbers.Add(-q.numbers())
	lease, err := a.loader.AcquireShadow(q.by.info.Model, q.by.info.Number)
	if err != nil {
		q.by.skip(policy.SkipGone)
		return
	}
	defer lease.Release()
	equal, err := q.compute()
	switch {
	case errors.Is(err, model.ErrNotFinite):
		q.by.NotFinite(q.tenant)
		a.registry.Count(telemetry.ShadowNotFinite, 1)
	case err != nil:
		q.by.Failed(q.tenant)
		a.registry.Count(telemetry.ShadowFailed, 1)
	default:
		id := telemetry.ShadowDifferent
		if equal {
			id = telemetry.ShadowEqual
		}
		a.registry.Count(id, 1)
	}
}

// compute computes a query once more, as it was computed, and compares the answers.
func (q *shadowQuery) compute() (equal bool, err error) {
	if q.rows == nil {
		got, err := evaluate(q.by.version, q.values[:q.n])
		if err == nil {
			q.by.Compare(q.tenant, q.answer, got)
		}
		return got == q.answer, err
	}
	got := make([]float64, len(q.answers))
	if err := evaluateRows(q.by.version, q.rows, got); err != nil {
		return false, err
	}
	q.by.CompareRows(q.tenant, q.answers, got)
	return slices.Equal(got, q.answers), nil
}

// evaluate runs a version's evaluation; a panic is its error.
func evaluate(v *proxy.ModelVersion, values []float64) (float64, error) {
	return evaluateContext(context.Background(), v, values)
}

// evaluateContext is evaluate that ctx ends.
func evaluateContext(ctx context.Context, v *proxy.ModelVersion, values []float64) (got float64, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("evaluating %s: defect: %v", v.Name, p)
		}
	}()
	return v.EvalContext(ctx, values)
}

// evaluateRows is evaluate for all rows of a query, in one call.
func evaluateRows(v *proxy.ModelVersion, rows, out []float64) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("evaluating %s: defect: %v", v.Name, p)
		}
	}()
	return v.EvalRows(rows, out)
}

// canShadow says why a version cannot be computed beside the active one, for
// loader.Options.
func canShadow(shadow, active any) error {
	s, ok := shadow.(*proxy.ModelVersion)
	a, ok2 := active.(*proxy.ModelVersion)
	if !ok || !ok2 || s.Eval == nil || a.Eval == nil {
		return errors.New("the upstream computes it: there is nothing to compute here")
	}
	if s.Rows != a.Rows {
		return fmt.Errorf("eval.rows: it is %q, that of %s is %q, so it answers other queries: try it as a canary", s.Rows, a.Name, a.Rows)
	}
	for i, name := range s.Inputs {
		if !slices.Contains(a.Inputs, name) {
			return fmt.Errorf("eval.input: it wants %s, which %s is not computed from: try it as a canary", name, a.Name)
		}
		if inputOf(a, s, i) < 0 {
			return fmt.Errorf("eval.schema.%s: it makes another number of %s than %s does: try it as a canary", s.Names[i], name, a.Name)
		}
	}
	return nil
}

// compared says whether a version in shadow was compared often enough, and without
// a fault, for loader.Options.
func (a *models) compared(info *loader.Info) bool {
	s := (*a.studies.shadows.Load())[info.Model]
	if s == nil || s.info.Number != info.Number {
		return false
	}
	d := s.Look()
	return d.Compared >= uint64(info.Shadow.Queries) && d.NotFinite == 0 && d.Failed == 0
}

// changed takes note of what a model's versions are used for, for loader.Options.
func (a *models) changed(s loader.Study) {
	a.changeShadow(&s)
	a.changeExperiment(&s)
}

func (a *models) changeShadow(s *loader.Study) {
	old := (*a.studies.shadows.Load())[s.Model]
	if s.Shadow == nil {
		if old != nil {
			old.share.Store(0)
		}
		return
	}
	share := max(uint64(math.Round(s.Percent/100*(1<<32))), 1)
	if old != nil && old.info.Number == s.Shadow.Number && old.active == s.Active && old.share.Load() != 0 {
		old.share.Store(share)
		return
	}
	version, ok := s.Prepared.(*proxy.ModelVersion)
	if !ok {
		return
	}
	if old != nil {
		old.share.Store(0)
	}
	if t := (*a.trials.Load())[s.Model]; t != nil && t.canary == s.Shadow.Number {
		a.untry(s.Model)
	}
	next := &shadow{of: a, info: s.Shadow, version: version, active: s.Active, began: time.Now()}
	next.share.Store(share)
	all := maps.Clone(*a.studies.shadows.Load())
	all[s.Model] = next
	a.studies.shadows.Store(&all)
}

func (a *models) changeExperiment(s *loader.Study) {
	old := (*a.studies.experiments.Load())[s.Model]
	m := a.Named(s.Model)
	if m == nil || s.Experiment == nil && (old == nil || old.over) {
		return
	}
	next := &experiment{Experiment: loader.Experiment{}, outcome: s.Outcome, counted: time.Now()}
	if s.Experiment == nil {
		next.Experiment, next.run, next.counted, next.over = old.Experiment, old.run, old.counted, true
	} else {
		next.Experiment = *s.Experiment
		next.run = runOf(s, old)
		if old != nil && !old.over && old.run.Arms[0] == next.run.Arms[0] {
			next.counted = old.counted
		}
		for i, arm := range next.Arms {
			next.run.Arms[i].SetAway(arm.Ended != "" || !slices.Contains(s.Serving, arm.Version))
		}
	}
	all := maps.Clone(*a.studies.experiments.Load())
	all[s.Model] = next
	a.studies.experiments.Store(&all)
	if next.over || old == nil || old.over {
		a.untry(s.Model)
	}
	if next.over {
		m.SetExperiment(nil)
	} else {
		m.SetExperiment(next.run)
	}
}

// untry forgets a model's trial: its canary is no sample for a while, and is tried
// from the start after it.
func (a *models) untry(model string) {
	if trials := *a.trials.Load(); trials[model] != nil {
		left := maps.Clone(trials)
		delete(left, model)
		a.trials.Store(&left)
	}
}

// runOf returns the experiment as requests see it. What was counted goes on while
// neither arms nor weights change: with other weights the arms would have been
// filled at different times, and a difference between times would pass for one
// between versions.
func runOf(s *loader.Study, old *experiment) *proxy.Experiment {
	e := s.Experiment
	if old != nil && !old.over && old.Name == e.Name && old.Started.Equal(e.Started) && slices.EqualFunc(old.Arms, e.Arms, func(a, b loader.Arm) bool {
		return a.Version == b.Version && a.Weight == b.Weight
	}) {
		return old.run
	}
	arms, weights := make([]*proxy.Arm, len(e.Arms)), make([]float64, len(e.Arms))
	for i, arm := range e.Arms {
		arms[i], weights[i] = &proxy.Arm{Version: arm.Version, Challenger: arm.Version != s.Active}, arm.Weight
	}
	return proxy.NewExperiment(e.Name, salt(s.Model+"\x00"+e.Name), e.By, arms, weights)
}

// away has the callers of a version that was just taken back go to the active one,
// before the loader has told so.
func (a *models) away(model string, version uint64) {
	if e := (*a.studies.experiments.Load())[model]; e != nil && !e.over {
		for _, arm := range e.run.Arms {
			if arm.Version == version {
				arm.SetAway(true)
			}
		}
	}
}

// sortedShadows and sortedExperiments are for gauges, by model.
func (s *studies) sortedShadows() []*shadow {
	return slices.SortedFunc(maps.Values(*s.shadows.Load()), func(a, b *shadow) int { return cmp.Compare(a.info.Model, b.info.Model) })
}

func (s *studies) sortedExperiments() []string {
	return slices.Sorted(maps.Keys(*s.experiments.Load()))
}
