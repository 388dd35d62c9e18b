package loader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/loader/modelsign"
)

// chains say when a chain of deltas is written anew: past any of these.
type chains struct {
	share   float64 // bytes of the deltas, of the base's
	extents int     // of all deltas
	deltas  int
}

var usualChains = chains{share: 0.25, extents: 2048, deltas: 8} // loader.md, design 6

// past says what of a chain is past its bound, or nothing.
func (c chains) past(deltas int, bytes, base int64, extents int) string {
	switch {
	case deltas > c.deltas:
		return fmt.Sprintf("%d deltas, at most %d are kept", deltas, c.deltas)
	case float64(bytes) > c.share*float64(base):
		return fmt.Sprintf("deltas of %d bytes, at most %.0f %% of the base's %d are kept", bytes, c.share*100, base)
	case extents > c.extents:
		return fmt.Sprintf("%d extents, at most %d are kept", extents, c.extents)
	default:
		return ""
	}
}

// deltas returns the full version that a chain begins with and the deltas above
// it, lowest first.
func (im *image) deltas() (base *image, chain []*delta.Delta) {
	for base = im; base.delta != nil; base = base.base {
		chain = append(chain, base.delta)
	}
	slices.Reverse(chain)
	return base, chain
}

// overgrown says why im's chain should be written anew, or nothing.
func (c chains) overgrown(im *image) string {
	var bytes int64
	var deltas, extents int
	base := im
	for ; base.delta != nil; base = base.base {
		deltas++
		bytes += base.blob.size
		extents += base.delta.Header.Extents
	}
	return c.past(deltas, bytes, base.size, extents)
}

// compact has the active version's chain written anew when it is overgrown: as
// one delta on the same base, or when that would be overgrown too, as a full
// file. The bytes are the same, proved by the root, so nobody is asked and
// nothing is swapped: what runs stays mapped from the old files until it ends,
// later versions and the next start use the new ones. Decision record 25.
func (l *Loader) compact(m *model) {
	m.mu.Lock()
	v := m.active
	m.mu.Unlock()
	if v == nil || m.flattening != nil || l.ctx.Err() != nil {
		return
	}
	im := m.images[v.info.Number]
	if im == nil || im.origin.Flat || !im.durable.Load() {
		return
	}
	why := l.opts.chains.overgrown(im)
	if why == "" {
		return
	}
	m.flattening = im
	began := now()
	var flat *image
	l.submit(lane{compactLane, ""}, func() (err error) {
		flat, err = l.store.flatten(l.ctx, im, l.opts.chains, l.hashing())
		return err
	}, func(err error) {
		m.flattening = nil
		ev := Event{Kind: EventCompacted, Model: m.name, Version: im.number(), Drop: im.origin.Drop, Began: began}
		switch {
		case err != nil && l.ctx.Err() != nil:
			return
		case err != nil: // after the next version it is tried again
			ev.Kind, ev.Reason = EventStore, fmt.Sprintf("compacting the chain (%s): %v", why, explain(err))
		case m.images[im.number()] != im:
			flat.blob.f.Close()
			return
		default:
			m.images[im.number()] = flat
			m.old = append(m.old, im)
			ev.Bytes, ev.Reason = flat.blob.size, fmt.Sprintf("%s: now %s", why, flat.form())
		}
		l.events.emit(ev)
		l.collect(m)
	})
}

// form says what a version lies in the store as.
func (im *image) form() string {
	if im.base == nil {
		return "a full file"
	}
	return fmt.Sprintf("one delta on %s", im.base)
}

// flatten writes what a version is made of anew, beside what is there, and brings
// it to disk for good. It returns the image of it.
func (s *store) flatten(ctx context.Context, im *image, c chains, o delta.Options) (flat *image, err error) {
	base, chain := im.deltas()
	plan, err := delta.Flatten(ctx, chain, o)
	if err != nil {
		return nil, err
	}
	flat = &image{manifest: im.manifest, origin: im.origin}
	flat.origin.Flat, flat.origin.InPlace, flat.origin.Role = true, "", delta.RoleFull
	size := im.size
	write := func(w io.Writer, h *delta.Hasher) error {
		_, err := copyHashed(ctx, w, h, io.NewSectionReader(im, 0, im.size), 0)
		return err
	}
	if r := &plan.Report; c.past(1, r.DeltaSize, base.size, r.Extents) == "" {
		flat.origin.Role, flat.origin.Base, flat.base, size = delta.RoleDelta, base.number(), base, r.DeltaSize
		write = func(w io.Writer, _ *delta.Hasher) error {
			_, err := plan.Write(ctx, w, o)
			return err
		}
	}
	release, err := s.room(im, size)
	if err != nil {
		return nil, err
	}
	defer release()
	if flat.dir, err = s.temp(flatDir); err != nil {
		return nil, err
	}
	tmp := flat.dir
	defer func() {
		if err = errors.Join(err, s.removeAll(tmp)); err != nil && flat.blob != nil {
			flat.blob.f.Close()
		}
	}()
	if err := s.fill(ctx, flat, write, o); err != nil {
		return nil, err
	}
	if err := s.sync(flat); err != nil {
		return nil, err
	}
	flat.dir = filepath.Join(s.version(im.manifest.Model, im.number()), flatDir)
	if err := s.rename(tmp, flat.dir); err != nil {
		return nil, err
	}
	s.measure(im.manifest.Model, im.number())
	return flat, errors.Join(s.syncPath(filepath.Dir(flat.dir)), s.syncPath(s.path("tmp")))
}

// room reserves what a compacted version will take.
func (s *store) room(im *image, size int64) (release func(), err error) {
	size += delta.LeafCount(im.size) * delta.RootSize
	if free, err := s.free(); err == nil && free < size+DiskReserve {
		return nil, fmt.Errorf("takes %d bytes, the store's disk has %d left: %w", size, free, ErrDiskFull)
	}
	return s.usage.reserve(im.manifest.Model, im.number(), size)
}

// fill writes a compacted version's files and proves from them that it is the
// version.
func (s *store) fill(ctx context.Context, flat *image, write func(io.Writer, *delta.Hasher) error, o delta.Options) error {
	name := filepath.Join(flat.dir, blobFile)
	w, err := s.create(name)
	if err != nil {
		return err
	}
	var h delta.Hasher
	if err := errors.Join(write(w, &h), w.Close()); err != nil {
		return err
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	flat.blob = &blob{f, flatDir + " " + flat.String(), fi.Size()}
	leaves := h.Leaves()
	if flat.base != nil {
		if flat.delta, err = delta.Parse(f, fi.Size()); err != nil {
			return err
		}
	}
	if err := flat.build(); err != nil {
		return err
	}
	if flat.base != nil {
		below, err := s.leaves(flat.base)
		if err != nil {
			return err
		}
		if leaves, _, err = flat.delta.TargetLeaves(ctx, below, delta.Section(flat, flat.size), o); err != nil {
			return err
		}
	}
	if err := flat.checkLeaves(leaves, "the compacted version"); err != nil {
		return err
	}
	raw, err := flat.manifestBytes(s)
	if err != nil {
		return err
	}
	return errors.Join(
		s.write(filepath.Join(flat.dir, leavesFile), leaves),
		s.write(filepath.Join(flat.dir, manifestFile), raw),
		s.writeJSON(filepath.Join(flat.dir, originFile), flat.origin))
}

// manifestBytes returns the manifest's bytes as they were dropped.
func (im *image) manifestBytes(s *store) ([]byte, error) {
	return os.ReadFile(filepath.Join(s.locate(im.manifest.Model, im.number()), manifestFile))
}

// strip ends an image that a compacted one has replaced.
func (l *Loader) strip(m *model, im *image) {
	im.blob.f.Close()
	n := im.number()
	if m.images[n] == nil { // it is gone as a whole
		return
	}
	l.submit(lane{modelLane, m.name}, func() error { return l.store.strip(m.name, n) }, func(err error) {
		if err != nil {
			l.events.emit(Event{Kind: EventStore, Model: m.name, Version: n, Reason: err.Error()})
		}
		l.freed()
	})
}

// strip removes the files of a version that its compacted ones have replaced.
func (s *store) strip(model string, number uint64) error {
	dir := s.version(model, number)
	if !exists(filepath.Join(dir, flatDir)) {
		return nil
	}
	var errs []error
	for _, name := range []string{durableFile, originFile, blobFile, patchFile, leavesFile, manifestFile, modelsign.FileName} {
		if name = filepath.Join(dir, name); exists(name) {
			errs = append(errs, s.removeAll(name))
		}
	}
	s.measure(model, number)
	return errors.Join(errs...)
}

// freed has the drops tried again, at once, that the quota or the disk had no room
// for: a version was removed that had been in use. What a drop leaves that fails
// does not count, or two such drops would wake one another for ever.
func (l *Loader) freed() {
	for _, d := range l.drops {
		if d.status == quarantined && (errors.Is(d.reason, ErrQuota) || errors.Is(d.reason, ErrDiskFull)) {
			l.read(d)
		}
	}
}
