package loader

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/quadnine/quadnine/loader/delta"
)

// reopen reads a version back from the store, with the chain below it. images
// holds what was read before and takes what is read now. What is not durable is
// hashed again: a power cut may have left anything.
func (s *store) reopen(ctx context.Context, images map[uint64]*image, model string, number uint64, o delta.Options) (*image, error) {
	if im := images[number]; im != nil {
		return im, nil
	}
	im := &image{dir: s.locate(model, number)}
	if err := im.readStored(model, number); err != nil {
		return nil, err
	}
	if im.origin.Role == delta.RoleDelta {
		base, err := s.reopen(ctx, images, model, im.below(), o)
		if err != nil {
			return nil, fmt.Errorf("base of %s: %w", im, err)
		}
		im.base = base
	}
	if err := im.openStored(ctx, s, o); err != nil {
		if im.blob != nil {
			im.blob.f.Close()
		}
		return nil, fmt.Errorf("%s in the store: %w", im, err)
	}
	images[number] = im
	if im.origin.Flat { // the process ended before it was done
		return im, s.strip(model, number)
	}
	return im, nil
}

// locate returns where a stored version's files are.
func (s *store) locate(model string, number uint64) string {
	dir := s.version(model, number)
	if flat := filepath.Join(dir, flatDir); exists(flat) {
		return flat
	}
	return dir
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// below returns the version that a delta is made for.
func (im *image) below() uint64 {
	if im.origin.Flat {
		return im.origin.Base
	}
	return im.manifest.Base.Version
}

func (im *image) readStored(model string, number uint64) error {
	b, err := os.ReadFile(filepath.Join(im.dir, manifestFile))
	if err != nil {
		return err
	}
	if im.manifest, err = delta.ParseManifest(manifestFile, b); err != nil {
		return err
	}
	if im.manifest.Model != model || im.number() != number {
		return fmt.Errorf("%s: holds %s", im.dir, im)
	}
	if b, err = os.ReadFile(filepath.Join(im.dir, originFile)); err != nil {
		return err
	}
	return json.Unmarshal(b, &im.origin)
}

func (im *image) openStored(ctx context.Context, s *store, o delta.Options) error {
	name := filepath.Join(im.dir, blobFile)
	if im.origin.InPlace != "" {
		name = im.origin.InPlace
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	im.blob = &blob{f, filepath.Base(name), fi.Size()}
	if im.origin.Role == delta.RoleDelta {
		if im.delta, err = delta.Parse(f, fi.Size()); err != nil {
			return err
		}
	}
	if err := im.build(); err != nil {
		return err
	}
	_, err = os.Stat(filepath.Join(im.dir, durableFile))
	im.durable.Store(err == nil)
	if err == nil && im.origin.InPlace == "" {
		return nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return im.rehash(ctx, s, o)
}

// rehash proves a stored version again. Its leaves are proved with it, or made
// again when the process ended before they were written.
func (im *image) rehash(ctx context.Context, s *store, o delta.Options) error {
	leaves, err := delta.LeavesOf(ctx, delta.Section(im, im.size), o)
	if err != nil {
		return err
	}
	if err := im.checkLeaves(leaves, "the version"); err != nil {
		return err
	}
	return s.write(filepath.Join(im.dir, leavesFile), leaves)
}
