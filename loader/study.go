package loader

// Study is what a model's versions are used for beside answering, as it is told to
// Options.Changed.
type Study struct {
	Model      string
	Shadow     *Info   // the version in shadow; nil: none
	Prepared   any     // what Options.Prepare made of it
	Percent    float64 // of the queries, for the shadow
	Experiment *Experiment
	Outcome    string   // what was said of the experiment last, also when it is over
	Active     uint64   // the number of the active version; 0: there is none
	Serving    []uint64 // the versions that a lease can be had on
}

// changed tells what a model's versions are used for now. It runs on the loader's
// goroutine, or before that is there.
func (l *Loader) changed(m *model) {
	s := Study{Model: m.name}
	m.mu.Lock()
	if v := m.shadow; v != nil {
		s.Shadow, s.Prepared, s.Percent = &v.info, v.prepared, m.percent
	}
	if m.experiment != nil {
		s.Experiment = m.experiment.clone()
	}
	s.Outcome = m.outcome
	for _, v := range []*Version{m.active, m.canary, m.standby} {
		if v != nil {
			s.Serving = append(s.Serving, v.info.Number)
		}
	}
	if m.active != nil {
		s.Active = m.active.info.Number
	}
	m.mu.Unlock()
	l.opts.Changed(s)
}

// restudy goes on after a restart with what state.json says of shadow and
// experiment. Arms of which nothing is left end.
func (l *Loader) restudy(m *model) {
	m.mu.Lock()
	if h, v := m.byHand, m.standby; h != nil && h.Percent > 0 && v != nil && v.info.Number == h.Version && l.opts.Comparable(v.prepared, m.active.prepared) == nil {
		m.shadow, m.percent = v, h.Percent
		m.publish()
	}
	var lost []uint64
	if e := m.experiment; e != nil {
		for _, a := range e.Arms {
			if m.serving(a.Version) == nil && !l.requeued(m.name, a.Version) {
				lost = append(lost, a.Version)
			}
		}
	}
	m.mu.Unlock()
	for _, n := range lost {
		l.endArm(m, n, "it could not be brought back at the start")
	}
	l.changed(m)
}

// requeued reports whether a version is in the store and waits to be tried.
func (l *Loader) requeued(model string, version uint64) bool {
	for _, d := range l.drops {
		if d.stored != nil && d.mf.Model == model && d.mf.Version == version {
			return true
		}
	}
	return false
}
