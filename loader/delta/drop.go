package delta

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
)

// Drop is a directory with a manifest and the files it names. All files are
// reached through its root, so that no path and no symbolic link leads out.
type Drop struct {
	Manifest *Manifest

	root  *os.Root
	place func(File) string // where a file lies in root
}

// NewDrop returns the drop in root, which stays the caller's to close, of which
// the manifest was read already. place says where in root each of its files lies.
func NewDrop(root *os.Root, m *Manifest, place func(File) string) *Drop {
	return &Drop{m, root, place}
}

// OpenDrop reads the manifest of the drop in root, which stays the caller's to
// close.
func OpenDrop(root *os.Root) (*Drop, error) {
	f, err := root.Open(ManifestName)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return nil, err
	}
	m, err := ParseManifest(ManifestName, data)
	if err != nil {
		return nil, err
	}
	return NewDrop(root, m, func(f File) string { return f.Path }), nil
}

// Open opens the file of a role and checks its size; os.ErrNotExist when the
// manifest names none.
func (d *Drop) Open(r Role) (*os.File, error) {
	want, ok := d.Manifest.File(r)
	if !ok {
		return nil, fmt.Errorf("%s: no file has role %s: %w", ManifestName, r, os.ErrNotExist)
	}
	f, err := d.root.Open(d.place(want))
	if err != nil {
		return nil, err
	}
	s, err := f.Stat()
	if err == nil && !s.Mode().IsRegular() {
		err = malformed("%s: is no plain file", want.Path)
	}
	if err == nil && s.Size() != want.Size {
		err = malformed("%s: ends at byte %d, the manifest says %d: it was cut off, or changed after packing", want.Path, s.Size(), want.Size)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Verify checks everything that can be checked without the base: sizes and
// digests of all files, that the delta is well-formed and the manifest's, and,
// when keys are given, the signature. All failures are told.
func (d *Drop) Verify(ctx context.Context, keys []*PublicKey, o Options) error {
	var errs []error
	var header *Header
	for _, f := range d.Manifest.Files {
		h, err := d.verifyFile(ctx, f, o)
		if err != nil {
			errs = append(errs, err)
		}
		if h != nil {
			header = h
		}
	}
	if _, ok := d.Manifest.File(RoleDelta); len(keys) > 0 && ok == (header != nil) { // else the delta was told already
		root, err := d.Manifest.SignedRoot(header)
		if err == nil {
			err = VerifySignature(keys, d.Manifest.Signature, root)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: signature: %w", ManifestName, err))
		}
	}
	return errors.Join(errs...)
}

// verifyFile returns the header of a delta that parsed.
func (d *Drop) verifyFile(ctx context.Context, want File, o Options) (*Header, error) {
	f, err := d.Open(want.Role)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var header *Header
	fail := func(err error) (*Header, error) { return header, fmt.Errorf("%s: %w", want.Path, err) }
	s := Section(f, want.Size)
	if want.Role == RoleDelta {
		q, err := Parse(s, want.Size)
		if err != nil {
			return fail(err)
		}
		header = &q.Header
		if err := d.Manifest.CheckHeader(header); err != nil {
			return fail(err)
		}
		if err := q.VerifyPayload(ctx, Options{Workers: o.Workers}); err != nil {
			return fail(err)
		}
	}
	l, err := LeavesOf(ctx, s, o)
	if err != nil {
		return fail(err)
	}
	if err := match("the file", "the manifest", rootOf(want.Size, l), want.BLAKE3); err != nil {
		return fail(err)
	}
	if want.SHA256 == "" {
		return header, nil
	}
	h := sha256.New()
	if err := copyTo(ctx, h, s, Options{}); err != nil {
		return fail(err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want.SHA256 {
		return fail(malformed("has SHA-256 %s…, the manifest says %s…", got[:12], want.SHA256[:12]))
	}
	return header, nil
}
