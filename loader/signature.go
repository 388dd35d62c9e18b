package loader

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/loader/modelsign"
)

// checkSignature checks who made the drop, when a key is configured: its manifest is
// signed by one of those, or its bundle by one of the others. sum is the SHA-256 of
// the file to use when that passed by on its way in, as hex.
func (in *ingest) checkSignature(ctx context.Context, root *os.Root, im *image, use delta.File, sum string) error {
	if len(in.keys)+len(in.trust) == 0 || im.origin.Bundle {
		return nil
	}
	var byKey, byBundle error
	if len(in.keys) > 0 {
		if byKey = in.checkManifest(root, im); byKey == nil {
			return nil
		}
		if _, err := root.Lstat(modelsign.FileName); err == nil && len(in.trust) == 0 {
			byKey = fmt.Errorf("%w (%s is not looked at: no key for it is trusted here)", byKey, modelsign.FileName)
		}
	}
	if len(in.trust) > 0 {
		if byBundle = in.checkBundle(ctx, root, im, use, sum); byBundle == nil {
			im.origin.Bundle = true
			return nil
		}
		byBundle = refusedBundle(byBundle)
	}
	if byKey == nil || byBundle == nil {
		return errors.Join(byKey, byBundle)
	}
	return fmt.Errorf("%w; %w", byKey, byBundle)
}

func refusedBundle(err error) error {
	return fmt.Errorf("%w: %s: %w", ErrSignature, modelsign.FileName, err)
}

// checkManifest checks the signature in the manifest. One with a delta is signed
// over it, even where another file is used.
func (in *ingest) checkManifest(root *os.Root, im *image) error {
	var h *delta.Header
	d, ok := in.mf.File(delta.RoleDelta)
	switch {
	case im.delta != nil && im.origin.Patch == "":
		h = &im.delta.Header
	case ok:
		f, fi, err := openRegular(root, in.place(d))
		if err != nil {
			return err
		}
		defer f.Close()
		if h, err = delta.ParseHeader(f, fi.Size()); err != nil {
			return fmt.Errorf("%s: %w", d.Path, err)
		}
	}
	return checkSigned(in.keys, in.mf, h)
}

// checkSigned checks a manifest's signature; h is its delta's header, if any.
func checkSigned(keys []*delta.PublicKey, mf *delta.Manifest, h *delta.Header) error {
	signed, err := mf.SignedRoot(h)
	if err == nil {
		err = delta.VerifySignature(keys, mf.Signature, signed)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return nil
}

// bundle is a drop's model.sig.
type bundle struct {
	raw       []byte
	statement *modelsign.Statement // nil: it cannot be used
	err       error                // why not
}

// open reads the bundle and checks its signature, before anything is copied.
func (b *bundle) open(root *os.Root, trust []*modelsign.Key) {
	*b = bundle{}
	if len(trust) == 0 {
		return
	}
	f, fi, err := openRegular(root, modelsign.FileName)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: it is missing: sign the drop with `model_signing sign key`, before its manifest is renamed into place", delta.ErrUnsigned)
	}
	if err == nil {
		defer f.Close()
		if n := fi.Size(); n > modelsign.MaxSize {
			err = fmt.Errorf("has %d bytes, at most %d are read: %w", n, modelsign.MaxSize, ErrSize)
		} else {
			b.raw, err = io.ReadAll(io.LimitReader(f, modelsign.MaxSize))
		}
	}
	if err == nil {
		b.statement, err = modelsign.Verify(b.raw, trust)
	}
	b.err = err
}

// checkBundle holds what the bundle says against the drop: its files, all of them
// and nothing else, with their digests. Of the manifest and the file to use it is
// the bytes that were read that count, not those that are there now.
func (in *ingest) checkBundle(ctx context.Context, root *os.Root, im *image, use delta.File, sum string) (err error) {
	if in.bundle.err != nil {
		return in.bundle.err
	}
	known := map[string]string{in.manifestPlace(): sumOf(in.raw)}
	if sum == "" && !use.Role.IsPatch() { // in place: what is open is what will be mapped
		if sum, err = sumAll(ctx, io.NewSectionReader(im.blob.f, 0, im.blob.size)); err != nil {
			return fmt.Errorf("%s: %w", use.Path, err)
		}
	}
	if sum != "" {
		known[in.place(use)] = sum
	}
	for _, name := range []string{in.manifestPlace(), in.place(use)} {
		if _, ok := in.bundle.statement.Digest(name); !ok {
			return fmt.Errorf("%s is not in it: sign the drop again", name)
		}
	}
	if err := in.checkAllSigned(root); err != nil {
		return err
	}
	for _, f := range in.bundle.statement.Files {
		got, ok := known[f.Name]
		if !ok {
			if got, err = sumFile(ctx, root, f.Name); err != nil {
				return fmt.Errorf("%s: %w", f.Name, err)
			}
		}
		if got != f.SHA256 {
			return fmt.Errorf("%s: SHA-256 is %s, it says %s: the drop was changed after it was signed", f.Name, got, f.SHA256)
		}
	}
	return nil
}

// checkAllSigned refuses files that the bundle does not list. Names that begin with a
// dot are passed over: nothing in a drop can refer to them.
func (in *ingest) checkAllSigned(root *os.Root) error {
	return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch _, signed := in.bundle.statement.Digest(name); {
		case err != nil:
			return escape(err)
		case name == "." || name == modelsign.FileName || signed:
			return nil
		case strings.HasPrefix(path.Base(name), ".") && d.IsDir():
			return fs.SkipDir
		case strings.HasPrefix(path.Base(name), ".") || d.IsDir():
			return nil
		default:
			return fmt.Errorf("%s is in the drop and not in it: sign the drop again", name)
		}
	})
}

// manifestPlace is where the manifest's bytes lie in the drop.
func (in *ingest) manifestPlace() string {
	if in.layout != nil {
		return in.layout.Path
	}
	return delta.ManifestName
}

func sumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func sumFile(ctx context.Context, root *os.Root, name string) (string, error) {
	f, _, err := openRegular(root, name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return sumAll(ctx, f)
}

func sumAll(ctx context.Context, r io.Reader) (string, error) {
	h := sha256.New()
	_, err := copyHashed(ctx, io.Discard, h, r, 0)
	return hex.EncodeToString(h.Sum(nil)), err
}

// keepBundle stores the bundle of a version that was taken for it: a start looks at
// it again when the version was not decided yet.
func (in *ingest) keepBundle(im *image, dir string) error {
	if !im.origin.Bundle {
		return nil
	}
	return in.store.write(filepath.Join(dir, modelsign.FileName), in.bundle.raw)
}

// checkStored checks the signature of a stored version by the keys that are trusted
// now. raw is its manifest's bytes. The files were held against the bundle when they
// came in, and are held against the manifest ever since.
func (l *Loader) checkStored(im *image, raw []byte) error {
	if len(l.opts.Keys)+len(l.opts.Trust) == 0 {
		return nil
	}
	if im.origin.Bundle {
		b, err := os.ReadFile(filepath.Join(im.dir, modelsign.FileName))
		if err != nil {
			return fmt.Errorf("%w: %w", ErrSignature, err)
		}
		s, err := modelsign.Verify(b, l.opts.Trust)
		if err != nil {
			return refusedBundle(err)
		}
		want := sumOf(raw)
		for _, name := range []string{delta.ManifestName, path.Join("blobs/sha256", want)} { // of a plain drop, of an image layout
			if got, ok := s.Digest(name); ok && got == want {
				return nil
			}
		}
		return fmt.Errorf("%w: %s: is another manifest's", ErrSignature, modelsign.FileName)
	}
	var h *delta.Header
	if im.delta != nil && im.origin.Patch == "" {
		h = &im.delta.Header
	}
	// Without the delta that its manifest is signed over it fails: the drop has it.
	return checkSigned(l.opts.Keys, im.manifest, h)
}
