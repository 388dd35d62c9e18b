package loader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/loader/modelsign"
	"github.com/quadnine/quadnine/loader/oci"
)

// Mode says where a version's bytes stay.
type Mode string

// The modes.
const (
	Copy    Mode = "copy"    // copied into the store while they are hashed: nobody else can change them
	InPlace Mode = "inplace" // left in the drop, which must be read-only and stay
)

// ingest reads one drop on the worker.
type ingest struct {
	store   *store
	cand    Candidate
	mf      *delta.Manifest
	raw     []byte      // the manifest's bytes
	layout  *oci.Layout // nil for a plain drop
	mode    Mode
	keys    []*delta.PublicKey
	trust   []*modelsign.Key
	bundle  bundle
	hash    delta.Options
	patches *patcher
	base    *image // nil when there is none or it is missing
	from    origin
}

// readManifest reads a drop's manifest. layout is nil for a plain drop.
func readManifest(c Candidate) (raw []byte, mf *delta.Manifest, layout *oci.Layout, err error) {
	root, err := c.Open()
	if err != nil {
		return nil, nil, nil, escape(err)
	}
	defer closeRoot(root)
	if oci.Is(root.FS()) {
		layout, err = readLayout(root)
		if err != nil {
			return nil, nil, nil, err
		}
		return layout.Raw, layout.Manifest, layout, nil
	}
	raw, mf, err = readPlain(root)
	return raw, mf, nil, err
}

func readPlain(root *os.Root) (raw []byte, mf *delta.Manifest, err error) {
	f, fi, err := openRegular(root, delta.ManifestName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%w: %w", errNotCommitted, err)
	}
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	const most = 1 << 20
	if fi.Size() > most {
		return nil, nil, fmt.Errorf("%s: has %d bytes, at most %d are read; rename a manifest there: %w", delta.ManifestName, fi.Size(), most, ErrSize)
	}
	if raw, err = io.ReadAll(io.LimitReader(f, most)); err != nil {
		return nil, nil, err
	}
	mf, err = delta.ParseManifest(delta.ManifestName, raw)
	return raw, mf, err
}

// openRegular opens a file of a drop, which must not lead out of it nor be
// anything but a file: opening a pipe would wait for its writer.
func openRegular(root *os.Root, name string) (*os.File, fs.FileInfo, error) {
	fi, err := root.Stat(name)
	if err != nil {
		return nil, nil, escape(err)
	}
	if !fi.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s: is no regular file (%v): put the file itself there", name, fi.Mode().Type())
	}
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0) // it may be a pipe by now
	if err != nil {
		return nil, nil, escape(err)
	}
	if fi, err = f.Stat(); err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s: is no regular file any more (%v)", name, fi.Mode().Type())
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, fi, nil
}

// escape names the error that os.Root has no name for.
func escape(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok && strings.Contains(e.Err.Error(), "escapes") {
		return fmt.Errorf("%w: %w: put the file itself there", ErrEscapes, err)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: put it there, and rename MANIFEST.json (of an image layout, index.json) into place once more", err)
	}
	return err
}

// run brings the drop into the store and returns its image.
func (in *ingest) run(ctx context.Context) (im *image, err error) {
	root, err := in.cand.Open()
	if err != nil {
		return nil, escape(err)
	}
	defer closeRoot(root)
	use, err := in.choose(root)
	if err == nil {
		err = in.checkSubject(use)
	}
	if err != nil {
		return nil, err
	}
	if in.bundle.open(root, in.trust); in.bundle.err != nil && len(in.keys) == 0 {
		return nil, refusedBundle(in.bundle.err) // before all of it is copied and parsed
	}
	release, err := in.reserve(use)
	if err != nil {
		return nil, err
	}
	defer release() // by then it is measured
	tmp, err := in.store.temp("drop")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, in.store.removeAll(tmp)) }() // nothing is left there once it was moved
	im = &image{manifest: in.mf, base: in.base, origin: in.from}
	im.origin.Role, im.origin.Ingested = use.Role, use.Size
	if in.layout != nil {
		im.origin.Image = in.layout.Image.Digest.String()
	}
	if use.Role == delta.RoleFull {
		im.base = nil
	}
	defer func() {
		if err != nil && im != nil && im.blob != nil {
			im.blob.f.Close()
		}
	}()
	leaves, err := in.bring(ctx, root, use, im, tmp)
	if err != nil {
		return nil, err
	}
	if use.Role.IsPatch() { // the delta that was made of it is kept beside it
		release, err := in.store.usage.reserve(in.mf.Model, in.mf.Version, im.blob.size)
		if err != nil {
			return nil, err
		}
		defer release()
	}
	if err := in.checkSignature(ctx, root, im, use, im.summed); err != nil {
		return nil, err
	}
	if err := im.build(); err != nil {
		return nil, err
	}
	// Who deletes a drop midway does not want it, though a file that is open can
	// be read to its end.
	if _, err := root.Stat(in.commit()); err != nil {
		return nil, fmt.Errorf("deleted while it was read: %w", escape(err))
	}
	if leaves != nil {
		if err := in.store.write(filepath.Join(tmp, leavesFile), leaves); err != nil {
			return nil, err
		}
	}
	err = errors.Join(
		in.store.write(filepath.Join(tmp, manifestFile), in.raw),
		in.keepBundle(im, tmp),
		in.store.writeJSON(filepath.Join(tmp, originFile), im.origin))
	if err != nil {
		return nil, err
	}
	im.dir, err = in.store.commit(tmp, in.mf.Model, in.mf.Version)
	return im, err
}

// choose looks at the sizes of all files before any is read, and picks the one
// to use: the delta when its base is here, or the one that the source fetched.
func (in *ingest) choose(root *os.Root) (use delta.File, err error) {
	only := in.cand.Only
	for _, f := range in.mf.Files {
		if only != "" && f.Role != only {
			continue
		}
		fi, err := root.Stat(in.place(f))
		if err != nil {
			return use, fmt.Errorf("%s: %w", in.name(f), escape(err))
		}
		if fi.Size() != f.Size {
			return use, fmt.Errorf("%s: has %d bytes, the manifest says %d: cut off, or still being written when the manifest was renamed: copy it, then rename %s into place once more: %w", in.name(f), fi.Size(), f.Size, in.commit(), ErrSize)
		}
	}
	use, ok := in.mf.File(delta.RoleDelta)
	if only != "" {
		if use, ok = in.mf.File(only); !ok || only != delta.RoleFull && in.base == nil {
			return use, errBaseMissing
		}
	} else if !ok || in.base == nil {
		if use, err = in.choosePatch(root); err != nil {
			return use, err
		}
	}
	if in.mode == Copy {
		if free, err := in.store.free(); err == nil && free < use.Size+DiskReserve {
			return use, fmt.Errorf("%s: takes %d bytes, the store's disk has %d left: %w", use.Path, use.Size, free, ErrDiskFull)
		}
	}
	return use, nil
}

// reserve takes of the quota what the version will take of the store. Its leaves
// are an estimate for a delta, whose target's size is not known yet.
func (in *ingest) reserve(use delta.File) (release func(), err error) {
	whole, n := use.Size, int64(len(in.raw)+len(in.bundle.raw))
	if in.base != nil {
		whole = in.base.size
	}
	n += delta.LeafCount(whole) * delta.RootSize
	if in.mode == Copy || use.Role.IsPatch() {
		n += use.Size
	}
	return in.store.usage.reserve(in.mf.Model, in.mf.Version, n)
}

// bring opens the file to use, copied or in place, and checks its root before
// any of it is mapped. leaves are those of a full file.
func (in *ingest) bring(ctx context.Context, root *os.Root, use delta.File, im *image, tmp string) (leaves delta.Leaves, err error) {
	f, fi, err := openRegular(root, in.place(use))
	if err != nil {
		return nil, err
	}
	if use.Role.IsPatch() {
		defer f.Close()
		return nil, in.patch(ctx, root, f, use, im, tmp)
	}
	if in.mode == InPlace {
		name := filepath.Join(in.cand.Dir, in.place(use))
		if name, err = filepath.Abs(name); err != nil {
			return nil, err
		}
		im.origin.InPlace = name
		im.blob = &blob{f, use.Path, fi.Size()}
		if im.blob.size != use.Size {
			return nil, fmt.Errorf("%s: has %d bytes, the manifest says %d: %w", use.Path, im.blob.size, use.Size, ErrSize)
		}
		return in.verify(ctx, use, im)
	}
	defer f.Close()
	return in.copy(ctx, f, use, im, tmp)
}

// verify hashes what is to be mapped: the whole of a full file, the payload of a
// delta.
func (in *ingest) verify(ctx context.Context, use delta.File, im *image) (leaves delta.Leaves, err error) {
	if use.Role == delta.RoleDelta {
		if im.delta, err = delta.Parse(im.blob.f, im.blob.size); err != nil {
			return nil, fmt.Errorf("%s: %w", use.Path, err)
		}
		if err := im.delta.VerifyPayload(ctx, in.hash); err != nil {
			return nil, fmt.Errorf("%s: %w", use.Path, err)
		}
		return nil, nil
	}
	leaves, err = delta.LeavesOf(ctx, delta.Section(im.blob.f, im.blob.size), in.hash)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", use.Path, err)
	}
	return leaves, checkRoot(use, leaves)
}

// copy copies and hashes in one pass. What counts is the copy: the header and
// table are read again from there.
func (in *ingest) copy(ctx context.Context, f *os.File, use delta.File, im *image, tmp string) (leaves delta.Leaves, err error) {
	skip := int64(0)
	if use.Role == delta.RoleDelta {
		h, err := delta.ParseHeader(f, use.Size)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", use.Path, err)
		}
		skip = h.PayloadOffset
	}
	name := filepath.Join(tmp, blobFile)
	w, err := in.store.createSized(name, use.Size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", use.Path, err)
	}
	var h delta.Hasher
	sums := in.summing(use, w)
	n, err := copyHashed(ctx, sums, &h, atMost(f, use), skip)
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("%s: copying: %w", use.Path, explain(err))
	}
	if n != use.Size {
		return nil, in.changed(use, n)
	}
	if im.summed, err = sums.check(); err != nil {
		return nil, err
	}
	g, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	im.blob = &blob{g, use.Path, n}
	if use.Role == delta.RoleFull {
		leaves = h.Leaves()
		return leaves, checkRoot(use, leaves)
	}
	if im.delta, err = delta.Parse(g, n); err != nil {
		return nil, fmt.Errorf("%s: %w", use.Path, err)
	}
	if got, want := h.Root(), im.delta.Header.PayloadRoot; got != want || skip != im.delta.Header.PayloadOffset {
		return nil, fmt.Errorf("%s: %w", use.Path, &delta.MismatchError{What: "payload", Who: "the header", Got: got, Want: want})
	}
	return nil, nil
}

// atMost reads a file to be copied: no more than shows that it grows meanwhile.
func atMost(f *os.File, use delta.File) io.Reader { return io.LimitReader(f, use.Size+1) }

// changed is why a file is not used of which n bytes were read.
func (in *ingest) changed(use delta.File, n int64) error {
	return fmt.Errorf("%s: %d bytes were read, the manifest says %d: it changed meanwhile; copy it, then rename %s into place once more: %w",
		in.name(use), n, use.Size, in.commit(), ErrSize)
}

func checkRoot(use delta.File, leaves delta.Leaves) error {
	got, err := delta.RootFromLeaves(use.Size, leaves)
	if err == nil && got != use.BLAKE3 {
		err = &delta.MismatchError{What: "the file", Who: "the manifest", Got: got, Want: use.BLAKE3}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", use.Path, err)
	}
	return nil
}

// copyHashed copies all of r to w and shows h what comes after the first skip
// bytes.
func copyHashed(ctx context.Context, w, h io.Writer, r io.Reader, skip int64) (n int64, err error) {
	lent := aheads.Get().(*[aheadMost]byte) // stays in the core's cache between the write and the hash
	defer aheads.Put(lent)
	buf := lent[:]
	for ctx.Err() == nil {
		m, err := io.ReadFull(r, buf)
		if m == 0 {
			if errors.Is(err, io.EOF) {
				return n, nil
			}
			return n, err
		}
		if _, err := w.Write(buf[:m]); err != nil {
			return n, err
		}
		if from := max(skip-n, 0); from < int64(m) {
			_, _ = h.Write(buf[from:m]) // a hash takes all
		}
		n += int64(m)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return n, err
		}
	}
	return n, context.Cause(ctx)
}
