package objects

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/quadnine/quadnine/loader/delta"
)

// Step is one file to fetch: with it, what is here becomes a version.
type Step struct {
	Version uint64
	Role    delta.Role
	Size    int64 // bytes
}

// offer is a version that a bucket holds, and which of its files can be had.
type offer struct {
	manifest *delta.Manifest
	usable   []delta.File // the manifest's files that are there in their full size
}

// base returns what the version is to the deltas made from it.
func (o *offer) base() delta.Base {
	return delta.Base{Version: o.manifest.Version, Root: o.manifest.TargetRoot}
}

// plan returns the way to a version that moves the fewest bytes, and of those the
// one with the fewest steps: from any version that is here over deltas and
// patches, or from nothing by a full file. Versions only grow along a delta
// (Manifest.Validate), so that one pass in their order finds the shortest way.
func plan(here []delta.Base, offers []*offer, target *offer) ([]Step, error) {
	type way struct {
		bytes int64
		steps []Step
	}
	best := make(map[delta.Base]way)
	taken := make(map[uint64]bool) // numbers that stand for what is here, and for nothing else
	for _, b := range here {
		best[b], taken[b.Version] = way{}, true
	}
	offers = slices.SortedFunc(slices.Values(offers), func(a, b *offer) int { return cmp.Compare(a.manifest.Version, b.manifest.Version) })
	for _, o := range offers {
		if taken[o.manifest.Version] || o.manifest.Version > target.manifest.Version {
			continue
		}
		for _, f := range o.usable {
			var from way
			if f.Role != delta.RoleFull {
				var ok bool
				if from, ok = best[*o.manifest.Base]; !ok {
					continue
				}
			}
			have, ok := best[o.base()]
			w := way{bytes: from.bytes + f.Size}
			if ok && cmp.Or(cmp.Compare(have.bytes, w.bytes), cmp.Compare(len(have.steps), len(from.steps)+1)) <= 0 {
				continue
			}
			w.steps = append(slices.Clip(from.steps), Step{o.manifest.Version, f.Role, f.Size})
			best[o.base()] = w
		}
	}
	w, ok := best[target.base()]
	if !ok || len(w.steps) == 0 {
		return nil, fmt.Errorf("no way leads to %s@%d: %s", target.manifest.Model, target.manifest.Version, missing(here, offers, target))
	}
	return w.steps, nil
}

// missing says what would have to be there for a way to target.
func missing(here []delta.Base, offers []*offer, target *offer) string {
	for o := target; ; {
		m := o.manifest
		if slices.ContainsFunc(here, func(b delta.Base) bool { return b.Version == m.Version }) {
			return fmt.Sprintf("another %s@%d is here", m.Model, m.Version)
		}
		if len(o.usable) == 0 {
			return fmt.Sprintf("the bucket has no file of %s@%d in the size that its manifest says", m.Model, m.Version)
		}
		b := *m.Base // a usable full file would have been a way
		i := slices.IndexFunc(offers, func(o *offer) bool { return o.base() == b })
		if i < 0 {
			return fmt.Sprintf("%s@%d with root %s, which %s@%d is made from, is neither here nor in the bucket: push it, or push %s@%d with --full", m.Model, b.Version, b.Root.Short(), m.Model, m.Version, m.Model, m.Version)
		}
		o = offers[i]
	}
}
