package loader

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
)

// maxWorkers bounds the jobs that run at once, of as many lanes. A job that a
// slow disk holds up takes a worker each; the others find one as long as fewer
// hang. Decision record 25.
const maxWorkers = 8

// lane is a line of jobs that run one after the other, in the order in which
// they were submitted. Jobs of different lanes do not wait for one another.
type lane struct {
	what laneKind
	name string // of the model or the drop
}

type laneKind uint8

const (
	readLane    laneKind = iota // reads a drop's manifest
	modelLane                   // brings a model's versions in, and takes them away
	settleLane                  // brings a model's versions to disk for good
	compactLane                 // writes chains anew: one at a time, without a name
	shareLane                   // makes a model's versions ready for other processes
)

// job is work for a worker; done is then run on the loader's goroutine.
type job struct {
	lane lane
	work func() error
	done func(error)
}

// submit queues work for the workers.
func (l *Loader) submit(on lane, work func() error, done func(error)) {
	l.queue = append(l.queue, job{on, work, done})
}

// nextJob returns the first job whose lane is free, and where it stands in the
// queue, and makes sure that there is a worker to take it.
func (l *Loader) nextJob() (jobs chan<- job, next job, at int) {
	if len(l.running) == maxWorkers || l.ctx.Err() != nil {
		return nil, job{}, 0
	}
	at = slices.IndexFunc(l.queue, func(j job) bool { return !l.running[j.lane] })
	if at < 0 {
		return nil, job{}, 0
	}
	if len(l.running) == l.workers {
		l.workers++
		l.wg.Go(l.worker)
	}
	return l.jobs, l.queue[at], at
}

// started notes that a worker took the job that stands at a place of the queue.
func (l *Loader) started(at int) {
	l.running[l.queue[at].lane] = true
	l.queue = slices.Delete(l.queue, at, at+1)
}

// still reports whether the workers have nothing to do.
func (l *Loader) still() bool { return len(l.queue) == 0 && len(l.running) == 0 }

// worker runs jobs one after the other on a thread of its own, of the lowest
// priority.
func (l *Loader) worker() {
	if !l.opts.prompt {
		Lowest()
	}
	for j := range l.jobs {
		err := guard(j.work)
		l.calls <- func() {
			delete(l.running, j.lane)
			j.done(err)
		}
	}
}

// guard runs f; a panic over a drop's odd bytes must cost that drop only.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("loader: defect: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}

// Lowest makes the calling goroutine one that works in the background: it keeps its
// thread, which gets the lowest priority, until it ends.
func Lowest() {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and its priority with it
	lower()
}
