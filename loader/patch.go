package loader

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/quadnine/quadnine/internal/cgroup"
	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/loader/patch"
)

// Patched is what came of applying one patch, for Options.Patched.
type Patched struct {
	Model   string
	Version uint64
	Role    delta.Role
	Patch   int64         // bytes of the patch
	Target  int64         // bytes of the version that it makes, as its header says
	Delta   int64         // bytes of the delta that was kept
	Took    time.Duration // of the child
	CPU     time.Duration // of the child, user and system
	Peak    int64         // bytes that the child had resident at most, pages of files included
	Err     error         // why there is no delta
}

// patcher has patches applied: by one child at a time, for all models.
type patcher struct {
	child patch.Child
	turn  chan struct{}                               // holds a token while no child runs
	group func() (limit, fixed int64, limited bool)   // memory of the control group
	free  func() (int64, error)                       // bytes that the store's disk has left
	tell  func(im *image, began time.Time, p Patched) // of each child
}

func (l *Loader) newPatcher() *patcher {
	p := &patcher{child: l.opts.Patch, turn: make(chan struct{}, 1), group: groupMemory, free: l.store.free}
	p.turn <- struct{}{}
	p.tell = func(im *image, began time.Time, r Patched) {
		l.opts.Patched(r)
		if r.Err == nil {
			l.events.emit(Event{
				Kind: EventPatched, Model: r.Model, Version: r.Version, Drop: im.origin.Drop, Began: began, Bytes: r.Patch,
				Reason: fmt.Sprintf("%s makes %d bytes, %d of them are kept as a delta; the child took %v of CPU, %d MB resident at most",
					r.Role, r.Target, r.Delta, r.CPU.Round(time.Millisecond), r.Peak>>20),
			})
		}
	}
	return p
}

func groupMemory() (limit, fixed int64, limited bool) {
	g := cgroup.Memory("/")
	if g == nil {
		return 0, 0, false
	}
	return g.Limit(), g.Fixed(), true
}

// patchJob is a patch that can be applied.
type patchJob struct {
	job    patch.Job
	header patch.Header
	files  patch.Files
}

// choosePatch picks a patch when the base is here and there is all that it takes to
// apply it; otherwise the full file. What stands against the patch is told when
// there is no such file.
func (in *ingest) choosePatch(root *os.Root) (use delta.File, err error) {
	err = errBaseMissing
	if in.base != nil {
		var against error
		for _, role := range []delta.Role{delta.RoleZstdPatch, delta.RoleBSDiff4} {
			f, ok := in.mf.File(role)
			if !ok {
				continue
			}
			why := in.checkPatch(root, f)
			if why == nil {
				return f, nil
			}
			against = errors.Join(against, fmt.Errorf("%s: %w", f.Path, why))
			err = against
		}
	}
	if use, ok := in.mf.File(delta.RoleFull); ok {
		return use, nil
	}
	return use, err
}

// checkPatch says why a patch cannot be applied here, by what its header says and
// before anything is copied.
func (in *ingest) checkPatch(root *os.Root, use delta.File) error {
	f, fi, err := openRegular(root, in.place(use))
	if err != nil {
		return err
	}
	defer f.Close()
	h, err := patch.ParseHeader(use.Role, f, fi.Size())
	if err != nil {
		return err
	}
	return in.patches.check(h.Need(in.base.size, len(in.base.segments) == 1))
}

// patch makes the version of a drop that is a patch, and im that version as a
// delta: what changed is kept, not the whole file, so that it takes no more memory
// than a drop with the delta. Nothing of the patch is decompressed before its
// digests and its signature were checked.
func (in *ingest) patch(ctx context.Context, root *os.Root, f *os.File, use delta.File, im *image, tmp string) (err error) {
	name := filepath.Join(tmp, patchFile)
	sum, err := in.keepPatch(ctx, f, use, name)
	if err != nil {
		return err
	}
	if err := in.checkSignature(ctx, root, im, use, sum); err != nil {
		return err
	}
	j := patchJob{}
	defer func() {
		for _, f := range []*os.File{j.files.Patch, j.files.Target, j.files.Delta, j.files.Flat} {
			if f != nil && (err != nil || f != j.files.Delta) {
				f.Close()
			}
		}
	}()
	if j.files.Patch, err = os.Open(name); err != nil {
		return err
	}
	if j.header, err = patch.ParseHeader(use.Role, j.files.Patch, use.Size); err != nil {
		return fmt.Errorf("%s: %w", use.Path, err)
	}
	if err := in.patches.check(j.header.Need(in.base.size, len(in.base.segments) == 1)); err != nil {
		return fmt.Errorf("%s: %w", use.Path, err)
	}
	j.describe(in)
	scratch := func(name string) *os.File {
		if err != nil {
			return nil
		}
		var f *os.File
		f, err = os.OpenFile(filepath.Join(tmp, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		return f
	}
	j.files.Target, j.files.Flat, j.files.Delta = scratch("target"), scratch("flat"), scratch(blobFile)
	if err != nil {
		return err
	}
	r, err := in.patches.apply(ctx, im, &j)
	if err != nil {
		return fmt.Errorf("%s: %w", use.Path, explain(err))
	}
	if err := errors.Join(os.Remove(j.files.Target.Name()), os.Remove(j.files.Flat.Name())); err != nil {
		return err
	}
	im.origin.Role, im.origin.Patch = delta.RoleDelta, use.Role
	im.blob = &blob{j.files.Delta, use.Path + " as a delta", r.Delta}
	if im.delta, err = delta.Parse(im.blob.f, im.blob.size); err == nil {
		err = im.delta.VerifyPayload(ctx, in.hash)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", im.blob.name, err)
	}
	return nil
}

// keepPatch copies a patch into the store while its digests are checked: it is
// what the version came as, and what the manifest names. sum is its SHA-256, when
// somebody asks for it.
func (in *ingest) keepPatch(ctx context.Context, f *os.File, use delta.File, name string) (sum string, err error) {
	w, err := in.store.createSized(name, use.Size)
	if err != nil {
		return "", fmt.Errorf("%s: %w", use.Path, err)
	}
	var tree delta.Hasher
	var sha hash.Hash
	var sums io.Writer = &tree
	if use.SHA256 != "" || in.bundle.statement != nil {
		sha = sha256.New()
		sums = io.MultiWriter(&tree, sha)
	}
	n, err := copyHashed(ctx, w, sums, atMost(f, use), 0)
	if err := errors.Join(err, w.Close()); err != nil {
		return "", fmt.Errorf("%s: copying: %w", use.Path, explain(err))
	}
	if n != use.Size {
		return "", in.changed(use, n)
	}
	if err := checkRoot(use, tree.Leaves()); err != nil {
		return "", err
	}
	if sha != nil {
		if sum = hex.EncodeToString(sha.Sum(nil)); use.SHA256 != "" && sum != use.SHA256 {
			return "", fmt.Errorf("%s: SHA-256 is %s, the manifest says %s", use.Path, sum, use.SHA256)
		}
	}
	return sum, nil
}

// describe says where the base's bytes are and what is to come out.
func (j *patchJob) describe(in *ingest) {
	j.job = patch.Job{Role: j.header.Role, PatchSize: j.header.Size, BaseRoot: in.mf.Base.Root, TargetRoot: in.mf.TargetRoot}
	at := make(map[*blob]int)
	for _, s := range in.base.segments {
		i, ok := at[s.blob]
		if !ok {
			i = len(j.files.Base)
			at[s.blob] = i
			j.files.Base = append(j.files.Base, s.blob.f)
		}
		j.job.Base = append(j.job.Base, patch.Segment{Off: s.off, N: s.n, File: i, Src: s.src})
	}
}

// check refuses a patch that cannot be applied here, with the figures, before a
// child is started on it.
func (p *patcher) check(need patch.Need) error {
	const mb = 1e6
	if len(p.child.Command) == 0 {
		return errNoChild
	}
	if free, err := p.free(); err == nil && free < need.Disk+DiskReserve {
		return fmt.Errorf("applying it takes %d MB of the store's disk for a while, and the delta that is kept; %d MB are left: make room, or ship a .qd delta: %w",
			need.Disk/mb, free/mb, ErrDiskFull)
	}
	if most := p.child.Memory; most > 0 && need.Memory > most {
		return fmt.Errorf("applying it takes %d MB of memory (and %d MB of mapped files, which the kernel can take back), the child may have %d MB: raise that limit, or ship a .qd delta: %w",
			need.Memory/mb, need.Mapped/mb, most/mb, patch.ErrMemory)
	}
	if limit, fixed, ok := p.group(); ok && fixed+need.Memory > limit {
		return fmt.Errorf("applying it takes %d MB of memory (and %d MB of mapped files, which the kernel can take back); of the %d MB that the control group allows %d MB are taken: raise its limit, or ship a .qd delta: %w",
			need.Memory/mb, need.Mapped/mb, limit/mb, fixed/mb, errGroupMemory)
	}
	return nil
}

// apply runs a child when it is its turn.
func (p *patcher) apply(ctx context.Context, im *image, j *patchJob) (patch.Result, error) {
	select {
	case <-p.turn:
	case <-ctx.Done():
		return patch.Result{}, context.Cause(ctx)
	}
	defer func() { p.turn <- struct{}{} }()
	began := now()
	r, err := p.child.Apply(ctx, &j.job, &j.header, &j.files)
	p.tell(im, began, Patched{
		Model: im.manifest.Model, Version: im.number(), Role: j.header.Role, Patch: j.header.Size, Target: j.header.TargetSize, Delta: r.Delta,
		Took: r.Took, CPU: r.CPU, Peak: r.Peak, Err: err,
	})
	return r, err
}
