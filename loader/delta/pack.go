package delta

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strconv"
)

// Pack is what goes into a new drop beside the model's bytes.
type Pack struct {
	Manifest Manifest    // Model, Version, SchemaVersion and what is optional; the rest is filled in
	Key      *PrivateKey // signs the drop; nil: unsigned
	Options  Options
}

// Full writes a drop that holds target itself into the directory root, which
// must not hold a manifest yet. The manifest is renamed into place last: a
// watcher sees the whole drop or none.
func (p *Pack) Full(ctx context.Context, root *os.Root, target Sized) (*Manifest, error) {
	w, err := p.begin(root)
	if err != nil {
		return nil, err
	}
	return w.end(ctx, w.full(ctx, target))
}

// Delta writes a drop that holds the way from version baseVersion, whose bytes
// are base, to target; and target itself when full is set, for those who lack
// the base.
func (p *Pack) Delta(ctx context.Context, root *os.Root, baseVersion uint64, base, target Sized, full bool) (*Manifest, *Report, error) {
	w, err := p.begin(root)
	if err != nil {
		return nil, nil, err
	}
	plan, err := Diff(ctx, base, target, p.Options)
	if err == nil {
		err = w.delta(ctx, plan, baseVersion)
	}
	if err == nil && full {
		err = w.full(ctx, target)
	}
	m, err := w.end(ctx, err)
	if err != nil {
		return nil, nil, err
	}
	return m, &plan.Report, nil
}

// PatchFile is a finished patch from the base's file to the target's, for
// Pack.Patches.
type PatchFile struct {
	Role  Role // RoleBSDiff4 or RoleZstdPatch
	Bytes Sized
}

// Patches writes a drop that holds patches from version baseVersion, whose bytes
// are base, to target; with, when they are set, the delta as well, and target
// itself. That a patch makes target is for the caller to know.
func (p *Pack) Patches(ctx context.Context, root *os.Root, baseVersion uint64, base, target Sized, patches []PatchFile, delta, full bool) (*Manifest, *Report, error) {
	w, err := p.begin(root)
	if err != nil {
		return nil, nil, err
	}
	var report *Report
	if delta {
		var plan *Plan
		if plan, err = Diff(ctx, base, target, p.Options); err == nil {
			report = &plan.Report
			err = w.delta(ctx, plan, baseVersion)
		}
	} else {
		err = w.roots(ctx, baseVersion, base, target)
	}
	for _, f := range patches {
		if err == nil {
			err = w.patch(ctx, f)
		}
	}
	if err == nil && full {
		err = w.full(ctx, target)
	}
	m, err := w.end(ctx, err)
	if err != nil {
		return nil, nil, err
	}
	return m, report, nil
}

// packer is one drop being written.
type packer struct {
	root   *os.Root
	m      Manifest
	key    *PrivateKey
	o      Options
	header *Header  // of the delta
	known  bool     // the target's root is in the manifest already
	made   []string // to be removed when it fails
}

func (p *Pack) begin(root *os.Root) (*packer, error) {
	if _, err := root.Lstat(ManifestName); err == nil {
		return nil, fmt.Errorf("%s is there already: %w: a drop is never changed; choose another directory", ManifestName, os.ErrExist)
	}
	w := &packer{root: root, m: p.Manifest, key: p.Key, o: p.Options}
	w.m.Base, w.m.Files, w.m.Signature = nil, nil, nil
	return w, nil
}

func (w *packer) delta(ctx context.Context, plan *Plan, baseVersion uint64) error {
	w.m.Base = &Base{Version: baseVersion, Root: plan.header.BaseRoot}
	w.m.TargetRoot, w.known = plan.header.TargetRoot, true
	name := "v" + strconv.FormatUint(w.m.Version, 10) + ".qd"
	return w.file(name, RoleDelta, func(f io.Writer) error {
		h, err := plan.Write(ctx, f, w.o)
		w.header = &h
		return err
	})
}

// roots hashes base and target, for patches without a delta.
func (w *packer) roots(ctx context.Context, baseVersion uint64, base, target Sized) error {
	old, err := LeavesOf(ctx, base, w.o)
	if err != nil {
		return fmt.Errorf("base: %w", err)
	}
	l, err := LeavesOf(ctx, target, w.o)
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	w.m.Base = &Base{Version: baseVersion, Root: rootOf(base.Size(), old)}
	w.m.TargetRoot, w.known = rootOf(target.Size(), l), true
	return nil
}

func (w *packer) patch(ctx context.Context, p PatchFile) error {
	name := "v" + strconv.FormatUint(w.m.Version, 10) + map[Role]string{RoleBSDiff4: ".bsdiff4", RoleZstdPatch: ".zst"}[p.Role]
	return w.file(name, p.Role, func(f io.Writer) error { return copyTo(ctx, f, p.Bytes, Options{}) })
}

func (w *packer) full(ctx context.Context, target Sized) error {
	err := w.file("model.safetensors", RoleFull, func(f io.Writer) error {
		return copyTo(ctx, f, target, w.o)
	})
	if err != nil {
		return err
	}
	root := w.m.Files[len(w.m.Files)-1].BLAKE3
	if w.known && root != w.m.TargetRoot {
		return errors.New("the target changed while it was packed; pack a copy that nobody writes to")
	}
	w.m.TargetRoot = root
	return nil
}

// file writes and syncs one file and adds it to the manifest.
func (w *packer) file(name string, role Role, write func(io.Writer) error) (err error) {
	f, err := w.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	w.made = append(w.made, name)
	sums := summing{sha: sha256.New()}
	buf := bufio.NewWriterSize(io.MultiWriter(f, &sums), 1<<20)
	err = write(buf)
	if err == nil {
		err = buf.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	w.m.Files = append(w.m.Files, File{
		Path: name, Role: role, Size: sums.tree.Size(), BLAKE3: sums.tree.Root(), SHA256: hex.EncodeToString(sums.sha.Sum(nil)),
	})
	return nil
}

// summing hashes what passes by, both ways.
type summing struct {
	tree Hasher
	sha  hash.Hash
}

// Write takes the next bytes. It never fails.
func (s *summing) Write(p []byte) (int, error) {
	_, _ = s.sha.Write(p) // a hash takes all
	return s.tree.Write(p)
}

// end commits the drop, or removes what was written when err is not nil.
func (w *packer) end(ctx context.Context, err error) (*Manifest, error) {
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		err = w.commit()
	}
	if err != nil {
		for _, name := range w.made {
			err = errors.Join(err, w.root.Remove(name))
		}
		return nil, err
	}
	return &w.m, nil
}

func (w *packer) commit() error {
	if w.key != nil {
		root, err := w.m.SignedRoot(w.header)
		if err != nil {
			return err
		}
		w.m.Signature = w.key.Sign(root)
	}
	data, err := w.m.Marshal()
	if err != nil {
		return err
	}
	const temp = "." + ManifestName + ".new"
	f, err := w.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	w.made = append(w.made, temp)
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := w.root.Rename(temp, ManifestName); err != nil {
		return err
	}
	w.made = nil
	return syncDir(w.root)
}

// syncDir makes the names in a directory durable.
func syncDir(root *os.Root) error {
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
