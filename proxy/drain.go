package proxy

import (
	"time"

	"github.com/quadnine/quadnine/proxy/shard"
)

// DrainListeners stops taking connections, for good. What is open goes on as
// before.
func (s *Server) DrainListeners() {
	s.draining.Store(true)
	s.closeListeners()
}

// Leave asks callers to go elsewhere, each with its next reply, while connections
// are still taken: who sends callers here may be slow to learn of it. With stop,
// that ends after the given time: no connection is taken any more, and who is
// still there is asked too. It does nothing when it was called before.
func (s *Server) Leave(after time.Duration, stop bool) {
	if s.leaving.Swap(true) || !stop {
		return
	}
	l := s.loops[0]
	e := &leaveEnd{server: s}
	e.timer.To = e
	l.post(func() { l.shard.Arm(&e.timer, l.shard.Now()+int64(after)) })
}

// leaveEnd is when the time of Leave is over.
type leaveEnd struct {
	server *Server
	timer  shard.Timer
}

// Expire closes the listeners.
func (e *leaveEnd) Expire(*shard.Timer, int64) {
	e.server.DrainListeners()
	for _, l := range e.server.loops {
		l.post(l.drain)
	}
}

// leave asks the caller to go elsewhere, once.
func (c *downConn) leave() {
	if !c.draining {
		c.drain()
	}
}
