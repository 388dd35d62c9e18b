package loader

import (
	"context"
	"fmt"
	"io"

	"github.com/quadnine/quadnine/loader/delta"
)

// checkDigests compares the file that is used with every digest that its
// manifest gives. What is mapped was proved before; this finds a drop whose
// manifest and files do not belong together, while nothing waits for it.
func (im *image) checkDigests(ctx context.Context, o delta.Options) error {
	if im.origin.Flat || im.origin.Patch != "" { // proved by the root, when it was made; a patch was checked before it was applied
		return nil
	}
	f, _ := im.manifest.File(im.origin.Role)
	all := delta.Section(im.blob.f, im.blob.size)
	if im.delta != nil { // a full file's root was checked on its way in
		leaves, err := delta.LeavesOf(ctx, all, o)
		if err != nil {
			return fmt.Errorf("%s: %w", im.blob.name, err)
		}
		if err := checkRoot(f, leaves); err != nil {
			return err
		}
	}
	if f.SHA256 == "" || f.SHA256 == im.summed {
		return nil
	}
	got, err := sumAll(ctx, io.NewSectionReader(im.blob.f, 0, im.blob.size))
	if err != nil {
		return fmt.Errorf("%s: %w", im.blob.name, err)
	}
	if got != f.SHA256 {
		return fmt.Errorf("%s: SHA-256 is %s, the manifest says %s", im.blob.name, got, f.SHA256)
	}
	return nil
}
