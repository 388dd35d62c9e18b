package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/loader/delta"
)

// How long a version that could not be tiered waits: doubled from the first to the
// most.
const (
	tierFirst = 5 * time.Minute
	tierMost  = 6 * time.Hour
)

// tierRetry is when to try a version again.
type tierRetry struct {
	at    time.Time
	tries int
}

// tierDue begins to move the versions that are due to the bucket, unless that is
// going on.
func (s *Source) tierDue(ctx context.Context) {
	if s.opts.Tier <= 0 {
		return
	}
	idle, err := s.loader.Idle(ctx)
	if err != nil {
		return // the loader is closed
	}
	var due []*loader.Stored
	s.mu.Lock()
	maps.DeleteFunc(s.problems, func(key string, p *Problem) bool {
		return p.tier && !slices.ContainsFunc(idle, func(v *loader.Stored) bool { return key == "tier "+tierKey(v) })
	})
	for _, v := range idle {
		if now().Sub(v.Dropped) >= s.opts.Tier && !now().Before(s.later[tierKey(v)].at) {
			due = append(due, v)
		}
	}
	begin := len(due) > 0 && !s.tiering
	s.tiering = s.tiering || begin
	s.mu.Unlock()
	if !begin {
		return
	}
	s.wg.Go(func() {
		defer func() {
			s.mu.Lock()
			s.tiering = false
			s.mu.Unlock()
		}()
		for _, v := range due {
			if s.ctx.Err() == nil {
				s.tier(v)
			}
		}
	})
}

func tierKey(v *loader.Stored) string { return fmt.Sprintf("%s@%d", v.Model, v.Number) }

// tier moves one version to the bucket.
func (s *Source) tier(v *loader.Stored) {
	s.mu.Lock()
	old := s.catalog
	s.mu.Unlock()
	at, err := s.bucket.keep(s.ctx, v, old)
	if err == nil {
		err = s.loader.Forget(s.ctx, v.Model, v.Number, at)
	}
	if s.ctx.Err() != nil {
		return
	}
	if errors.Is(err, loader.ErrNeeded) || errors.Is(err, fs.ErrNotExist) { // somebody wants it again, or the disk was full
		err = nil
	}
	key := tierKey(v)
	s.mu.Lock()
	if err == nil {
		delete(s.later, key)
	} else {
		r := s.later[key]
		s.later[key] = tierRetry{now().Add(min(tierFirst<<min(r.tries, 16), tierMost)), r.tries + 1}
	}
	s.mu.Unlock()
	if err != nil {
		err = fmt.Errorf("it stays in the local store: %w", err)
	}
	s.noteProblem("tier "+key, Problem{About: "tier " + key, Model: v.Model, Version: v.Number, tier: true}, err)
}

// errMade says that a version cannot be tiered under its manifest.
var errMade = errors.New("what the store holds of it was made here, by compaction or from a patch, and the bucket lacks the files that its manifest names")

// keep brings a stored version and what it is made of to the bucket, reads what was
// sent back from there, and makes sure that the bucket alone is enough to make the
// version again. It returns where it is.
func (b *Bucket) keep(ctx context.Context, v *loader.Stored, old catalog) (at string, err error) {
	if err := b.send(ctx, v); err != nil {
		return "", err
	}
	c, err := b.catalog(ctx, old)
	if err != nil {
		return "", err
	}
	e := c[v.Model][v.Number]
	if e == nil || e.mf == nil || e.mf.TargetRoot != v.Root {
		return "", fmt.Errorf("%s@%d: %w", v.Model, v.Number, errMade)
	}
	offers := usableOffers(c[v.Model])
	i := slices.IndexFunc(offers, func(o *offer) bool { return o.manifest == e.mf })
	steps, err := plan(nil, offers, offers[i])
	if err != nil {
		return "", fmt.Errorf("from the bucket alone %w", err)
	}
	for _, step := range steps {
		from := c[v.Model][step.Version]
		f, _ := from.mf.File(step.Role)
		if err := b.readBack(ctx, from.files[f.Path], f); err != nil {
			return "", err
		}
	}
	return e.name(b), nil
}

// send brings the file that the store holds of a version to the bucket, if it is
// one that its manifest names, after those of the versions below it.
func (b *Bucket) send(ctx context.Context, v *loader.Stored) error {
	if v.Base != nil {
		if err := b.send(ctx, v.Base); err != nil {
			return err
		}
	}
	raw, err := os.ReadFile(v.Manifest)
	if err != nil {
		return err
	}
	mf, err := delta.ParseManifest(v.Manifest, raw)
	if err != nil {
		return err
	}
	file, ok := mf.File(v.Role)
	if !ok {
		return nil // keep finds whether the bucket has another
	}
	f, err := os.Open(v.File)
	if err != nil {
		return err
	}
	defer f.Close()
	root, err := rootOf(ctx, f)
	if err != nil {
		return err
	}
	if _, signed := mf.File(delta.RoleDelta); root != file.BLAKE3 || signed && v.Role == delta.RoleFull && mf.Signature != nil {
		return nil // likewise; a signature over a delta that is not here could not be checked again
	}
	_, err = b.push(ctx, mf, raw, []part{{file, f}})
	return err
}

// readBack checks an object against the root of the file that it should be. What
// was read once is not read again while it stays the same.
func (b *Bucket) readBack(ctx context.Context, o object, want delta.File) error {
	b.mu.Lock()
	known := b.verified[o.key] == o.etag
	b.mu.Unlock()
	if known {
		return nil
	}
	var h delta.Hasher
	if err := b.read(ctx, o, o.size, &h); err != nil {
		return err
	}
	got, err := delta.RootFromLeaves(o.size, h.Leaves())
	if err == nil && got != want.BLAKE3 {
		err = &delta.MismatchError{What: "the object", Who: "the manifest", Got: got, Want: want.BLAKE3}
	}
	if err != nil {
		return fmt.Errorf("s3://%s/%s: %w", b.at.bucket, o.key, err)
	}
	b.mu.Lock()
	b.verified[o.key] = o.etag
	b.mu.Unlock()
	return nil
}

// rootOf returns the root of a file's bytes.
func rootOf(ctx context.Context, f *os.File) (delta.Root, error) {
	var h delta.Hasher
	n, err := io.Copy(&h, readerFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return f.Read(p)
	}))
	if err != nil {
		return delta.Root{}, err
	}
	return delta.RootFromLeaves(n, h.Leaves())
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
