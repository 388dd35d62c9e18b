package objects

import (
	"context"
	"errors"
	"fmt"
)

// Errors of Activate that callers tell apart.
var (
	ErrNotHeld = errors.New("the bucket does not hold it")
	ErrBusy    = errors.New("another version of the model is being fetched")
)

// Activate fetches a version of a model from the bucket, whatever its number, and
// has the loader make it the active one without a trial. It looks at the bucket
// anew and returns when the version is active.
func (s *Source) Activate(ctx context.Context, model string, version uint64) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer context.AfterFunc(s.ctx, func() { stop(errClosed) })()
	s.mu.Lock()
	old := s.catalog
	s.mu.Unlock()
	c, err := s.bucket.catalog(ctx, old)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.catalog, s.looked = c, now()
	s.mu.Unlock()
	e := c[model][version]
	if e == nil {
		return fmt.Errorf("%s%s/%d: %w", s.bucket, model, version, ErrNotHeld)
	}
	if e.err != nil {
		return fmt.Errorf("%s: %w", e.name(s.bucket), e.err)
	}
	if err := s.loader.Admit(ctx, e.mf, true); err != nil {
		return err
	}
	s.mu.Lock()
	busy := s.busy[model]
	if !busy {
		s.busy[model], s.fetching[e.name(s.bucket)] = true, true
	}
	s.mu.Unlock()
	if busy {
		return fmt.Errorf("%s: %w: try again when it is here", model, ErrBusy)
	}
	defer s.idle(e)
	steps, err := s.way(ctx, c, e)
	if err != nil {
		return err
	}
	result := make(chan error, 1)
	if err := s.bring(ctx, c, e, steps, func(err error) { result <- err }); err != nil {
		return err
	}
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
