package oci

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	"github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quadnine/quadnine/loader/delta"
)

// Write writes the plain drop in from as an image layout into the directory to,
// which must not hold a drop yet. base is the layout of the version that the drop's
// delta or patch is made for, nil when there is none. index.json is renamed into
// place last. The same drop and base make the same bytes, whenever and wherever.
func Write(ctx context.Context, from, to *os.Root, base *Layout) (image v1.Descriptor, err error) {
	for _, commit := range []string{IndexName, delta.ManifestName} { // beside the latter a layout is refused
		if _, err := to.Lstat(commit); err == nil {
			return image, fmt.Errorf("%s is there already: %w: a drop is never changed; choose another directory", commit, os.ErrExist)
		}
	}
	w := &writer{ctx: ctx, from: from, to: to}
	defer func() {
		if err != nil {
			for _, name := range w.made {
				err = errors.Join(err, to.Remove(name))
			}
		}
	}()
	for _, dir := range []string{v1.ImageBlobsDir, path.Join(v1.ImageBlobsDir, string(digest.SHA256))} {
		if err := to.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return image, err
		}
	}
	mf, subject, err := w.manifest(base)
	if err != nil {
		return image, err
	}
	for _, f := range mf.Files {
		if err := w.file(f); err != nil {
			return image, fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	image, err = w.image(mf, subject)
	if err != nil {
		return image, err
	}
	return image, w.commit(image)
}

// writer is one layout being written.
type writer struct {
	ctx      context.Context //nolint:containedctx // of the one call that it lives for
	from, to *os.Root
	layers   []v1.Descriptor
	made     []string // to be removed when it fails
}

// manifest writes the layer of MANIFEST.json and returns what base is called in
// the image manifest.
func (w *writer) manifest(base *Layout) (*delta.Manifest, *v1.Descriptor, error) {
	raw, err := w.from.ReadFile(delta.ManifestName)
	if err != nil {
		return nil, nil, err
	}
	mf, err := delta.ParseManifest(delta.ManifestName, raw)
	if err != nil {
		return nil, nil, err
	}
	var subject *v1.Descriptor
	switch b := mf.Base; {
	case b == nil && base == nil:
	case b == nil:
		return nil, nil, errors.New("base: is given, but the drop is a full one")
	case base == nil:
		return nil, nil, fmt.Errorf("base: is missing: the drop is made for %s@%d; give that version's image layout", mf.Model, b.Version)
	case base.Manifest.Model != mf.Model || base.Manifest.Version != b.Version || base.Manifest.TargetRoot != b.Root:
		return nil, nil, fmt.Errorf("base: holds %s@%d with root %s, the drop is made for %s@%d with root %s",
			base.Manifest.Model, base.Manifest.Version, base.Manifest.TargetRoot.Short(), mf.Model, b.Version, b.Root.Short())
	default:
		subject = &v1.Descriptor{MediaType: v1.MediaTypeImageManifest, ArtifactType: ArtifactType, Digest: base.Image.Digest, Size: base.Image.Size}
	}
	d, err := w.bytes(ManifestType, raw)
	d.Annotations = map[string]string{FilepathKey: delta.ManifestName}
	w.layers = append(w.layers, d)
	return mf, subject, err
}

// file copies a file of the drop into a blob, and checks its digest.
func (w *writer) file(f delta.File) error {
	if f.SHA256 == "" {
		return fmt.Errorf("has no sha256 in %s, which is its name in an image layout: pack it anew", delta.ManifestName)
	}
	d := v1.Descriptor{
		MediaType: layerTypes[f.Role], Size: f.Size, Digest: digest.NewDigestFromEncoded(digest.SHA256, f.SHA256),
		Annotations: map[string]string{FilepathKey: f.Path},
	}
	in, err := w.from.Open(f.Path)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // only read
	h := sha256.New()
	err = w.create(blobPath(d), func(out io.Writer) error {
		n, err := io.Copy(io.MultiWriter(out, h), reader{w.ctx, in})
		if got := hex.EncodeToString(h.Sum(nil)); err == nil && (n != f.Size || got != f.SHA256) {
			err = fmt.Errorf("has %d bytes and SHA-256 %s…, %s says %d and %s…", n, got[:12], delta.ManifestName, f.Size, f.SHA256[:12])
		}
		return err
	})
	w.layers = append(w.layers, d)
	return err
}

// reader ends with its context.
type reader struct {
	ctx context.Context //nolint:containedctx // of the one copy that it lives for
	io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.Reader.Read(p)
}

// image writes config and image manifest.
func (w *writer) image(mf *delta.Manifest, subject *v1.Descriptor) (v1.Descriptor, error) {
	var c config
	c.Descriptor.Name, c.Descriptor.Version = mf.Model, strconv.FormatUint(mf.Version, 10)
	c.Config.Format = "safetensors"
	c.ModelFS.Type = "layers"
	for _, d := range w.layers {
		c.ModelFS.DiffIDs = append(c.ModelFS.DiffIDs, d.Digest)
	}
	about, err := w.json(ConfigType, c)
	if err != nil {
		return about, err
	}
	image, err := w.json(v1.MediaTypeImageManifest, v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest, ArtifactType: ArtifactType,
		Config: about, Layers: w.layers, Subject: subject,
	})
	image.ArtifactType = ArtifactType
	image.Annotations = map[string]string{v1.AnnotationRefName: "v" + strconv.FormatUint(mf.Version, 10)}
	return image, err
}

// commit writes what a layout begins with.
func (w *writer) commit(image v1.Descriptor) error {
	start, err := json.Marshal(v1.ImageLayout{Version: v1.ImageLayoutVersion})
	if err == nil {
		err = w.create(LayoutName, writes(start))
	}
	if err != nil {
		return err
	}
	index, err := json.Marshal(v1.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{image},
	})
	if err != nil {
		return err
	}
	const temp = "." + IndexName + ".new"
	if err := w.create(temp, writes(index)); err != nil {
		return err
	}
	for _, dir := range []string{path.Join(v1.ImageBlobsDir, string(digest.SHA256)), v1.ImageBlobsDir, "."} { // what is committed is on disk then
		if err := w.sync(dir); err != nil {
			return err
		}
	}
	if err := w.to.Rename(temp, IndexName); err != nil {
		return err
	}
	w.made = nil
	return w.sync(".")
}

func (w *writer) json(mediaType string, v any) (v1.Descriptor, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return v1.Descriptor{}, err
	}
	return w.bytes(mediaType, b)
}

func (w *writer) bytes(mediaType string, b []byte) (v1.Descriptor, error) {
	d := v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	return d, w.create(blobPath(d), writes(b))
}

func writes(b []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	}
}

// create writes and syncs a file, which must not be there.
func (w *writer) create(name string, write func(io.Writer) error) error {
	f, err := w.to.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	w.made = append(w.made, name)
	if err = write(f); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func (w *writer) sync(dir string) error {
	d, err := w.to.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
