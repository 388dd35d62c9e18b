package control

import (
	"context"
	"maps"
	"slices"
	"time"
)

// settleFor bounds how long a step of a change waits for the nodes to take the
// step before. A node that is slower gets the steps in the same order.
const settleFor = 500 * time.Millisecond

// Reload reads the directory and serves it. What is not valid as a whole changes
// nothing, and is the error.
func (s *Server) Reload(ctx context.Context) error {
	s.load.Lock()
	defer s.load.Unlock()
	set, err := s.loader.Load(s.dir)
	s.mu.Lock()
	now := time.Now()
	s.counts.reloads++
	if err != nil {
		if s.counts.failures++; s.problem == nil {
			s.failing = now
		}
		s.problem = err
		s.mu.Unlock()
		return err
	}
	s.problem, s.failing = nil, time.Time{}
	s.set, s.loaded = set, now
	s.mu.Unlock()
	s.push(ctx, set)
	return nil
}

// change is what a push does to a kind of a group.
type change struct {
	group string
	kind  Kind
	set   []*Resource
	gone  []string
}

// push makes what is served equal to set: first what is new or changed, in the
// order of the kinds, then what is gone, in reverse. So nothing names what is
// not there. Nodes that follow see each step before the next one.
func (s *Server) push(ctx context.Context, set *Set) {
	s.mu.Lock()
	s.regroup(set)
	plan := s.plan(set)
	s.mu.Unlock()

	type step struct {
		kinds []Kind
		gone  bool
	}
	steps := []step{
		{kinds: []Kind{Secrets, Clusters, Endpoints}},
		{kinds: []Kind{Listeners, Routes, Runtime}},
		{kinds: []Kind{Listeners, Routes, Clusters, Endpoints, Runtime, Secrets}, gone: true},
	}
	var before []Kind // that the step before has changed
	for _, step := range steps {
		var changed []Kind
		for _, k := range step.kinds {
			if plan.touches(k, step.gone) {
				changed = append(changed, k)
			}
		}
		if len(changed) == 0 {
			continue
		}
		s.settle(ctx, before)
		s.mu.Lock()
		for _, k := range changed {
			s.apply(plan, k, step.gone)
		}
		s.mu.Unlock()
		before = changed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.groups {
		if set.Group(name) == nil {
			delete(s.groups, name)
		}
	}
	s.regroup(set)
}

type plan []change

func (p plan) touches(k Kind, gone bool) bool {
	for _, c := range p {
		if c.kind == k && (gone && len(c.gone) > 0 || !gone && len(c.set) > 0) {
			return true
		}
	}
	return false
}

// regroup makes the states of new groups, which begin with what everybody else
// has, and moves the streams to the groups that they belong to now. A group that
// is gone from the set still has its streams until it has become like the rest.
func (s *Server) regroup(set *Set) {
	for _, g := range set.Groups {
		if s.groups[g.Name] != nil {
			continue
		}
		state := new(groupState)
		for k := range state.history {
			state.history[k] = make(map[string]*history)
			if base := s.groups[""]; base != nil {
				for name, h := range base.history[k] {
					twin := *h
					twin.accepted = slices.Clone(h.accepted)
					if h.bad != nil {
						bad := *h.bad
						bad.nodes = maps.Clone(bad.nodes)
						twin.bad = &bad
					}
					state.history[k][name] = &twin
				}
			}
		}
		s.groups[g.Name] = state
	}
	for _, n := range s.nodes {
		n.group = groupOf(sortedKeys(s.groups), n.id, n.cluster)
	}
	for _, st := range s.streams {
		if st.node == nil || st.group == st.node.group {
			continue
		}
		st.group = st.node.group
		for k := range st.kinds {
			if st.kinds[k].asked {
				st.kinds[k].held = s.newcomer(st, Kind(k))
			}
		}
	}
	for _, k := range Kinds() {
		s.relane(k)
	}
}

// plan compares what is served with set. A group that is gone from it becomes
// like everybody else's.
func (s *Server) plan(set *Set) (out plan) {
	for _, name := range sortedKeys(s.groups) {
		g := set.Group(name)
		if g == nil {
			g = set.Groups[0]
		}
		for _, k := range Kinds() {
			c := change{group: name, kind: k}
			have := s.groups[name].history[k]
			for _, r := range g.Resources(k) {
				if h := have[r.Name]; h == nil || h.latest.Version != r.Version {
					c.set = append(c.set, r)
				} else {
					h.latest = r // it says the same, and may stand elsewhere
				}
			}
			for _, name := range sortedKeys(have) {
				if g.Get(k, name) == nil {
					c.gone = append(c.gone, name)
				}
			}
			out = append(out, c)
		}
	}
	return out
}

// apply does to a kind what the plan says, in all groups.
func (s *Server) apply(p plan, kind Kind, gone bool) {
	for _, c := range p {
		if c.kind != kind {
			continue
		}
		have := s.groups[c.group].history[kind]
		var names []string
		if gone {
			for _, name := range c.gone {
				delete(have, name)
			}
			names = c.gone
		} else {
			for _, r := range c.set {
				if h := have[r.Name]; h != nil {
					h.latest, h.bad = r, nil
				} else {
					have[r.Name] = &history{latest: r}
				}
				names = append(names, r.Name)
			}
		}
		for key, l := range s.lanes {
			if key.group != c.group || key.kind != kind {
				continue
			}
			if err := l.update(names, have); err != nil {
				s.log.Error("a change does not reach every node", "type", kind.String(), "err", err)
			}
		}
	}
	s.relane(kind)
}

// settle waits until every stream has answered what it was sent of the kinds,
// and asks for the assignments of all its clusters.
func (s *Server) settle(ctx context.Context, changed []Kind) {
	if len(changed) == 0 {
		return
	}
	timer := time.NewTimer(settleFor)
	defer timer.Stop()
	for {
		s.mu.Lock()
		done, wake := s.settled(changed), s.wake
		s.mu.Unlock()
		if done {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case <-wake:
		}
	}
}

func (s *Server) settled(changed []Kind) bool {
	for _, st := range s.streams {
		for _, k := range changed {
			if has := &st.kinds[k]; has.fired || len(has.unsaid) > 0 {
				return false
			}
			if k == Clusters && !s.followed(st) {
				return false
			}
		}
	}
	return true
}

// followed reports whether a stream has the assignments of all clusters that it
// was sent.
func (s *Server) followed(st *stream) bool {
	if !st.kinds[Clusters].asked {
		return true
	}
	has := &st.kinds[Endpoints]
	if has.fired || len(has.unsaid) > 0 {
		return false
	}
	g := s.groups[st.group]
	for _, h := range g.history[Clusters] {
		name := h.latest.refs.assignment
		if name != "" && h.bad == nil && g.history[Endpoints][name] != nil && !has.names[name] {
			return false
		}
	}
	return true
}
