package proxy

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Limits bound what the process takes on. Past them new work is shed and old
// work goes on.
type Limits struct {
	Connections int64 // of callers, over all listeners, at a time; 0: no bound
	Memory      []MemoryLimit
	Triggers    []Trigger // what is done as Memory fills; nil: DefaultTriggers
}

// MemoryLimit is a ceiling and what is compared with it.
type MemoryLimit struct {
	Name string       // triggers refer to it
	Max  int64        // bytes, above 0
	Used func() int64 // bytes now; nil: the runtime's, see HeapUsed. It is called on one goroutine.
	heap bool
}

// Trigger takes an action as a memory limit fills. Both bounds are shares of the
// limit: up to From the action is not taken, from Full on it always is, and in
// between for a share of the occasions that grows evenly.
type Trigger struct {
	Action     Action
	Limit      string // name of the MemoryLimit
	From, Full float64
}

// Action is what is done against overload.
type Action uint8

// The actions, the mildest first.
const (
	EndKeepAlives     Action = iota // HTTP/1.1 connections close with their reply
	RefuseConnections               // a new connection is closed at once
	RefuseRequests                  // a new request is answered 503
	RefuseStreams                   // a new HTTP/2 stream is refused unread (REFUSED_STREAM)
	Actions                         // how many there are
)

var actionNames = [Actions]string{"end-keepalives", "refuse-connections", "refuse-requests", "refuse-streams"}

// String returns the action as metrics and pages name it.
func (a Action) String() string { return actionNames[a] }

// HeapLimit is the name of the ceiling that the command line sets.
const HeapLimit = "heap"

// DefaultTriggers are those of limit where nothing else is configured: new
// connections first, then new requests.
func DefaultTriggers(limit string) []Trigger {
	return []Trigger{
		{EndKeepAlives, limit, 0.85, 0.85},
		{RefuseConnections, limit, 0.90, 0.90},
		{RefuseRequests, limit, 0.95, 0.95},
		{RefuseStreams, limit, 1, 1},
	}
}

// How often memory is looked at: as long as there is traffic or an action is
// taken, and never else.
const (
	sampleEvery = 100 * time.Millisecond
	// collectEvery is how many samples without a collection may pass while an action is
	// taken: what was freed is only known after one, and shed work triggers none.
	collectEvery = 10
)

// slack is how far pressure has to fall, as a share of the limit, before an action
// that is taken is taken less: each collection moves it a little.
const slack = 0.02

// errOverloaded is why a request is refused.
var errOverloaded = errors.New("this process is short of memory and takes no new requests")

// overload is the state of all bounds. share is read on every shard.
type overload struct {
	limits  Limits
	share   [Actions]atomic.Uint32 // of always
	open    atomic.Int64           // callers' connections
	lookAt  atomic.Int64           // ns on the shards' time line; not before this is memory looked at again
	wake    chan struct{}
	stop    chan struct{}
	stopped sync.WaitGroup
	onTake  func(a Action, taken bool, why MemoryLimit, used int64) // told of changes
	cycles  func() uint64                                           // collections so far
}

// always is a share of one.
const always = 1 << 16

// start makes o ready, and looks at memory for as long as stop is not closed.
func (o *overload) start(l Limits) error {
	o.wake, o.stop, o.cycles = make(chan struct{}, 1), make(chan struct{}), collections
	if l.Triggers == nil && len(l.Memory) > 0 {
		l.Triggers = DefaultTriggers(l.Memory[0].Name)
	}
	l.Memory = slices.Clone(l.Memory)
	for i := range l.Memory {
		m := &l.Memory[i]
		if m.Max <= 0 {
			return errors.New("memory limit " + m.Name + " is not above 0")
		}
		if m.Used == nil {
			m.Used, m.heap = HeapUsed, true
		}
	}
	for _, t := range l.Triggers {
		if !slices.ContainsFunc(l.Memory, func(m MemoryLimit) bool { return m.Name == t.Limit }) {
			return errors.New("trigger of " + t.Action.String() + ": there is no memory limit " + t.Limit)
		}
	}
	o.limits = l
	if len(l.Triggers) > 0 {
		o.stopped.Go(o.follow)
	}
	return nil
}

func (o *overload) close() {
	close(o.stop)
	o.stopped.Wait()
}

// look has memory looked at when the last time was long ago. It is called once a
// wake-up of a shard and never blocks.
func (o *overload) look(now int64) {
	if len(o.limits.Triggers) == 0 || now < o.lookAt.Load() {
		return
	}
	o.lookAt.Store(now + int64(sampleEvery))
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// follow looks at memory when it is woken, and by itself while an action is taken.
func (o *overload) follow() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	idle, last := 0, o.cycles()
	for {
		if o.sample() {
			timer.Reset(sampleEvery)
			if n := o.cycles(); n != last {
				idle, last = 0, n
			} else if idle++; idle >= collectEvery {
				runtime.GC()
				idle, last = 0, o.cycles()
			}
		} else {
			timer.Stop()
		}
		select {
		case <-o.stop:
			return
		case <-o.wake:
		case <-timer.C:
		}
	}
}

// sample looks at memory and sets each action. It reports whether one is taken.
func (o *overload) sample() (taken bool) {
	var share [Actions]uint32
	var why [Actions]int
	used := make([]int64, len(o.limits.Memory))
	for i := range o.limits.Memory {
		used[i] = o.limits.Memory[i].Used()
	}
	for _, t := range o.limits.Triggers {
		i := slices.IndexFunc(o.limits.Memory, func(m MemoryLimit) bool { return m.Name == t.Limit })
		pressure := float64(used[i]) / float64(o.limits.Memory[i].Max)
		if o.share[t.Action].Load() > 0 {
			pressure += slack
		}
		if s := t.share(pressure); s > share[t.Action] {
			share[t.Action], why[t.Action] = s, i
		}
	}
	for a := range Actions {
		taken = taken || share[a] > 0
		if was := o.share[a].Swap(share[a]); (was > 0) != (share[a] > 0) && o.onTake != nil {
			o.onTake(a, share[a] > 0, o.limits.Memory[why[a]], used[why[a]])
		}
	}
	return taken
}

// share is how far t's action is taken at that pressure.
func (t *Trigger) share(pressure float64) uint32 {
	switch {
	case pressure >= t.Full:
		return always
	case pressure <= t.From:
		return 0
	default:
		return uint32(always * (pressure - t.From) / (t.Full - t.From))
	}
}

// takes reports whether a is to be taken on this occasion.
func (o *overload) takes(a Action) bool {
	s := o.share[a].Load()
	return s != 0 && (s >= always || rand.Uint32N(always) < s)
}

// admit counts a new connection in, or says that there is no room for it. Who is
// let in has to leave.
func (o *overload) admit() (ok, full bool) {
	if n := o.open.Add(1); o.limits.Connections > 0 && n > o.limits.Connections {
		o.open.Add(-1)
		return false, true
	}
	if o.takes(RefuseConnections) {
		o.open.Add(-1)
		return false, false
	}
	return true, false
}

func (o *overload) leave() { o.open.Add(-1) }
