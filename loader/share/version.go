package share

import (
	"fmt"
	"slices"
	"time"

	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/loader/wire"
)

// group is one model: its versions and who shares them. Guarded by Server.mu.
type group struct {
	name     string
	versions []*version // in the order in which they came
	sessions map[*session]struct{}

	active, canary, standby *version

	share uint64
}

// version is a version that is shown. Guarded by Server.mu.
type version struct {
	shared  *loader.Shared
	group   *group
	holders map[*session]phase    // who may map it
	asked   map[*session]struct{} // who waits until it is built
	waits   map[*session]struct{} // whose Ready the loader waits for
	decided func(error)           // nil once the loader was told
	vetoed  bool                  // it was told that a client found it wrong
	gone    func()                // set when it is out of use
	reclaim *time.Timer
	began   time.Time // when it was offered
	pack    pack
	working bool // on pack
}

// phase is how far a client is with a version.
type phase uint8

const (
	shown phase = iota + 1 // it was told of it
	ready                  // it has mapped and checked it
)

func (v *version) number() uint64 { return v.shared.Info().Number }

// event is one about v.
func (v *version) event(k loader.Kind, reason string) loader.Event {
	i := v.shared.Info()
	return loader.Event{Kind: k, Model: i.Model, Version: i.Number, Drop: i.Drop, Reason: reason}
}

// group returns a model's group, which is made when missing. s.mu is held.
func (s *Server) group(name string) *group {
	g := s.groups[name]
	if g == nil {
		g = &group{name: name, sessions: make(map[*session]struct{})}
		s.groups[name] = g
	}
	return g
}

// version returns what stands for a loader's version; one that is new is shown to
// all who share the model. nil is nil. s.mu is held.
func (s *Server) version(of *loader.Shared) *version {
	if of == nil {
		return nil
	}
	g := s.group(of.Info().Model)
	if i := slices.IndexFunc(g.versions, func(v *version) bool { return v.shared == of }); i >= 0 {
		return g.versions[i]
	}
	v := &version{
		shared: of, group: g, holders: make(map[*session]phase), asked: make(map[*session]struct{}), waits: make(map[*session]struct{}),
	}
	g.versions = append(g.versions, v)
	for n := range g.sessions {
		s.give(n, v)
	}
	return v
}

// Offer implements loader.Sharer. Clients that come later are shown the version,
// too, but are not waited for: a stream of new ones must not hold it up.
func (s *Server) Offer(of *loader.Shared, decided func(error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		decided(nil)
		return
	}
	v := s.version(of)
	v.decided, v.began = decided, now()
	for n := range v.group.sessions {
		if v.holders[n] == ready {
			continue
		}
		v.waits[n] = struct{}{}
		if _, building := v.asked[n]; !building || n.hasOther(v) { // else give does it, once there is something to map
			s.limit(n, v)
		}
	}
	s.decide(v)
}

// decide tells the loader to go on with v once nobody is waited for. s.mu is held.
func (s *Server) decide(v *version) {
	if v.decided == nil || len(v.waits) > 0 {
		return
	}
	v.decided(nil)
	v.decided = nil
	if len(v.holders) > 0 && !s.closed {
		ev := v.event(loader.EventShared, fmt.Sprintf("ready in %d processes", len(v.holders)))
		ev.Began, ev.Bytes = v.began, v.shared.Info().Size
		s.emit(ev)
	}
}

// veto has the loader put v aside. s.mu is held.
func (s *Server) veto(v *version, err error) {
	v.decided(err)
	v.decided, v.vetoed = nil, true
	clear(v.waits)
}

// Published implements loader.Sharer.
func (s *Server) Published(model string, now loader.Serving) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	g := s.group(model)
	g.active, g.canary, g.standby, g.share = s.version(now.Active), s.version(now.Canary), s.version(now.Standby), now.Share
	for n := range g.sessions {
		s.sync(n)
	}
	s.tidy(g)
}

// sync tells a client which versions answer, as far as it has them: what it does
// not have yet does not take the place of what it has. s.mu is held.
func (s *Server) sync(n *session) {
	g := n.group
	has := func(v *version) bool { return v != nil && v.gone == nil && v.holders[n] == ready }
	now, active := n.last, n.active
	switch {
	case has(g.active):
		active = g.active
		now = wire.Switch{Active: active.number()}
		if has(g.canary) {
			now.Canary, now.Share = g.canary.number(), g.share
		}
	case !has(active):
		active, now = nil, wire.Switch{}
	case !has(g.canary) || g.canary.number() != now.Canary:
		now.Canary, now.Share = 0, 0
	}
	n.active = active
	if now != n.last {
		n.last = now
		n.send(item{b: now.Append(nil)})
	}
}

// Withdraw implements loader.Sharer.
func (s *Server) Withdraw(of *loader.Shared, gone func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		gone()
		return
	}
	v := s.version(of)
	v.gone, v.decided = gone, nil
	clear(v.asked)
	clear(v.waits)
	for n := range v.group.sessions {
		n.stopTimer(v)
	}
	for n := range v.holders {
		if !n.closed {
			s.sync(n) // first to another one
			n.send(item{b: wire.Release{Version: v.number(), Within: s.opts.Reclaim}.Append(nil)})
		}
	}
	if len(v.holders) > 0 {
		v.reclaim = time.AfterFunc(s.opts.Reclaim, func() { s.revoke(v) })
	}
	s.settle(v)
}

// settle ends v when it is out of use and nobody maps it. s.mu is held.
func (s *Server) settle(v *version) {
	if v.gone == nil || len(v.holders) > 0 {
		return
	}
	if v.reclaim != nil {
		v.reclaim.Stop()
	}
	v.gone()
	v.gone = func() {} // it stays out of use
	g := v.group
	g.versions = slices.DeleteFunc(g.versions, func(o *version) bool { return o == v })
	if !v.working {
		v.close(s)
	}
	s.tidy(g)
}

// tidy forgets a model that nobody asks for. s.mu is held.
func (s *Server) tidy(g *group) {
	if len(g.versions) == 0 && len(g.sessions) == 0 {
		delete(s.groups, g.name)
	}
}

// revoke cuts off who still maps a version that is out of use.
func (s *Server) revoke(v *version) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	for n := range v.holders {
		size := v.shared.Info().Size
		ev := v.event(loader.EventHeld, fmt.Sprintf("held by pid %d: %d bytes", n.proc.pid, size))
		ev.Bytes = size
		s.emit(ev)
		s.detach(n, fmt.Sprintf("did not let go of version %d within %v", v.number(), s.opts.Reclaim), wire.AppendNumber(nil, wire.TypeRevoked, v.number()))
	}
}
