package objects

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/quadnine/quadnine/loader/delta"
)

// maxManifest bounds a manifest, in bytes, as package delta does.
const maxManifest = 1 << 20

// entry is one PREFIX/MODEL/VERSION/ of a bucket that has a manifest.
type entry struct {
	model    string
	version  uint64
	manifest object
	files    map[string]object // by the path that a manifest has
	raw      []byte            // the manifest's bytes; nil until read
	mf       *delta.Manifest
	err      error // why there is no mf
}

// name is what the drop is called: its address.
func (e *entry) name(b *Bucket) string {
	return b.String() + path.Join(e.model, strconv.FormatUint(e.version, 10))
}

// offer says which of the manifest's files can be had.
func (e *entry) offer() *offer {
	o := &offer{manifest: e.mf}
	for _, f := range e.mf.Files {
		if have, ok := e.files[f.Path]; ok && have.size == f.Size {
			o.usable = append(o.usable, f)
		}
	}
	return o
}

// catalog is what a bucket holds: entries by model, and by version below it.
type catalog map[string]map[uint64]*entry

// arrange makes a catalog of a list. What is no drop is passed over: a bucket may
// hold more than models.
func arrange(prefix string, list []object) catalog {
	c := make(catalog)
	for _, o := range list {
		parts := strings.SplitN(strings.TrimPrefix(o.key, prefix), "/", 3)
		if len(parts) < 3 {
			continue
		}
		n, err := strconv.ParseUint(parts[1], 10, 64)
		if err != nil || strconv.FormatUint(n, 10) != parts[1] {
			continue
		}
		if c[parts[0]] == nil {
			c[parts[0]] = make(map[uint64]*entry)
		}
		e := c[parts[0]][n]
		if e == nil {
			e = &entry{model: parts[0], version: n, files: make(map[string]object)}
			c[parts[0]][n] = e
		}
		if parts[2] == delta.ManifestName {
			e.manifest = o
		} else {
			e.files[parts[2]] = o
		}
	}
	for model, versions := range c {
		for n, e := range versions {
			if e.manifest.key == "" { // not committed yet
				delete(versions, n)
			}
		}
		if len(versions) == 0 {
			delete(c, model)
		}
	}
	return c
}

// catalog lists the bucket and reads the manifests that old has not, or has of
// another commit. A manifest that cannot be read or is refused costs its own
// version only.
func (b *Bucket) catalog(ctx context.Context, old catalog) (catalog, error) {
	list, err := b.list(ctx)
	if err != nil {
		return nil, err
	}
	c := arrange(b.at.prefix, list)
	for model, versions := range c {
		for n, e := range versions {
			if was := old[model][n]; was != nil && was.mf != nil && was.manifest.etag == e.manifest.etag {
				e.raw, e.mf = was.raw, was.mf
				continue
			}
			if e.raw, e.err = b.readAll(ctx, e.manifest); e.err == nil {
				e.mf, e.err = parseManifest(e)
			}
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
		}
	}
	return c, nil
}

func parseManifest(e *entry) (*delta.Manifest, error) {
	mf, err := delta.ParseManifest(delta.ManifestName, e.raw)
	if err != nil {
		return nil, err
	}
	if mf.Model != e.model || mf.Version != e.version {
		return nil, fmt.Errorf("%s: is of %s@%d, but stands at %s/%d: a version's place is MODEL/VERSION", delta.ManifestName, mf.Model, mf.Version, e.model, e.version)
	}
	return mf, nil
}

// readAll returns a manifest's bytes.
func (b *Bucket) readAll(ctx context.Context, o object) ([]byte, error) {
	if o.size > maxManifest {
		return nil, fmt.Errorf("%s: has %d bytes, at most %d are read", delta.ManifestName, o.size, maxManifest)
	}
	var buf bytes.Buffer
	err := b.read(ctx, o, o.size, &buf)
	return buf.Bytes(), err
}
