package loader

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Errors that callers tell apart.
var (
	ErrNoExperiment  = errors.New("no such experiment is running")
	ErrBadExperiment = errors.New("experiment not possible")
)

// Experiment spreads a model's callers over versions that all keep serving: no
// verdict promotes or replaces one of them while it runs, and new drops wait. What
// gives NaN or an infinity is taken back all the same, which ends its arm.
type Experiment struct {
	Name    string    `json:"name"`
	By      string    `json:"by,omitempty"` // the request header whose value a caller is known by; empty: the user
	Started time.Time `json:"started"`
	Arms    []Arm     `json:"arms"`
}

// Arm is one version of an experiment.
type Arm struct {
	Version uint64  `json:"version"`
	Weight  float64 `json:"weight"`          // its share is weight over all weights
	Ended   string  `json:"ended,omitempty"` // why its callers go to the active version; empty: they do not
}

// Bounds of an experiment.
const maxWeight = 1e6

var (
	experimentName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	headerName     = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9a-z-]{1,64}$") // RFC 9110 section 5.1, in lower case as HTTP/2 has it
)

// arm returns the arm of a version, or nil.
func (e *Experiment) arm(version uint64) *Arm {
	if e == nil {
		return nil
	}
	if i := slices.IndexFunc(e.Arms, func(a Arm) bool { return a.Version == version }); i >= 0 {
		return &e.Arms[i]
	}
	return nil
}

// live counts the arms that have not ended.
func (e *Experiment) live() (n int) {
	for _, a := range e.Arms {
		if a.Ended == "" {
			n++
		}
	}
	return n
}

// clone returns a copy: what was handed out is never changed.
func (e *Experiment) clone() *Experiment {
	c := *e
	c.Arms = slices.Clone(e.Arms)
	return &c
}

// check reports what is wrong with what somebody asked for, by field.
func (e *Experiment) check() error {
	var errs []error
	wrong := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrBadExperiment}, args...)...))
	}
	if !experimentName.MatchString(e.Name) {
		wrong("name: %q: want letters, digits, dots, dashes and underscores, at most 64, a letter or digit first", e.Name)
	}
	if e.By != "" && !headerName.MatchString(e.By) {
		wrong("by: %q: want the name of a header in lower case", e.By)
	}
	if len(e.Arms) < 2 {
		wrong("arms: has %d, want two or more", len(e.Arms))
	}
	for i, a := range e.Arms {
		if !(a.Weight > 0 && a.Weight <= maxWeight) { // NaN is not
			wrong("arms[%d].weight: is %v: want more than 0, at most %v", i, a.Weight, maxWeight)
		}
		if slices.ContainsFunc(e.Arms[:i], func(b Arm) bool { return b.Version == a.Version }) {
			wrong("arms[%d].version: %d is there twice", i, a.Version)
		}
	}
	return errors.Join(errs...)
}

// StartExperiment begins an experiment over the active version and the canary, the
// standby, or both. An experiment of the same name that runs over the same
// versions gets the new weights and goes on. It is kept over a restart.
func (l *Loader) StartExperiment(ctx context.Context, model string, e Experiment) error {
	m, err := l.find(model)
	if err != nil {
		return err
	}
	e.Arms = slices.Clone(e.Arms)
	for i := range e.Arms {
		e.Arms[i].Ended = ""
	}
	if err := e.check(); err != nil {
		return fmt.Errorf("loader: %s: %w", model, err)
	}
	return l.call(ctx, func() error {
		m.mu.Lock()
		next, err := m.admitExperiment(&e)
		if err == nil {
			m.experiment = next
			m.publish()
		}
		m.mu.Unlock()
		if err != nil {
			return fmt.Errorf("loader: %s: %w", model, err)
		}
		l.tellExperiment(m, next, "runs")
		return l.save()
	})
}

// admitExperiment returns the experiment that e makes, given what is there. m.mu
// is held.
func (m *model) admitExperiment(e *Experiment) (*Experiment, error) {
	if old := m.experiment; old != nil {
		next := old.clone()
		same := old.Name == e.Name && old.By == e.By && old.live() == len(e.Arms)
		for _, a := range e.Arms {
			if arm := next.arm(a.Version); arm != nil && arm.Ended == "" {
				arm.Weight = a.Weight
			} else {
				same = false
			}
		}
		if !same {
			return nil, fmt.Errorf("%s: %w: only its weights can be changed while it runs; stop it first", old.Name, ErrExperiment)
		}
		return next, nil
	}
	if m.shadow != nil {
		return nil, fmt.Errorf("%w: %s is in shadow: end that first", ErrBadExperiment, &m.shadow.info)
	}
	if m.busy != nil && (m.canary == nil || e.arm(m.canary.info.Number) == nil) {
		return nil, fmt.Errorf("%w: %s@%d is being brought in or tried: make it an arm, or wait until it is decided", ErrBadExperiment, m.name, m.busy.mf.Version)
	}
	for i, a := range e.Arms {
		if m.serving(a.Version) == nil {
			return nil, fmt.Errorf("%w: arms[%d].version: %d: %w", ErrBadExperiment, i, a.Version, ErrNotServing)
		}
	}
	if m.active == nil || e.arm(m.active.info.Number) == nil {
		return nil, fmt.Errorf("%w: arms: the active version is not among them: callers of an arm that ends go to it, so it has to be one", ErrBadExperiment)
	}
	next := e.clone()
	next.Started = now()
	return next, nil
}

// serving returns the active version, the canary or the standby of that number, or
// nil. m.mu is held.
func (m *model) serving(number uint64) *Version {
	for _, v := range []*Version{m.active, m.canary, m.standby} {
		if v != nil && v.info.Number == number {
			return v
		}
	}
	return nil
}

// StopExperiment ends an experiment. With a winner that version becomes the active
// one, and a canary that is not it is taken back; without, versions stay what they
// are, and the canary is tried again from the start.
func (l *Loader) StopExperiment(ctx context.Context, model, name string, winner uint64) error {
	m, err := l.find(model)
	if err != nil {
		return err
	}
	return l.call(ctx, func() error { return l.stopExperiment(m, name, winner) })
}

func (l *Loader) stopExperiment(m *model, name string, winner uint64) error {
	m.mu.Lock()
	e := m.experiment
	if e == nil || e.Name != name {
		m.mu.Unlock()
		return fmt.Errorf("loader: %s: %s: %w", m.name, name, ErrNoExperiment)
	}
	if a := e.arm(winner); winner != 0 && (a == nil || a.Ended != "" || m.serving(winner) == nil) {
		m.mu.Unlock()
		return fmt.Errorf("loader: %s: %s: %w: winner %d is none of its arms that still serve", m.name, name, ErrBadExperiment, winner)
	}
	loser, won := m.endExperiment(), m.serving(winner)
	m.mu.Unlock()
	why := "stopped"
	if winner != 0 {
		why = fmt.Sprintf("stopped: version %d won", winner)
	}
	l.tellExperiment(m, e, why)
	var errs []error
	if won != nil && loser != nil && loser != won {
		errs = append(errs, l.lose(m, loser, fmt.Sprintf("experiment %s was won by version %d", name, winner)))
	}
	if won != nil && won.state != Active {
		errs = append(errs, l.promote(m, won, "won experiment "+name))
	}
	errs = append(errs, l.save())
	l.next(m)
	return errors.Join(errs...)
}

// endExperiment takes the experiment away and returns the canary, whose trial
// begins anew. m.mu is held.
func (m *model) endExperiment() (canary *Version) {
	m.experiment = nil
	if m.canary != nil {
		m.canary.entered, m.canary.judged = now(), time.Time{}
	}
	m.publish()
	return m.canary
}

// lose takes a canary back whose experiment another version won.
func (l *Loader) lose(m *model, v *Version, reason string) error {
	bad, to, err := l.rollback(m, v.info.Number, reason)
	if err != nil {
		return err
	}
	l.opts.TakenBack(&bad.info, &to.info, reason, false)
	l.rolledBack(m, bad, reason)
	return nil
}

// endArm notes that an arm's version is gone; with fewer than two left the
// experiment is over.
func (l *Loader) endArm(m *model, version uint64, reason string) {
	m.mu.Lock()
	a := m.experiment.arm(version)
	if a == nil || a.Ended != "" {
		m.mu.Unlock()
		return
	}
	e := m.experiment.clone()
	e.arm(version).Ended = strings.TrimSpace(reason)
	over := e.live() < 2
	if m.experiment = e; over {
		m.endExperiment()
	}
	m.mu.Unlock()
	if over {
		l.tellExperiment(m, e, fmt.Sprintf("over: version %d is gone (%s), and one arm is no experiment", version, reason))
	} else {
		l.tellExperiment(m, e, fmt.Sprintf("goes on without version %d (%s), whose callers go to the active one", version, reason))
	}
}

func (l *Loader) tellExperiment(m *model, e *Experiment, what string) {
	l.events.emit(Event{Kind: EventExperiment, Model: m.name, Reason: e.Name + " " + what})
	m.mu.Lock()
	m.outcome = what
	m.mu.Unlock()
	l.changed(m)
}

// running says that an experiment is in the way of another active version, or nil.
// m.mu is not held.
func (m *model) running() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.experiment; e != nil {
		return fmt.Errorf("loader: %s: %s: %w: stop it first", m.name, e.Name, ErrExperiment)
	}
	return nil
}

// held says why a model's next drop has to wait though none is undecided, or nil.
func (m *model) held(d *drop) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.experiment
	if e == nil {
		return nil
	}
	if a := e.arm(d.mf.Version); a != nil && a.Ended == "" && d.stored != nil {
		return nil // an arm that comes back after a restart
	}
	return fmt.Errorf("%s: %w: it waits until that is stopped", e.Name, ErrExperiment)
}

// arms reports whether v is an arm that has not ended. m.mu is not held.
func (m *model) arms(v *Version) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.experiment.arm(v.info.Number)
	return a != nil && a.Ended == ""
}

// shares returns what each live arm has of an experiment's callers, in percent. The
// arms that ended keep theirs, which goes to the active version.
func (e *Experiment) shares() map[uint64]float64 {
	sum := 0.0
	for _, a := range e.Arms {
		sum += a.Weight
	}
	out := make(map[uint64]float64, len(e.Arms))
	for _, a := range e.Arms {
		out[a.Version] = math.Round(a.Weight/sum*1e8) / 1e6
	}
	return out
}
