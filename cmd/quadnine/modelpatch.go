package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/loader/patch"
)

// patchFile is an open patch.
type patchFile struct {
	*modelFile

	header patch.Header
}

// openPatch opens a patch of whichever format.
func openPatch(path string) (*patchFile, error) {
	f, err := openModel(path)
	if err != nil {
		return nil, err
	}
	role, err := patch.Detect(f)
	if err == nil {
		var p *patchFile
		if p, err = f.asPatch(role); err == nil {
			return p, nil
		}
	}
	f.close()
	return nil, f.at(err)
}

// asPatch reads an open file as a patch.
func (m *modelFile) asPatch(role delta.Role) (*patchFile, error) {
	h, err := patch.ParseHeader(role, m, m.Size())
	return &patchFile{m, h}, err
}

// make hands f what the patch makes of base, in a file in dir that is gone when
// make returns.
func (p *patchFile) make(ctx context.Context, dir string, base *modelFile, f func(*os.File) error) error {
	made, err := os.CreateTemp(dir, ".patched.*")
	if err != nil {
		return err
	}
	if err = patch.Make(ctx, made, base.file, p.file, base.Size(), p.header); err == nil {
		err = f(made)
	}
	return errors.Join(err, made.Close(), os.Remove(made.Name()))
}

// prove checks that the patch makes target of base.
func (p *patchFile) prove(ctx context.Context, dir string, base, target *modelFile) error {
	want, err := rootOf(ctx, target, hashing())
	if err != nil {
		return err
	}
	return p.proveRoot(ctx, dir, base, want)
}

// proveRoot checks that the patch makes a version with this root of base.
func (p *patchFile) proveRoot(ctx context.Context, dir string, base *modelFile, want delta.Root) error {
	return p.make(ctx, dir, base, func(made *os.File) error {
		l, err := delta.LeavesOf(ctx, delta.Section(made, p.header.TargetSize), hashing())
		if err != nil {
			return err
		}
		got, err := delta.RootFromLeaves(p.header.TargetSize, l)
		if err == nil && got != want {
			err = fmt.Errorf("makes a version with root %s of %s, %s is wanted: it belongs to another base or target", got.Short(), base.path, want.Short())
		}
		return err
	})
}

func hashing() delta.Options { return delta.Options{Workers: min(runtime.GOMAXPROCS(0), 8)} }

// patchOf opens the patch of a drop that has no delta.
func patchOf(d *delta.Drop, path string) (*patchFile, error) {
	for _, role := range []delta.Role{delta.RoleZstdPatch, delta.RoleBSDiff4} {
		named, ok := d.Manifest.File(role)
		if !ok {
			continue
		}
		file, err := d.Open(role)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		m := &modelFile{delta.Section(file, named.Size), path + "/" + named.Path, file}
		p, err := m.asPatch(role)
		if err != nil {
			m.close()
			return nil, m.at(err)
		}
		return p, nil
	}
	return nil, fmt.Errorf("%s: has neither a delta nor a patch", path)
}

// patch makes a source of a drop's patch.
func (s *source) patch(p *patchFile, base, out string, mf *delta.Manifest) error {
	if base == "" {
		return usage(fmt.Errorf("--base: is needed: %s is a patch against the version with root %v", p.path, mf.Base.Root))
	}
	b, err := openModel(base)
	if err != nil {
		return usage(fmt.Errorf("--base: %w", err))
	}
	s.open = append(s.open, b.close)
	s.size, s.root = p.header.TargetSize, mf.TargetRoot
	s.write = func(ctx context.Context, w io.Writer, o delta.Options) error {
		return p.make(ctx, filepath.Dir(out), b, func(made *os.File) error {
			return delta.Copy(ctx, w, delta.Section(made, p.header.TargetSize), s.root, o)
		})
	}
	return nil
}
