package loader

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/loader/oci"
)

// link is a version below a drop's own that is brought in as its base only.
type link struct {
	cand Candidate
	raw  []byte // its manifest's bytes
	mf   *delta.Manifest

	layout *oci.Layout // nil for a plain drop
}

// readLinks reads the manifests of the drops below c.
func readLinks(c Candidate) (links []link, err error) {
	for _, b := range c.Below {
		raw, mf, layout, err := readManifest(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", b.Drop, err)
		}
		links = append(links, link{b, raw, mf, layout})
	}
	return links, nil
}

// start returns the image that d's way begins with, nil when that is a full file.
// ok is false when it would be a delta whose base is not here.
func (m *model) start(d *drop) (base *image, ok bool) {
	first, only := d.mf, d.cand.Only
	if len(d.links) > 0 {
		first, only = d.links[0].mf, d.links[0].cand.Only
	}
	_, full := first.File(delta.RoleFull)
	if only != "" {
		full = only == delta.RoleFull
	}
	base = m.base(first)
	return base, full || base != nil
}

// checkLinks says why the versions below d's cannot be its bases. The store has one
// place for each number: what is in use there must not be written over.
func (m *model) checkLinks(d *drop) error {
	above := d.mf.Version
	for _, l := range slices.Backward(d.links) {
		if l.mf.Model != m.name || l.mf.Version >= above {
			return fmt.Errorf("%s: holds %s@%d, which is not below %s@%d", l.cand.Drop, l.mf.Model, l.mf.Version, m.name, above)
		}
		if im := m.images[l.mf.Version]; im != nil {
			return fmt.Errorf("%s: %s is here %s: %w", l.cand.Drop, im, same(im.manifest.TargetRoot, l.mf.TargetRoot), ErrPresent)
		}
		above = l.mf.Version
	}
	return nil
}

// below brings in the versions below the drop's own, each verified as a whole, and
// ends with in.base being the last. It returns those that are finished, also with
// an error.
func (in *ingest) below(ctx context.Context, links []link) (done []*image, err error) {
	for _, l := range links {
		step := *in
		step.cand, step.mf, step.raw, step.layout = l.cand, l.mf, l.raw, l.layout
		step.from.BaseOnly = true
		im, err := step.run(ctx)
		if err != nil {
			return done, fmt.Errorf("%s, the base of %s@%d: %w", l.cand.Drop, in.mf.Model, in.mf.Version, err)
		}
		done = append(done, im)
		if err := step.proveBase(ctx, im); err != nil {
			return done, fmt.Errorf("%s, the base of %s@%d: %w", l.cand.Drop, in.mf.Model, in.mf.Version, err)
		}
		in.base = im
	}
	return done, nil
}

// proveBase proves a version that is never mapped by itself, from its files, and
// brings it to disk for good: the version above is durable only with it.
func (in *ingest) proveBase(ctx context.Context, im *image) error {
	if im.delta != nil {
		below, err := in.store.leaves(im.base)
		if err != nil {
			return err
		}
		leaves, _, err := im.delta.TargetLeaves(ctx, below, delta.Section(im, im.size), in.hash)
		if err != nil {
			return err
		}
		if err := im.checkLeaves(leaves, "the version"); err != nil {
			return err
		}
		if err := in.store.write(filepath.Join(im.dir, leavesFile), leaves); err != nil {
			return err
		}
		in.store.measure(im.manifest.Model, im.number())
	}
	if err := im.checkDigests(ctx, in.hash); err != nil {
		return err
	}
	return in.store.sync(im)
}

// split tells the stored versions of a model that were brought in as bases only
// from the others.
func (s *store) split(model string, numbers []uint64) (bases, others []uint64) {
	for _, n := range numbers {
		var o origin
		b, err := os.ReadFile(filepath.Join(s.locate(model, n), originFile))
		if err == nil && json.Unmarshal(b, &o) == nil && o.BaseOnly {
			bases = append(bases, n)
		} else {
			others = append(others, n)
		}
	}
	return bases, others
}
