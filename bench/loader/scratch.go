package loader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/loader/delta"
)

// scratch is the folder with all files of a comparison.
type scratch struct {
	dir   string
	scale float64
	run   int // numbers the runs' folders
}

func (s *scratch) path(name ...string) string {
	return filepath.Join(append([]string{s.dir}, name...)...)
}

// The drop of pair D's small model, of which bsdiff4 makes a patch.
const patchDrop = "patch"

// base is the old version's file, target and drop a pair's new one.
func (s *scratch) base() string              { return s.path("base", "model.safetensors") }
func (s *scratch) smallBase() string         { return s.path("small", "model.safetensors") }
func (s *scratch) smallTarget() string       { return s.path("small-D.safetensors") }
func (s *scratch) target(pair string) string { return s.path(pair + ".safetensors") }
func (s *scratch) delta(pair string) string  { return s.path(pair, "v2.qd") }

// room refuses to fill the disk: base, two targets, one rebuilt file and its
// patch, and slack for drops and stores.
func (s *scratch) room() error {
	size := modelSize(s.scale)
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return fmt.Errorf("free space of %s: %w", s.dir, err)
	}
	if free, need := int64(st.Bavail)*st.Bsize, 6*size+1<<30; free < need {
		return fmt.Errorf("%s has %d MB free, %d are needed: set TMPDIR to a larger disk, or use -scale", s.dir, free/1e6, need/1e6)
	}
	return nil
}

// prepare makes the versions, packs them, and fills a store with the base.
func (s *scratch) prepare(ctx context.Context, log io.Writer) (map[string]*delta.Report, error) {
	if err := s.room(); err != nil {
		return nil, err
	}
	plain := s.path("plain.safetensors")
	for _, f := range []struct {
		name string
		v    variant
	}{{plain, base}, {s.target("D"), dense}, {s.target("S"), scattered}} {
		if err := write(f.name, s.scale, f.v); err != nil {
			return nil, fmt.Errorf("make a version: %w", err)
		}
	}
	old, closeOld, err := open(plain)
	if err != nil {
		return nil, err
	}
	defer closeOld()
	if err := s.full(ctx, "base", old); err != nil {
		return nil, err
	}
	reports := make(map[string]*delta.Report)
	for _, pair := range []string{"D", "S"} {
		target, closeTarget, err := open(s.target(pair))
		if err != nil {
			return nil, err
		}
		err = s.pack(pair, 2, func(p *delta.Pack, root *os.Root) (err error) {
			_, reports[pair], err = p.Delta(ctx, root, 1, old, target, false)
			return err
		})
		closeTarget()
		if err != nil {
			return nil, err
		}
		r := reports[pair]
		fmt.Fprintf(log, "pair %s: %d MB base, %.1f MB shipped in a delta of %.1f MB, %d extents\n", pair, r.BaseSize/1e6, float64(r.Shipped)/1e6, float64(r.DeltaSize)/1e6, r.Extents)
	}
	if err := os.Remove(plain); err != nil { // the base's drop holds the same
		return nil, err
	}
	return reports, s.fillStore(ctx, "base", "store")
}

// full makes the drop of a version 1.
func (s *scratch) full(ctx context.Context, name string, target delta.Sized) error {
	return s.pack(name, 1, func(p *delta.Pack, root *os.Root) error {
		_, err := p.Full(ctx, root, target)
		return err
	})
}

func open(name string) (delta.Sized, func(), error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return delta.Section(f, fi.Size()), func() { f.Close() }, nil
}

// pack makes the drop called name.
func (s *scratch) pack(name string, version uint64, write func(*delta.Pack, *os.Root) error) error {
	if err := os.Mkdir(s.path(name), 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(s.path(name))
	if err != nil {
		return err
	}
	canary := delta.DefaultCanary
	canary.Weight = 0
	p := &delta.Pack{
		Manifest: delta.Manifest{Model: modelName, Version: version, SchemaVersion: 1, Canary: &canary},
		Options:  delta.Options{Workers: runtime.NumCPU()},
	}
	if err := errors.Join(write(p, root), root.Close()); err != nil {
		return fmt.Errorf("pack %s: %w", name, err)
	}
	return nil
}

// fillStore makes a store in which the version of a drop is active. It stays where
// it is, so that a run's copy of the store is small.
func (s *scratch) fillStore(ctx context.Context, drop, store string) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("the base was not active within a minute"))
	defer cancel()
	src, err := loader.Watch(s.path(drop), 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	l, err := loader.Open(ctx, loader.Options{Store: s.path(store), Source: src, Mode: loader.InPlace, Hashers: runtime.NumCPU()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case ev := <-l.Events():
			switch ev.Kind {
			case loader.EventQuarantined:
				return fmt.Errorf("%s: %s", drop, ev.Reason)
			case loader.EventDurable:
				return nil
			}
		}
	}
}

// arrangement is what an activation starts from.
type arrangement struct {
	store   string // a store that fillStore made; "": an empty one
	drop    string // what comes
	version uint64 // that it brings
	mode    loader.Mode
	cold    bool // its files are not in the page cache
}

// activation lays out one run: a store of its own, and a drop that waits for its
// manifest. remove takes it away again.
func (s *scratch) activation(a arrangement) (j job, remove func() error, err error) {
	s.run++
	dir := s.path(fmt.Sprint("run", s.run))
	remove = func() error { return os.RemoveAll(dir) }
	j = job{Kind: "activate", Store: filepath.Join(dir, "store"), Watch: filepath.Join(dir, "watch"), Version: a.version, Mode: a.mode, Cold: a.cold}
	j.Drop = filepath.Join(j.Watch, a.drop)
	if err := os.MkdirAll(j.Drop, 0o755); err != nil {
		return j, remove, err
	}
	if a.store != "" {
		if err := os.CopyFS(j.Store, os.DirFS(s.path(a.store))); err != nil {
			return j, remove, err
		}
	}
	files, err := os.ReadDir(s.path(a.drop))
	if err != nil {
		return j, remove, err
	}
	for _, f := range files {
		to := f.Name()
		if to == delta.ManifestName {
			to = manifestTemp
		}
		if err := os.Link(s.path(a.drop, f.Name()), filepath.Join(j.Drop, to)); err != nil {
			return j, remove, err
		}
	}
	return j, remove, nil
}
