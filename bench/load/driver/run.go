package driver

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quadnine/quadnine/bench/load/wire"
)

// Bounds of a run.
const (
	answerWithin  = 10 * time.Second       // settings, or the last replies
	lateEnough    = 500 * time.Millisecond // an open loop that is this late is given up
	connectAtOnce = 32                     // connections that are opened before their settings are awaited
	shortestWait  = 10 * time.Microsecond  // of an open loop: below that it would only set timers
)

// run is a run's state.
type run struct {
	plan   Plan
	blocks *blocks
	poll   *wire.Poll
	conns  []*conn
	byFD   map[int]*conn
	began  time.Time
	turn   int // of the connections, for an open loop
	number int // of requests, in all

	inflight int // streams
	owing    int // messages that are not back
	stopped  bool
	closing  bool
	message  []byte

	// Of the part that counts.
	done, failed int
	failure      string
	bytes        int64
	took, late   histogram
}

// newRun connects.
func newRun(p Plan) (*run, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	poll, err := wire.NewPoll()
	if err != nil {
		return nil, err
	}
	r := &run{plan: p, blocks: newBlocks(p), poll: poll, byFD: make(map[int]*conn, p.Connections), began: time.Now(), stopped: true, message: make([]byte, p.Message)}
	if p.Message >= 5 { // a gRPC message's prefix: not compressed, its length
		n := p.Message - 5
		copy(r.message, []byte{0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	}
	waiting := 0
	for range p.Connections {
		c, err := r.open()
		if err != nil {
			return nil, fmt.Errorf("connection %d: %w", len(r.conns)+1, err)
		}
		r.conns = append(r.conns, c)
		r.byFD[c.FD()] = c
		if waiting++; waiting == connectAtOnce || len(r.conns) == p.Connections {
			if err := r.until("send its settings", func() bool { return r.settled(waiting) }); err != nil {
				return nil, fmt.Errorf("connection %d: %w", len(r.conns), err)
			}
			waiting = 0
		}
	}
	return r, nil
}

// settled reports whether the last n connections know their peer's settings.
func (r *run) settled(n int) bool {
	for _, c := range r.conns[len(r.conns)-n:] {
		if !c.ready {
			return false
		}
	}
	return true
}

// now is the time since the run began.
func (r *run) now() time.Duration { return time.Since(r.began) }

// fail counts what went wrong and keeps the first of it.
func (r *run) fail(format string, args ...any) {
	r.failed++
	if r.failure == "" {
		r.failure = fmt.Sprintf(format, args...)
	}
}

// completed counts a request or message that was due at that time.
func (r *run) completed(due time.Duration) {
	r.done++
	r.took.add(r.now() - due)
}

// step waits for input, at most ms milliseconds, and acts on it.
func (r *run) step(ms int) error {
	return r.poll.Wait(ms, func(fd int, in, _ bool) error {
		c := r.byFD[fd]
		if in {
			if err := c.Read(nil, c.frame); err != nil {
				return err
			}
			if r.plan.Rate == 0 && r.plan.Message == 0 {
				r.refill(c)
			}
		}
		return c.Flush()
	})
}

// until steps until ok says yes.
func (r *run) until(what string, ok func() bool) error {
	for end := r.now() + answerWithin; !ok(); {
		if r.now() > end {
			return fmt.Errorf("driver: %s did not %s within %v", r.plan.Addr, what, answerWithin)
		}
		if err := r.step(10); err != nil {
			return err
		}
	}
	return nil
}

// refill keeps a connection's streams busy, in a closed loop.
func (r *run) refill(c *conn) {
	for !r.stopped && c.room() {
		r.request(c, r.now())
	}
}

// request sends the next request on c.
func (r *run) request(c *conn, due time.Duration) {
	c.request(r.number, due)
	r.number++
	r.inflight++
}

// flush writes what every connection has to say.
func (r *run) flush() error {
	for _, c := range r.conns {
		if len(c.Out) > 0 {
			if err := c.Flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// greet sends one request on every connection, so that the first one's
// literals, and whatever a proxy does for a new connection, are not counted.
func (r *run) greet() error {
	for i, c := range r.conns {
		r.request(c, r.now())
		if (i+1)%connectAtOnce == 0 || i+1 == len(r.conns) {
			if err := r.flush(); err != nil {
				return err
			}
			if err := r.until("answer each connection's first request", func() bool { return r.inflight == 0 }); err != nil {
				return err
			}
		}
	}
	return nil
}

// phase drives for d and lets what is under way finish.
func (r *run) phase(d time.Duration) (Result, error) {
	r.done, r.failed, r.failure, r.bytes, r.took, r.late = 0, 0, "", 0, histogram{}, histogram{}
	r.stopped = false
	cpu, start := processCPU(), r.now()
	var res Result
	var err error
	switch {
	case r.plan.Message > 0:
		r.start()
		err = r.closed(start + d)
	case r.plan.Rate > 0:
		res.Overloaded, err = r.pace(start, d)
	default:
		for _, c := range r.conns {
			r.refill(c)
		}
		err = r.closed(start + d)
	}
	r.stopped = true
	if err == nil {
		err = r.until("answer the last requests", func() bool {
			return r.owing == 0 && (r.inflight == 0 || r.plan.Message > 0)
		})
	}
	if err != nil {
		return res, err
	}
	res.Took, res.ClientCPU = r.now()-start, processCPU()-cpu
	res.Done, res.Failed, res.Failure, res.Bytes = r.done, r.failed, r.failure, r.bytes
	res.Latency, res.LateP50 = r.took.latency(), r.late.quantile(0.5)
	res.PerSecond = float64(res.Done) / res.Took.Seconds()
	return res, nil
}

// closed steps until end; replies bring new requests.
func (r *run) closed(end time.Duration) error {
	if err := r.flush(); err != nil {
		return err
	}
	for r.now() < end {
		if err := r.step(10); err != nil {
			return err
		}
	}
	return nil
}

// pace sends requests at the plan's rate for d.
func (r *run) pace(start, d time.Duration) (overloaded bool, err error) {
	gap := float64(time.Second) / r.plan.Rate
	total := int(r.plan.Rate * d.Seconds())
	for sent := 0; sent < total && !overloaded; {
		now := r.now()
		for due := min(total, int(float64(now-start)/gap)+1); sent < due; sent++ {
			at := start + time.Duration(float64(sent)*gap)
			c := r.free()
			if c == nil {
				overloaded = now-at > lateEnough
				break
			}
			r.late.add(now - at)
			r.request(c, at)
		}
		if err := r.flush(); err != nil {
			return false, err
		}
		if err := r.stepUntil(start + time.Duration(float64(sent)*gap)); err != nil {
			return false, err
		}
	}
	return overloaded, nil
}

// stepUntil waits for input, or until the next request is due.
func (r *run) stepUntil(due time.Duration) error {
	wait := due - r.now()
	if wait <= 0 {
		return r.step(0)
	}
	if err := r.poll.Wake(max(wait, shortestWait)); err != nil {
		return err
	}
	return r.step(10)
}

// free returns the next connection in turn that has room; nil when none has.
func (r *run) free() *conn {
	for range r.conns {
		c := r.conns[r.turn%len(r.conns)]
		r.turn++
		if c.room() {
			return c
		}
	}
	return nil
}

// processCPU is what this process has used.
func processCPU() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts); err != nil {
		return 0 // shown only to tell whether the client had time to spare
	}
	return time.Duration(ts.Nano())
}

// errFailed says that requests got a wrong answer or none.
var errFailed = errors.New("failed")
