package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/quadnine/quadnine/loader/oci"
)

func newModelOCI() *cobra.Command {
	var base string
	var format report
	c := &cobra.Command{
		Use:   "oci DROP OUT",
		Short: "Write a drop as an OCI image layout, which registries' tools copy",
		Long: `Write a drop, made by quadnine model pack, as an OCI image layout (oci-layout,
index.json, blobs) with the media types of ModelPack. The drop is verified before.
Sidecars take a layout that appears in their models directory like any drop;
index.json is renamed into place last. The same drop makes the same bytes.`,
		Example: `  quadnine model oci models/score-v1 score-v1.oci
  quadnine model oci models/score-v2 score-v2.oci --base score-v1.oci`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := format.check(); err != nil {
				return err
			}
			image, err := writeLayout(cmd, args[0], args[1], base)
			if err != nil {
				return err
			}
			return format.print(cmd.OutOrStdout(), image, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s: image manifest %s\n", args[1], image.Digest)
				return err
			})
		},
	}
	c.Flags().StringVar(&base, "base", "", "the image layout of the version that DROP's delta or patch is made for; needed when it has one")
	format.flag(c)
	return c
}

func writeLayout(cmd *cobra.Command, from, out, base string) (image v1.Descriptor, err error) {
	drop, root, err := openDrop(from)
	if err != nil {
		return image, err
	}
	defer func() { _ = root.Close() }() // only read
	if oci.Is(root.FS()) {
		return image, usage(fmt.Errorf("%s: is an image layout already", from))
	}
	var below *oci.Layout
	if base != "" {
		dir, err := os.OpenRoot(base)
		if err != nil {
			return image, usage(fmt.Errorf("--base: %w", err))
		}
		below, err = oci.Parse(dir.FS())
		if err = errors.Join(err, dir.Close()); err != nil {
			return image, usage(fmt.Errorf("--base %s: %w", base, err))
		}
	}
	if err := verifyDrop(cmd, from, drop, nil); err != nil {
		return image, err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return image, err
	}
	to, err := os.OpenRoot(out)
	if err != nil {
		return image, err
	}
	image, err = oci.Write(cmd.Context(), root, to, below)
	if err = errors.Join(err, to.Close()); err != nil {
		return image, fmt.Errorf("%s: %w", out, err)
	}
	return image, nil
}
