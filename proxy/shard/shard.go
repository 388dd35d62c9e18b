package shard

import (
	"sync/atomic"
	"time"
)

// Shard is one event loop. Start it with Run on a goroutine of its own.
type Shard struct {
	ID int

	driver Driver
	poller *poller // nil until a socket needs it
	box    mailbox
	wheel  wheel
	origin time.Time
	now    int64 // ns since origin, read once per wake-up
	dirty  *Conn // connections to flush at the end of this wake-up
	ended  bool  // a connection was closed since the hooks ran
	conns  map[*Conn]struct{}
	load   atomic.Int64 // connections owned, for the acceptor

	stopping bool
	stopMail Mail
	done     chan struct{}
	hooks    []func() // run before each flush: outcomes are handed over once per batch
}

// New returns a stopped shard. Shards that share an origin share a time line.
func New(id int, origin time.Time) *Shard {
	s := &Shard{
		ID: id, origin: origin, done: make(chan struct{}),
		box:   mailbox{wake: make(chan struct{}, 1)},
		conns: make(map[*Conn]struct{}),
	}
	s.stopMail.To = stopper{s}
	s.now = int64(time.Since(origin))
	s.wheel.now = s.now / tick
	return s
}

// SetDriver chooses how s waits for its sockets; Auto when it is not called.
// Call it before Run.
func (s *Shard) SetDriver(d Driver) { s.driver = d }

// Now returns the time of this wake-up in ns since the origin.
func (s *Shard) Now() int64 { return s.now }

// Time converts a time of this shard into a wall-clock time.
func (s *Shard) Time(now int64) time.Time { return s.origin.Add(time.Duration(now)) }

// Load returns how many connections the shard owns.
func (s *Shard) Load() int64 { return s.load.Load() }

// Post delivers m on the shard's goroutine. It never blocks.
func (s *Shard) Post(m *Mail) { s.box.post(m) }

// BeforeFlush adds f to what runs at the end of each wake-up, before output is
// written. Call it before Run.
func (s *Shard) BeforeFlush(f func()) { s.hooks = append(s.hooks, f) }

// Arm sets t to fire at deadline, in ns since the origin.
func (s *Shard) Arm(t *Timer, deadline int64) { s.wheel.arm(t, deadline) }

// Stop disarms t.
func (s *Shard) Stop(t *Timer) { s.wheel.stop(t) }

// Timers returns how many timers are armed.
func (s *Shard) Timers() int { return s.wheel.armed }

// Shutdown makes Run close every connection and return. It is safe to call once
// from any goroutine; wait for it with Done.
func (s *Shard) Shutdown() { s.Post(&s.stopMail) }

// Done is closed when Run has returned.
func (s *Shard) Done() <-chan struct{} { return s.done }

type stopper struct{ s *Shard }

func (st stopper) Receive(*Mail) { st.s.stopping = true }

// Run is the event loop. It returns after Shutdown.
func (s *Shard) Run() {
	defer close(s.done)
	nap := napper{timer: time.NewTimer(time.Hour), armedFor: -1}
	defer nap.timer.Stop()
	for {
		mail := s.wait(&nap)
		s.now = int64(time.Since(s.origin))
		s.wheel.advance(s.now)
		for mail != nil {
			next := mail.next
			mail.next = nil
			mail.To.Receive(mail)
			mail = next
		}
		if s.poller != nil {
			s.poller.deliver()
		}
		s.settle()
		if s.stopping {
			for c := range s.conns {
				c.Close()
			}
			if s.poller != nil {
				s.poller.close()
			}
			return
		}
	}
}

// wait sleeps until there is mail, a socket is ready or a timer is due, and
// returns the mail.
func (s *Shard) wait(nap *napper) *Mail {
	mail := s.box.take()
	due, timed := s.wheel.deadline()
	switch {
	case s.poller != nil:
		s.poller.wait(s, mail, due, timed)
	case mail == nil:
		nap.sleep(s, due, timed)
	}
	if mail == nil {
		mail = s.box.take()
	}
	return mail
}

// napper is how a loop sleeps that has no sockets of its own.
type napper struct {
	timer    *time.Timer
	armedFor int64
}

// sleep waits for mail or until due.
func (n *napper) sleep(s *Shard, due int64, timed bool) {
	if !timed {
		<-s.box.wake
		return
	}
	if due != n.armedFor {
		n.timer.Reset(time.Duration(due - int64(time.Since(s.origin))))
		n.armedFor = due
	}
	select {
	case <-s.box.wake:
	case <-n.timer.C:
		n.armedFor = -1
	}
}

// settle hands over outcomes and flushes, and does so again when a connection
// ended as it was flushed: that has outcomes, too, and the next wake-up may be
// long in coming.
func (s *Shard) settle() {
	for again := true; again; again = s.ended || s.dirty != nil {
		s.ended = false
		for _, f := range s.hooks {
			f()
		}
		s.flush()
	}
}

func (s *Shard) flush() {
	for s.dirty != nil {
		c := s.dirty
		s.dirty = c.nextDirty
		c.nextDirty, c.isDirty = nil, false
		c.flush()
	}
}
