package loader

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"

	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/loader/oci"
)

// readLayout reads a drop that is an OCI image layout.
func readLayout(root *os.Root) (*oci.Layout, error) {
	if _, err := root.Lstat(delta.ManifestName); err == nil {
		return nil, fmt.Errorf("holds %s and %s: it is a plain drop or an image layout, not both", delta.ManifestName, oci.LayoutName)
	}
	l, err := oci.Parse(regular{root})
	if errors.Is(err, oci.ErrEmpty) {
		return nil, fmt.Errorf("%w: %w", errNotCommitted, err)
	}
	return l, escape(err)
}

// regular is a drop's directory as oci.Parse reads it: what is no file is not opened,
// also when it was one a moment ago.
type regular struct{ root *os.Root }

// Open implements fs.FS.
func (r regular) Open(name string) (fs.File, error) {
	f, _, err := openRegular(r.root, name)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Stat implements fs.StatFS.
func (r regular) Stat(name string) (fs.FileInfo, error) { return r.root.Stat(name) }

// commit is the file whose renaming into the drop committed it.
func (in *ingest) commit() string {
	if in.layout != nil {
		return oci.IndexName
	}
	return delta.ManifestName
}

// place is where a file of the manifest lies in the drop.
func (in *ingest) place(f delta.File) string {
	if in.layout != nil {
		return in.layout.Blob(f.Path).Path
	}
	return f.Path
}

// name is what errors call a file of the manifest.
func (in *ingest) name(f delta.File) string {
	if in.layout != nil {
		return in.layout.Blob(f.Path).At + " (" + f.Path + ")"
	}
	return f.Path
}

// checkSubject refuses an image layout that was made for another artifact than the
// one that its base came as. Of a base that came as a plain drop only the root is
// known, which the delta is checked against in any case.
func (in *ingest) checkSubject(use delta.File) error {
	if in.layout == nil || in.base == nil || use.Role == delta.RoleFull || in.base.origin.Image == "" {
		return nil
	}
	if got, want := in.layout.Subject, in.base.origin.Image; got != want {
		return fmt.Errorf("subject.digest: is %s, but %s came as %s: make the layout anew, with that one as its base", got, in.base, want)
	}
	return nil
}

// summing writes to w and, when somebody waits for it, hashes what passes by.
type summing struct {
	io.Writer

	sha  hash.Hash // nil: nobody does
	what string
	want string // in hex; empty: any
}

// summing returns what the bytes of a file go through on their way to w: of an
// image layout the digest is checked in the same pass, and what a bundle says is
// held against it later.
func (in *ingest) summing(use delta.File, w io.Writer) summing {
	if in.layout == nil && in.bundle.statement == nil {
		return summing{Writer: w}
	}
	s := summing{sha: sha256.New(), what: in.name(use)}
	if in.layout != nil {
		s.want = use.SHA256
	}
	s.Writer = io.MultiWriter(w, s.sha)
	return s
}

// check returns the digest when there was one to check.
func (s summing) check() (sum string, err error) {
	if s.sha == nil {
		return "", nil
	}
	if sum = hex.EncodeToString(s.sha.Sum(nil)); s.want != "" && sum != s.want {
		return "", fmt.Errorf("%s: digest is sha256:%s, want sha256:%s: it was damaged or changed on the way; copy it again", s.what, sum, s.want)
	}
	return sum, nil
}
