package oci

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quadnine/quadnine/loader/delta"
)

// Names in a layout.
const (
	IndexName  = v1.ImageIndexFile  // index.json: its renaming into place commits a drop
	LayoutName = v1.ImageLayoutFile // oci-layout
)

const (
	maxJSON      = 1 << 20 // bytes of each JSON text, as of a MANIFEST.json
	maxManifests = 64      // a version and the chain below it
)

// ErrEmpty is what Parse returns of a layout that holds nothing yet: some tools
// begin with such an index.
var ErrEmpty = errors.New("the layout is still empty")

// Layout is a drop that is an image layout.
type Layout struct {
	Manifest *delta.Manifest
	Raw      []byte        // MANIFEST.json's bytes
	Path     string        // of the blob that they are
	Image    v1.Descriptor // of the image manifest
	Subject  string        // digest of the base's image manifest; empty without a base

	blobs map[string]Blob
}

// Blob is where a file of the drop lies.
type Blob struct {
	At   string // its field in the image manifest
	Path string // in the layout
}

// Blob returns where the file lies that the manifest calls path.
func (l *Layout) Blob(path string) Blob { return l.blobs[path] }

// Is reports whether a directory is, or is about to be, an image layout.
func Is(dir fs.FS) bool {
	_, err := fs.Stat(dir, LayoutName)
	return !errors.Is(err, fs.ErrNotExist) // a link that leads out is for Parse to refuse
}

// Parse reads the layout in dir. Every error names the file and the field's path.
func Parse(dir fs.FS) (*Layout, error) {
	p := parser{dir: dir, l: &Layout{blobs: make(map[string]Blob)}}
	if err := p.index(); err != nil {
		return nil, err
	}
	at := "image manifest " + short(p.l.Image)
	var image v1.Manifest
	if err := p.blob(p.at, p.l.Image, &image, nil); err != nil {
		return nil, err
	}
	if err := p.image(&image); err != nil {
		return nil, fmt.Errorf("%s: %w", at, err)
	}
	return p.l, nil
}

type parser struct {
	dir fs.FS
	l   *Layout
	at  string // the field that names the image manifest
}

// index reads oci-layout and index.json.
func (p *parser) index() error {
	var version v1.ImageLayout
	if err := p.json(LayoutName, &version); err != nil {
		return err
	}
	if version.Version != v1.ImageLayoutVersion {
		return fmt.Errorf("%s: imageLayoutVersion: is %q, want %q", LayoutName, version.Version, v1.ImageLayoutVersion)
	}
	var index v1.Index
	if err := p.json(IndexName, &index); err != nil {
		return err
	}
	fail := func(format string, args ...any) error { return fmt.Errorf(IndexName+": "+format, args...) }
	if index.SchemaVersion != 2 {
		return fail("schemaVersion: is %d, want 2", index.SchemaVersion)
	}
	if t := index.MediaType; t != "" && t != v1.MediaTypeImageIndex {
		return fail("mediaType: is %q, want %q", t, v1.MediaTypeImageIndex)
	}
	switch n := len(index.Manifests); {
	case n == 0:
		return fail("manifests: %w", ErrEmpty)
	case n > maxManifests:
		return fail("manifests: has %d, at most %d are read: a drop is one version; copy one of them into a layout of its own", n, maxManifests)
	}
	for i, d := range index.Manifests {
		switch t := d.MediaType; {
		case t == v1.MediaTypeImageIndex:
			return fail("manifests[%d].mediaType: is an index again: a drop is one version; copy that one into a layout of its own", i)
		case t != v1.MediaTypeImageManifest:
			return fail("manifests[%d].mediaType: is %q, want %q", i, t, v1.MediaTypeImageManifest)
		}
		if t := d.ArtifactType; t != "" && t != ArtifactType {
			return fail("manifests[%d].artifactType: is %q, want %q", i, t, ArtifactType)
		}
	}
	return p.choose(index.Manifests)
}

// choose finds the manifest that the drop is: the only one, or the only one that
// is not the base of another. Some tools copy the bases of a delta along.
func (p *parser) choose(manifests []v1.Descriptor) error {
	bases := make(map[digest.Digest]bool)
	at := func(i int) string { return fmt.Sprintf("%s: manifests[%d]", IndexName, i) }
	for i, d := range manifests {
		var image v1.Manifest
		if len(manifests) == 1 {
			break
		}
		if err := p.blob(at(i), d, &image, nil); err != nil {
			return err
		}
		if image.Subject != nil {
			bases[image.Subject.Digest] = true
		}
	}
	for i, d := range manifests {
		if bases[d.Digest] {
			continue
		}
		if p.at != "" {
			return fmt.Errorf("%s and manifests[%d] are no base of one another: a drop is one version; copy one of them into a layout of its own", p.at, i)
		}
		p.at, p.l.Image = at(i), d
	}
	if p.at == "" {
		return fmt.Errorf("%s: manifests: each is the base of another", IndexName)
	}
	return nil
}

// image checks the image manifest and all that it leads to.
func (p *parser) image(m *v1.Manifest) error {
	if m.SchemaVersion != 2 {
		return fmt.Errorf("schemaVersion: is %d, want 2", m.SchemaVersion)
	}
	if t := m.MediaType; t != "" && t != v1.MediaTypeImageManifest {
		return fmt.Errorf("mediaType: is %q, want %q", t, v1.MediaTypeImageManifest)
	}
	if m.ArtifactType != ArtifactType {
		return fmt.Errorf("artifactType: is %q, want %q: a model, as the CNCF model specification has it", m.ArtifactType, ArtifactType)
	}
	if t := m.Config.MediaType; t != ConfigType {
		return fmt.Errorf("config.mediaType: is %q, want %q", t, ConfigType)
	}
	if err := p.manifest(m.Layers); err != nil {
		return err
	}
	if err := p.layers(m.Layers); err != nil {
		return err
	}
	if err := p.subject(m.Subject); err != nil {
		return err
	}
	return p.config(m)
}

// manifest finds the layer that is MANIFEST.json and reads it.
func (p *parser) manifest(layers []v1.Descriptor) error {
	found := -1
	for i, d := range layers {
		at := fmt.Sprintf("layers[%d]", i)
		if err := checkLayerType(d.MediaType); err != nil {
			return fmt.Errorf("%s.mediaType: %w", at, err)
		}
		if d.MediaType != ManifestType {
			continue
		}
		if found >= 0 {
			return fmt.Errorf("%s.mediaType: %s is there twice, in layers[%d] too", at, ManifestType, found)
		}
		found = i
		if name := d.Annotations[FilepathKey]; name != delta.ManifestName {
			return fmt.Errorf("%s.annotations[%q]: is %q, want %q", at, FilepathKey, name, delta.ManifestName)
		}
		err := p.blob(at, d, nil, func(raw []byte) (err error) {
			p.l.Raw, p.l.Path = raw, blobPath(d)
			p.l.Manifest, err = delta.ParseManifest(delta.ManifestName, raw)
			return err
		})
		if err != nil {
			return err
		}
	}
	if found < 0 {
		return fmt.Errorf("layers: none is %s, which says what version this is; quadnine model oci writes it", ManifestType)
	}
	return nil
}

// layers holds the other layers against MANIFEST.json: they are its files, all of
// them and nothing else.
func (p *parser) layers(layers []v1.Descriptor) error {
	for i, d := range layers {
		if d.MediaType == ManifestType {
			continue
		}
		if err := p.layer(fmt.Sprintf("layers[%d]", i), d); err != nil {
			return err
		}
	}
	for i, f := range p.l.Manifest.Files {
		if _, ok := p.l.blobs[f.Path]; !ok {
			return fmt.Errorf("layers: none has the annotation %s: %s, which is files[%d] of %s", FilepathKey, f.Path, i, delta.ManifestName)
		}
	}
	return nil
}

func (p *parser) layer(at string, d v1.Descriptor) error {
	if err := checkDescriptor(at, d); err != nil {
		return err
	}
	name := d.Annotations[FilepathKey]
	here := fmt.Sprintf("%s.annotations[%q]", at, FilepathKey)
	if err := delta.CheckPath(name); err != nil {
		return fmt.Errorf("%s: %w", here, err)
	}
	if _, ok := p.l.blobs[name]; ok {
		return fmt.Errorf("%s: %q is there twice", here, name)
	}
	for i, f := range p.l.Manifest.Files {
		if f.Path != name {
			continue
		}
		of := fmt.Sprintf("files[%d] of %s", i, delta.ManifestName)
		switch want := layerTypes[f.Role]; {
		case d.MediaType != want:
			return fmt.Errorf("%s.mediaType: is %q, %s is a %s: want %q", at, d.MediaType, of, f.Role, want)
		case d.Size != f.Size:
			return fmt.Errorf("%s.size: is %d, %s says %d", at, d.Size, of, f.Size)
		case d.Digest.Encoded() != f.SHA256:
			return fmt.Errorf("%s.digest: is %s, %s says sha256:%s", at, d.Digest, of, f.SHA256)
		}
		p.l.blobs[name] = Blob{at, blobPath(d)}
		return nil
	}
	return fmt.Errorf("%s: %q is no file of %s: a layer that nothing uses is refused", here, name, delta.ManifestName)
}

// subject checks that a delta or a patch says which artifact it is made for.
func (p *parser) subject(d *v1.Descriptor) error {
	base := p.l.Manifest.Base
	switch {
	case d == nil && base == nil:
		return nil
	case d == nil:
		return fmt.Errorf("subject: is missing: %s is made for version %d, and subject is that one's image manifest", delta.ManifestName, base.Version)
	case base == nil:
		return fmt.Errorf("subject: is %s, but %s has no base", d.Digest, delta.ManifestName)
	case d.MediaType != v1.MediaTypeImageManifest:
		return fmt.Errorf("subject.mediaType: is %q, want %q", d.MediaType, v1.MediaTypeImageManifest)
	case d.ArtifactType != "" && d.ArtifactType != ArtifactType:
		return fmt.Errorf("subject.artifactType: is %q, want %q", d.ArtifactType, ArtifactType)
	}
	p.l.Subject = d.Digest.String()
	return checkDescriptor("subject", *d)
}
