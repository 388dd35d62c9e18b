package objects

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/loader/delta"
)

// Defaults of SourceOptions.
const (
	DefaultEvery = 30 * time.Second
	DefaultTier  = 7 * 24 * time.Hour
	fetchers     = 4 // models that are fetched at once
)

// Loader is what a Source asks of the loader that it feeds.
type Loader interface {
	Bases(ctx context.Context, model string) ([]delta.Base, error)
	Admit(ctx context.Context, mf *delta.Manifest, asked bool) error
	Standing(ctx context.Context, drop string) (loader.Standing, error)
	Idle(ctx context.Context) ([]*loader.Stored, error)
	Forget(ctx context.Context, model string, number uint64, where string) error
}

// SourceOptions say how a Source works.
type SourceOptions struct {
	Dir   string        // private directory for what is fetched; emptied at Start
	Every time.Duration // between two looks at the bucket, ±10 %; default DefaultEvery
	Tier  time.Duration // age from which a version that nothing needs goes to the bucket; 0: none does
	Log   *slog.Logger  // default: discards
}

// Source is a loader.Source of the drops in a bucket. Make one with NewSource.
type Source struct {
	bucket *Bucket
	opts   SourceOptions
	loader Loader
	c      chan loader.Candidate
	ctx    context.Context //nolint:containedctx // ends all goroutines at Close
	stop   context.CancelCauseFunc
	wg     sync.WaitGroup
	slots  chan struct{} // fetchers

	mu       sync.Mutex
	catalog  catalog              // guarded by mu; as listed last, replaced as a whole
	looked   time.Time            // guarded by mu; when that was
	busy     map[string]bool      // guarded by mu; models that are fetched now
	fetching map[string]bool      // guarded by mu; drops that are
	told     map[string]*told     // guarded by mu; drops that the loader was told of, by name
	problems map[string]*Problem  // guarded by mu; by what they are about
	later    map[string]tierRetry // guarded by mu; versions that could not be tiered
	tiering  bool                 // guarded by mu
}

// told is a drop that the loader was told of.
type told struct {
	model, etag string
	dir         string      // what was fetched for it; empty once that was removed
	from        *delta.Base // what its way begins with; nil: a full file
}

// NewSource returns a source of the drops in b. It does nothing before Start.
func NewSource(b *Bucket, o SourceOptions) *Source {
	if o.Every <= 0 {
		o.Every = DefaultEvery
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Source{
		bucket: b, opts: o, c: make(chan loader.Candidate), slots: make(chan struct{}, fetchers),
		busy: make(map[string]bool), fetching: make(map[string]bool), told: make(map[string]*told), problems: make(map[string]*Problem), later: make(map[string]tierRetry),
	}
	s.ctx, s.stop = context.WithCancelCause(context.Background())
	return s
}

// Candidates returns the drops as they are fetched.
func (s *Source) Candidates() <-chan loader.Candidate { return s.c }

// Start begins to look at the bucket, for l, which must read Candidates. What an
// earlier run left in the directory is removed.
func (s *Source) Start(l Loader) error {
	if err := errors.Join(os.RemoveAll(s.opts.Dir), os.MkdirAll(s.opts.Dir, 0o755)); err != nil {
		return fmt.Errorf("objects: %w", err)
	}
	s.loader = l
	s.wg.Go(s.run)
	return nil
}

var errClosed = errors.New("the source is closed")

// Close ends all fetching and removes what was fetched.
func (s *Source) Close() error {
	s.stop(errClosed)
	s.wg.Wait()
	s.bucket.Close()
	if s.loader == nil {
		return nil
	}
	return os.RemoveAll(s.opts.Dir)
}

func (s *Source) run() {
	for {
		s.look(s.ctx)
		wait := s.opts.Every*9/10 + rand.N(s.opts.Every/5+1) // so that not all sidecars ask at once
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-s.ctx.Done():
			t.Stop()
			return
		}
	}
}

// look lists the bucket and does what follows from it.
func (s *Source) look(ctx context.Context) {
	s.mu.Lock()
	old := s.catalog
	s.mu.Unlock()
	c, err := s.bucket.catalog(ctx, old)
	if ctx.Err() != nil {
		return
	}
	s.note(s.bucket.String(), "", 0, err)
	if err != nil {
		return // what was known stays so
	}
	s.mu.Lock()
	s.catalog, s.looked = c, now()
	s.mu.Unlock()
	s.withdraw(c)
	for _, model := range slices.Sorted(maps.Keys(c)) {
		s.consider(ctx, c, model)
	}
	s.sweep(ctx)
	s.tierDue(ctx)
}

// withdraw tells of drops that are not in the bucket any more.
func (s *Source) withdraw(c catalog) {
	s.mu.Lock()
	there := map[string]bool{s.bucket.String(): true}
	for _, versions := range c {
		for _, e := range versions {
			there[e.name(s.bucket)] = true
		}
	}
	maps.DeleteFunc(s.problems, func(about string, p *Problem) bool { return !there[about] && !p.tier })
	var gone []string
	for name := range s.told {
		if !there[name] {
			gone = append(gone, name)
		}
	}
	s.mu.Unlock()
	for _, name := range gone {
		s.forget(name)
		s.send(loader.Candidate{Drop: name, Gone: true})
	}
}

func (s *Source) send(c loader.Candidate) bool {
	select {
	case s.c <- c:
		return true
	case <-s.ctx.Done():
		return false
	}
}

// consider begins to fetch the newest version of a model that the loader would
// take, unless it has it or one is being fetched.
func (s *Source) consider(ctx context.Context, c catalog, model string) {
	s.mu.Lock()
	busy := s.busy[model]
	s.mu.Unlock()
	if busy {
		return
	}
	for _, n := range slices.Backward(slices.Sorted(maps.Keys(c[model]))) {
		e := c[model][n]
		name := e.name(s.bucket)
		if e.err != nil {
			s.note(name, model, n, e.err)
			continue
		}
		err := s.loader.Admit(ctx, e.mf, false)
		if errors.Is(err, loader.ErrPresent) || errors.Is(err, loader.ErrOlder) {
			s.note(name, model, n, nil)
			return // what is below is older still
		}
		if errors.Is(err, loader.ErrRefused) {
			continue // it stands among the refused
		}
		standing := loader.Unknown
		if err == nil {
			standing, err = s.loader.Standing(ctx, name)
		}
		if err != nil {
			s.note(name, model, n, err)
			continue
		}
		s.mu.Lock()
		t := s.told[name]
		same := t != nil && t.etag == e.manifest.etag
		staged := same && t.dir != ""
		s.mu.Unlock()
		if staged && standing == loader.Needed && t.from != nil {
			here, err := s.loader.Bases(ctx, model)
			staged = err != nil || slices.Contains(here, *t.from) // else it waits for what is gone: there may be another way
		}
		switch {
		case same && standing == loader.Rejected:
			continue // it is quarantined until somebody replaces it
		case standing == loader.Taken, staged && standing == loader.Needed:
			return
		}
		steps, err := s.way(ctx, c, e)
		s.note(name, model, n, err)
		if err == nil {
			s.begin(c, e, steps)
			return
		}
	}
}

// begin fetches a version on a goroutine of its own and tells the loader.
func (s *Source) begin(c catalog, e *entry, steps []Step) {
	s.mu.Lock()
	s.busy[e.model], s.fetching[e.name(s.bucket)] = true, true
	s.mu.Unlock()
	s.wg.Go(func() {
		defer s.idle(e)
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		case <-s.ctx.Done():
			return
		}
		err := s.bring(s.ctx, c, e, steps, nil)
		if s.ctx.Err() == nil {
			s.note(e.name(s.bucket), e.model, e.version, err)
		}
	})
}

func (s *Source) idle(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.busy, e.model)
	delete(s.fetching, e.name(s.bucket))
}

// bring fetches a version and hands it to the loader.
func (s *Source) bring(ctx context.Context, c catalog, e *entry, steps []Step, asked func(error)) error {
	began, bytes := now(), int64(0)
	for _, step := range steps {
		bytes += step.Size
	}
	cand, dir, err := s.stage(ctx, c, e, steps)
	if err != nil {
		return err
	}
	cand.Asked = asked
	s.opts.Log.Info("model fetched", "model", e.model, "version", e.version, "files", len(steps), "bytes", bytes, "took", now().Sub(began), "drop", cand.Drop)
	s.forget(cand.Drop)
	s.mu.Lock()
	t := &told{model: e.model, etag: e.manifest.etag, dir: dir}
	if steps[0].Role != delta.RoleFull {
		t.from = c[e.model][steps[0].Version].mf.Base
	}
	s.told[cand.Drop] = t
	s.mu.Unlock()
	if !s.send(cand) {
		return errClosed
	}
	return nil
}

// forget removes what was fetched for a drop.
func (s *Source) forget(name string) {
	s.mu.Lock()
	t := s.told[name]
	delete(s.told, name)
	s.mu.Unlock()
	if t != nil && t.dir != "" {
		s.remove(name, t.dir)
	}
}

func (s *Source) remove(name, dir string) {
	if err := os.RemoveAll(dir); err != nil {
		s.opts.Log.Warn("fetched files cannot be removed", "drop", name, "error", err)
	}
}

// sweep removes what was fetched and is not needed any more.
func (s *Source) sweep(ctx context.Context) {
	s.mu.Lock()
	all := maps.Clone(s.told)
	s.mu.Unlock()
	for name, t := range all {
		standing, err := s.loader.Standing(ctx, name)
		if err != nil || standing == loader.Needed {
			continue
		}
		s.mu.Lock()
		dir := t.dir
		if t.dir = ""; s.told[name] != t || s.busy[t.model] {
			t.dir, dir = dir, ""
		}
		s.mu.Unlock()
		if dir != "" {
			s.remove(name, dir)
		}
	}
}
