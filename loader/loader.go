package loader

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quadnine/quadnine/loader/delta"
)

// Errors that callers tell apart.
var (
	ErrNoModel    = errors.New("model unknown")
	ErrNotServing = errors.New("version neither active, canary nor standby")
	ErrNoStandby  = errors.New("no standby version to go back to")
	ErrClosed     = errors.New("loader closed")
)

// Loader keeps the models' versions. Make one with Open.
type Loader struct {
	opts    Options
	store   *store
	events  events
	patches *patcher
	models  atomic.Pointer[map[string]*model] // replaced as a whole, by the loader's goroutine

	calls  chan func()   // run on the loader's goroutine
	idle   chan struct{} // some version may have lost its last lease
	jobs   chan job      // to the workers
	stop   context.CancelFunc
	ctx    context.Context //nolint:containedctx // ends the worker's reading when the loader is closed
	wg     sync.WaitGroup
	closed chan struct{} // the loader's goroutine has ended

	mu      sync.Mutex
	drops   map[string]*drop   // guarded by mu; written by the loader's goroutine only
	blocked map[blockKey]Block // guarded by mu; written by the loader's goroutine only

	// Of the loader's goroutine:
	queue    []job
	running  map[lane]bool // lanes that a worker is busy with
	workers  int           // that were started
	unsaved  bool          // state.json is behind
	saved    *record       // what it says
	nextSave time.Time     // when to try again
	timer    *time.Timer
	graves   []*Version // revoked and still leased

	mapping sync.Mutex // held while a version is mapped
}

// Open takes the store, brings back the versions that it says are active and
// standby, and starts to look at drops. When it returns, the models of the last
// run answer.
func Open(ctx context.Context, o Options) (*Loader, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	s, err := openStore(o.Store, *o.volume)
	if err != nil {
		return nil, err
	}
	s.usage.limit, s.usage.limits = o.Quota, o.Quotas
	l := newLoader(o, s)
	if err := l.recover(ctx); err != nil {
		l.stop()
		l.release()
		s.close()
		return nil, err
	}
	l.start()
	return l, nil
}

func newLoader(o Options, s *store) *Loader {
	l := &Loader{
		opts: o, store: s, events: newEvents(), drops: make(map[string]*drop), blocked: make(map[blockKey]Block), running: make(map[lane]bool),
		calls: make(chan func()), idle: make(chan struct{}, 1), jobs: make(chan job), closed: make(chan struct{}),
		timer: time.NewTimer(time.Hour),
	}
	l.models.Store(&map[string]*model{})
	l.patches = l.newPatcher()
	l.ctx, l.stop = context.WithCancel(context.Background())
	return l
}

func (l *Loader) start() { go l.run() }

// Close ends the loader: no lease can be taken, those that are out are revoked,
// and memory is returned. Addresses of versions that are still leased stay
// reserved until the process ends.
func (l *Loader) Close() error {
	l.stop()
	<-l.closed
	return nil
}

// Events returns what happens, in order. Who does not read loses the newest, see
// LostEvents; the loader never waits.
func (l *Loader) Events() <-chan Event { return l.events.c }

// LostEvents returns how many events found no room.
func (l *Loader) LostEvents() int64 { return l.events.lost.Load() }

func (l *Loader) find(name string) (*model, error) {
	if m := (*l.models.Load())[name]; m != nil {
		return m, nil
	}
	return nil, fmt.Errorf("loader: %s: %w", name, ErrNoModel)
}

// Acquire takes a lease on the version of a model that draw, a uniform number,
// falls to: the same draw falls to the same version as long as the canary's
// weight and the versions stay. It takes no lock.
func (l *Loader) Acquire(model string, draw uint64) (Lease, error) {
	m, err := l.find(model)
	if err != nil {
		return Lease{}, err
	}
	return m.acquire(draw)
}

// AcquireShare is Acquire with percent of the callers for a canary, whatever
// manifests and SetCanary say.
func (l *Loader) AcquireShare(model string, draw uint64, percent float64) (Lease, error) {
	m, err := l.find(model)
	if err != nil {
		return Lease{}, err
	}
	return m.acquireShare(draw, shareOf(percent))
}

// AcquireVersion takes a lease on one version, if it is active, canary or
// standby; a version that was rolled back is none of these.
func (l *Loader) AcquireVersion(model string, number uint64) (Lease, error) {
	m, err := l.find(model)
	if err != nil {
		return Lease{}, err
	}
	return m.pin(number)
}

// AcquireOther takes a lease on the version that answers in place of number: the
// active one, or when that is it the standby. It takes no lock.
func (l *Loader) AcquireOther(model string, number uint64) (Lease, error) {
	m, err := l.find(model)
	if err != nil {
		return Lease{}, err
	}
	return m.other(number)
}

// Current returns the active version of a model. It takes no lock.
func (l *Loader) Current(model string) (Info, bool) {
	m := (*l.models.Load())[model]
	if m == nil {
		return Info{}, false
	}
	if v := m.current.Load().active; v != nil {
		return v.info, true
	}
	return Info{}, false
}

// SetCanary sets the percentage of callers that a model's canaries answer, over
// what manifests say, or gives it back to the manifests when percent is nil.
func (l *Loader) SetCanary(model string, percent *float64) error {
	m, err := l.find(model)
	if err != nil {
		return err
	}
	if percent != nil && !(*percent >= 0 && *percent <= 100) { // NaN is not
		return fmt.Errorf("loader: %s: canary weight %v: want a percentage from 0 to 100", model, *percent)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.override = percent
	m.publish()
	return nil
}

// Activate makes the canary or the standby of a model the active version. The
// one that it replaces becomes the standby, and is not refused.
func (l *Loader) Activate(ctx context.Context, model string, version uint64) error {
	m, err := l.find(model)
	if err != nil {
		return err
	}
	return l.call(ctx, func() error {
		m.mu.Lock()
		var v *Version
		for _, c := range []*Version{m.canary, m.standby} {
			if c != nil && c.info.Number == version {
				v = c
			}
		}
		m.mu.Unlock()
		if v == nil {
			return fmt.Errorf("loader: %s@%d: %w", model, version, ErrNotServing)
		}
		return l.promote(m, v, "by hand")
	})
}

// call runs f on the loader's goroutine and returns its error.
func (l *Loader) call(ctx context.Context, f func() error) error {
	result := make(chan error, 1)
	select {
	case l.calls <- func() { result <- f() }:
	case <-l.closed:
		return ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run is the loader's goroutine.
func (l *Loader) run() {
	for _, m := range *l.models.Load() {
		l.next(m) // what the last run left undecided
		l.compact(m)
	}
	defer close(l.closed)
	var candidates <-chan Candidate
	if l.opts.Source != nil {
		candidates = l.opts.Source.Candidates()
	}
	for {
		l.schedule()
		jobs, next, at := l.nextJob()
		select {
		case <-l.ctx.Done():
			l.end()
			return
		case f := <-l.calls:
			f()
		case c, ok := <-candidates:
			if !ok {
				candidates = nil
				continue
			}
			l.candidate(c)
		case jobs <- next:
			l.started(at)
		case <-l.idle:
		case <-l.timer.C:
		}
		l.sweep()
	}
}

// end lets the workers finish and takes everything down.
func (l *Loader) end() {
	close(l.jobs)
	done := make(chan struct{})
	go func() { l.wg.Wait(); close(done) }()
	for waiting := true; waiting; {
		select {
		case f := <-l.calls: // a worker's last result, or a caller
			f()
		case <-done:
			waiting = false
		}
	}
	_ = l.save() // an event tells; the next start does without
	l.release()
	l.store.close()
}

// release takes all versions out of use.
func (l *Loader) release() {
	for _, m := range *l.models.Load() {
		m.mu.Lock()
		m.current.Store(new(published))
		m.active, m.canary, m.standby = nil, nil, nil
		for _, v := range m.mapped {
			if v.state != Unloading && v.state != Failed {
				v.state = Unloading
				v.release()
			}
			l.revoke(v)
			if v.refs.Load() == 0 {
				_ = v.region.Unmap() // the process has no further use for the addresses
			}
			v.state = Freed
		}
		m.mapped = nil
		m.mu.Unlock()
		for _, im := range m.images {
			im.blob.f.Close()
		}
		for _, im := range m.old {
			im.blob.f.Close()
		}
	}
	for _, v := range l.graves {
		if v.refs.Load() == 0 {
			_ = v.region.Unmap() // likewise
		}
	}
}

func (l *Loader) hashing() delta.Options {
	return delta.Options{Workers: l.opts.Hashers, Enter: Lowest}
}

// model returns the model called name, which is made when new.
func (l *Loader) model(name string) *model {
	old := *l.models.Load()
	if m := old[name]; m != nil {
		return m
	}
	next := maps.Clone(old)
	m := newModel(name)
	l.publishes(m)
	next[name] = m
	l.models.Store(&next)
	return m
}

// save writes state.json from what the models say now. When that fails, it is
// tried again until it works.
func (l *Loader) save() error { return l.write(l.record()) }

// record is state.json for what the models say now.
func (l *Loader) record() *record {
	r := &record{Format: stateFormat, Retain: l.opts.Retain, Models: make(map[string]*modelRecord), Blocked: l.Blocked()}
	for name, m := range *l.models.Load() {
		m.mu.Lock()
		mr := &modelRecord{Refused: maps.Clone(m.refused), Floor: m.floor}
		if m.active != nil {
			mr.Active = m.active.info.Number
		}
		if m.standby != nil {
			mr.Standby = m.standby.info.Number
		}
		mr.Shadow, mr.Experiment = m.byHand, m.experiment
		m.mu.Unlock()
		r.Models[name] = mr
	}
	return r
}

// write is save for a record that is ahead of the models.
func (l *Loader) write(r *record) error {
	err := explain(l.store.save(r))
	behind := l.unsaved
	l.unsaved = err != nil
	if err != nil {
		l.nextSave = now().Add(saveRetry)
		l.events.emit(Event{Kind: EventStore, Reason: err.Error()})
		return fmt.Errorf("loader: %s: %w; it is tried again every %v", stateFile, err, saveRetry)
	}
	if l.saved = r; behind { // what only the old one named was kept
		for _, m := range *l.models.Load() {
			l.collect(m)
		}
	}
	return nil
}
