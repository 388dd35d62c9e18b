package objects

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/loader/delta"
)

// headerBytes is how much of a delta its signature is checked with: the .qd
// file's header (package delta).
const headerBytes = 4096

// stage fetches the files of a way into a directory of its own below dir and
// describes them to the loader. What was fetched is removed again with an error.
func (s *Source) stage(ctx context.Context, c catalog, target *entry, steps []Step) (cand loader.Candidate, dir string, err error) {
	if err := s.room(steps); err != nil {
		return cand, "", err
	}
	dir, err = os.MkdirTemp(s.opts.Dir, fmt.Sprintf("%s-%d-", target.model, target.version))
	if err != nil {
		return cand, "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	for i, step := range steps {
		e := c[target.model][step.Version]
		at := filepath.Join(dir, strconv.FormatUint(step.Version, 10))
		if err := s.fetch(ctx, e, step.Role, at); err != nil {
			return cand, dir, err
		}
		one := loader.Candidate{
			Drop: e.name(s.bucket), Dir: at, Only: step.Role, Copied: true,
			Open: func() (*os.Root, error) { return os.OpenRoot(at) },
		}
		if i < len(steps)-1 {
			cand.Below = append(cand.Below, one)
			continue
		}
		one.Below = cand.Below
		cand = one
	}
	return cand, dir, nil
}

// room says why the files do not fit on the disk.
func (s *Source) room(steps []Step) error {
	need := int64(0)
	for _, step := range steps {
		need += step.Size
	}
	free, err := loader.FreeDisk(s.opts.Dir)
	if err != nil {
		return fmt.Errorf("%s: %w", s.opts.Dir, err)
	}
	if free < need+loader.DiskReserve {
		return fmt.Errorf("%s: %d bytes are to be fetched, the disk has %d left: %w", s.opts.Dir, need, free, loader.ErrDiskFull)
	}
	return nil
}

// fetch makes a drop at dir of one file of an entry. The manifest is written last,
// as in every drop.
func (s *Source) fetch(ctx context.Context, e *entry, role delta.Role, dir string) (err error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	for _, f := range e.mf.Files {
		n := f.Size
		switch {
		case f.Role == role:
		case f.Role == delta.RoleDelta && e.mf.Base != nil: // it is signed over the delta's header
			n = min(n, headerBytes)
		default:
			continue
		}
		have, ok := e.files[f.Path]
		if !ok || have.size != f.Size {
			if f.Role == role {
				return fmt.Errorf("%s/%s: is not there any more", e.name(s.bucket), f.Path)
			}
			continue
		}
		if err := s.fetchFile(ctx, root, have, f.Path, n); err != nil {
			return err
		}
	}
	return root.WriteFile(delta.ManifestName, e.raw, 0o644)
}

func (s *Source) fetchFile(ctx context.Context, root *os.Root, o object, name string, n int64) error {
	if d := filepath.Dir(name); d != "." {
		if err := root.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	f, err := root.Create(name)
	if err != nil {
		return err
	}
	err = s.bucket.read(ctx, o, n, f)
	if err == nil && n < o.size {
		err = f.Truncate(o.size) // a hole where nobody reads
	}
	return errors.Join(err, f.Close())
}

// usableOffers returns what a model's entries offer.
func usableOffers(versions map[uint64]*entry) (out []*offer) {
	for _, e := range versions {
		if e.mf != nil {
			out = append(out, e.offer())
		}
	}
	return out
}

// way plans how a version is to be fetched, given what is here.
func (s *Source) way(ctx context.Context, c catalog, e *entry) ([]Step, error) {
	here, err := s.loader.Bases(ctx, e.model)
	if err != nil {
		return nil, err
	}
	offers := usableOffers(c[e.model])
	i := slices.IndexFunc(offers, func(o *offer) bool { return o.manifest == e.mf })
	return plan(here, offers, offers[i])
}
