package loader

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/quadnine/quadnine/loader/delta"
)

// Garbage is something in a store that nothing needs.
type Garbage struct {
	Path    string `json:"path"` // in the store
	Model   string `json:"model,omitempty"`
	Version uint64 `json:"version,omitempty"`
	Bytes   int64  `json:"bytes"`
	Why     string `json:"why"`
}

// GC removes what nothing needs from the store of a running loader, or only lists
// it. Versions in use, active, standby, undecided or retained ones, and what they
// are made of, stay. A running loader removes what it knows of by itself: what is
// found here was left by a defect or put there by somebody else.
func (l *Loader) GC(ctx context.Context, dryRun bool) (found []Garbage, err error) {
	var removed chan error
	err = l.call(ctx, func() error {
		models, err := l.store.models()
		if err != nil {
			return fmt.Errorf("loader: store: %w", err)
		}
		for _, name := range models {
			need, old := l.inUse(name)
			got, err := l.store.garbage(name, func(n uint64) bool { return need[n] }, func(n uint64) bool { return old[n] })
			if err != nil {
				return fmt.Errorf("loader: store: %w", err)
			}
			found = append(found, got...)
		}
		if dryRun {
			return nil
		}
		removed = make(chan error, len(found))
		for _, g := range found { // at once: behind us the same number may be brought in again
			l.submit(lane{modelLane, g.Model}, func() error { return l.store.removeGarbage(g) }, func(err error) { removed <- err })
		}
		return nil
	})
	for range cap(removed) {
		select {
		case e := <-removed:
			err = errors.Join(err, e)
		case <-l.closed:
			return found, ErrClosed
		case <-ctx.Done():
			return found, context.Cause(ctx)
		}
	}
	return found, err
}

// inUse returns the versions of a model whose folders stay, and those whose
// compacted files are not the only ones in use.
func (l *Loader) inUse(model string) (need, old map[uint64]bool) {
	need, old = make(map[uint64]bool), make(map[uint64]bool)
	m := (*l.models.Load())[model]
	if m == nil {
		return need, old
	}
	if m.busy != nil { // they may be on their way into their places
		need[m.busy.mf.Version] = true
		for _, b := range m.busy.links {
			need[b.mf.Version] = true
		}
	}
	for n := range m.images {
		need[n] = true
	}
	for _, im := range m.old {
		old[im.number()] = true
	}
	if m.flattening != nil {
		old[m.flattening.number()] = true
	}
	return need, old
}

// garbage lists what nothing needs of a model's folder. need says which versions
// stay, old of which versions the files that compaction replaced do.
func (s *store) garbage(model string, need, old func(uint64) bool) (out []Garbage, err error) {
	numbers, err := s.numbers(model)
	if err != nil {
		return nil, err
	}
	for _, n := range numbers {
		dir := s.version(model, n)
		g := Garbage{Path: s.rel(dir), Model: model, Version: n}
		switch flat := filepath.Join(dir, flatDir); {
		case !need(n):
			g.Bytes, g.Why = size(dir), "neither active, standby nor undecided, and no base of one that is"
		case exists(flat) && !old(n):
			g.Bytes, g.Why = size(dir)-size(flat), "replaced when the chain was compacted"
			g.Path = filepath.Join(g.Path, "("+manifestFile+", "+originFile+", "+blobFile+", "+leavesFile+", "+durableFile+")")
			if g.Bytes == 0 {
				continue
			}
		default:
			continue
		}
		out = append(out, g)
	}
	return out, nil
}

func (s *store) rel(name string) string {
	if r, err := filepath.Rel(s.dir, name); err == nil {
		return r
	}
	return name
}

// removeGarbage removes what garbage listed.
func (s *store) removeGarbage(g Garbage) error {
	switch {
	case g.Model == "":
		return s.removeAll(s.path(g.Path))
	case filepath.Base(g.Path) != strconv.FormatUint(g.Version, 10):
		return s.strip(g.Model, g.Version)
	default:
		return s.remove(g.Model, g.Version)
	}
}

// GCStore removes what nothing needs from a store that no process owns, or only
// lists it; ErrInUse when one does. It reads no weights. Where a version in use
// cannot be read, nothing of its model is removed.
func GCStore(dir string, dryRun bool) (found []Garbage, used int64, err error) {
	if _, err := os.Stat(filepath.Join(dir, "models")); err != nil {
		return nil, 0, fmt.Errorf("loader: %s is no store of models: %w", dir, err)
	}
	s := &store{volume: osVolume(), dir: dir}
	if err := s.take(); err != nil {
		return nil, 0, err
	}
	defer s.close()
	if err := s.mkdirAll(s.path("tmp")); err != nil { // what is removed goes by way of it
		return nil, 0, fmt.Errorf("loader: store: %w", err)
	}
	found, err = s.collect()
	if err == nil && !dryRun {
		for _, g := range found {
			err = errors.Join(err, s.removeGarbage(g))
		}
	}
	return found, size(s.path("models")), err
}

// collect lists what nothing needs of a store that no loader uses.
func (s *store) collect() (found []Garbage, err error) {
	r, err := s.load()
	if err != nil {
		return nil, err
	}
	if found, err = s.leftovers(); err != nil {
		return nil, fmt.Errorf("loader: store: %w", err)
	}
	models, err := s.models()
	if err != nil {
		return nil, fmt.Errorf("loader: store: %w", err)
	}
	for _, name := range models {
		need, err := s.needs(name, r)
		if err != nil {
			return nil, fmt.Errorf("loader: store: %s cannot be read, nothing is removed: %w", name, err)
		}
		got, err := s.garbage(name, func(n uint64) bool { return need[n] }, func(uint64) bool { return false })
		if err != nil {
			return nil, fmt.Errorf("loader: store: %w", err)
		}
		found = append(found, got...)
	}
	return found, nil
}

// leftovers lists what an interrupted process left outside of the models.
func (s *store) leftovers() (out []Garbage, err error) {
	list, err := os.ReadDir(s.path("tmp"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range list {
		name := s.path("tmp", e.Name())
		out = append(out, Garbage{Path: s.rel(name), Bytes: size(name), Why: "left when a process ended midway"})
	}
	if name := stateFile + ".new"; exists(s.path(name)) {
		out = append(out, Garbage{Path: name, Bytes: size(s.path(name)), Why: "left when a process ended midway"})
	}
	return out, nil
}

// needs returns the versions of a model that the next start needs: active and
// standby, those above them that are not decided, all that were not refused when
// they are retained for a bucket, and what all of them are made of.
func (s *store) needs(model string, all *record) (map[uint64]bool, error) {
	r := all.Models[model]
	if r == nil {
		r = new(modelRecord)
	}
	need := make(map[uint64]bool)
	numbers, err := s.numbers(model)
	if err != nil {
		return nil, err
	}
	past := max(r.Active, r.Floor)
	for _, n := range numbers {
		_, refused := r.Refused[n]
		switch {
		case n == r.Active || n == r.Standby:
			if err := s.needChain(model, n, need); err != nil {
				return nil, err
			}
		case (n > past || all.Retain) && !refused:
			// What cannot be read is lost at the next start all the same.
			chain := maps.Clone(need)
			if s.needChain(model, n, chain) == nil {
				need = chain
			}
		}
	}
	return need, nil
}

// needChain adds a version and what it is made of.
func (s *store) needChain(model string, number uint64, need map[uint64]bool) error {
	for range 1 << 16 { // a chain that bites its tail ends too
		need[number] = true
		im := &image{dir: s.locate(model, number)}
		if err := im.readStored(model, number); err != nil {
			return err
		}
		if im.origin.Role != delta.RoleDelta {
			return nil
		}
		number = im.below()
	}
	return fmt.Errorf("the chain below version %d has no end", slices.Max(slices.Collect(maps.Keys(need))))
}
