package share

import (
	"slices"
	"time"
)

// watch looks at processes whose connection ended while they mapped something,
// until they do not, or have ended.
func (s *Server) watch() {
	t := time.NewTimer(time.Hour)
	defer t.Stop()
	for {
		select {
		case <-s.done:
			return
		case <-s.kick:
		case <-t.C:
		}
		if s.look() {
			t.Reset(pollEvery)
		}
	}
}

// look reports whether somebody is left to look at.
func (s *Server) look() bool {
	s.mu.Lock()
	all := make([]*session, 0, len(s.orphans))
	for n := range s.orphans {
		all = append(all, n)
	}
	s.mu.Unlock()
	// The mark is a process's, not a connection's: of those that it has lost one is
	// kept for each version, or a process that comes back all the time would take
	// everybody's place. Both are seen alive here, so one number is one process.
	type hold struct {
		pid int32
		v   *version
	}
	seen := make(map[hold]bool)
	for _, n := range all {
		marks, known := n.proc.marks()
		over := n.proc.ended() // asked last: what was read was this process's
		s.mu.Lock()
		left := false
		for _, v := range slices.Clone(n.group.versions) {
			if _, ok := v.holders[n]; !ok {
				continue
			}
			if over || known && !marks[v.pack.mark] {
				delete(v.holders, n)
				s.settle(v)
				continue
			}
			h := hold{n.proc.pid, v}
			if seen[h] {
				delete(v.holders, n) // another one holds it on
				continue
			}
			seen[h], left = true, true
		}
		if !left {
			s.forget(n)
		}
		s.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.orphans) > 0
}

// forget ends the look at a process. s.mu is held.
func (s *Server) forget(n *session) {
	delete(s.orphans, n)
	n.proc.close()
	s.tidy(n.group)
}
