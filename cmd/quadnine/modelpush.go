package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/quadnine/quadnine/loader/objects"
	"github.com/quadnine/quadnine/loader/oci"
)

func newModelPush() *cobra.Command {
	var format report
	c := &cobra.Command{
		Use:   "push DROP s3://BUCKET/PREFIX",
		Short: "Put a drop into a bucket that sidecars fetch from",
		Long: `Put a drop, made by quadnine model pack, into a bucket at PREFIX/MODEL/VERSION/: its
files first, MANIFEST.json last, which commits it. The drop is verified before. A
version that is there already is not replaced.

The URL takes ?endpoint=URL&region=NAME&addressing=auto|path|virtual; credentials
are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE in ~/.aws/credentials.`,
		Example: `  quadnine model push models/score-v2 's3://models/prod?region=eu-central-1'`,
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			began := time.Now()
			if err := format.check(); err != nil {
				return err
			}
			b, err := objects.Open(args[1], objects.Options{})
			if err != nil {
				return usage(err)
			}
			defer b.Close()
			drop, root, err := openDrop(args[0])
			if err != nil {
				return err
			}
			defer func() { _ = root.Close() }() // only read
			if oci.Is(root.FS()) {
				return usage(fmt.Errorf("%s: is an image layout: push the drop that it was made from, or copy the layout to a registry", args[0]))
			}
			if err := verifyDrop(cmd, args[0], drop, nil); err != nil {
				return err
			}
			done, err := b.Push(cmd.Context(), root)
			if err != nil {
				return err
			}
			return format.print(cmd.OutOrStdout(), done, func(w io.Writer) error {
				if done.Files == 0 {
					_, err := fmt.Fprintf(w, "%s: is there already\n", done.At)
					return err
				}
				_, err := fmt.Fprintf(w, "%s: %d files, %s, %v\n", done.At, done.Files, size(done.Bytes), time.Since(began).Round(time.Millisecond))
				return err
			})
		},
	}
	format.flag(c)
	return c
}
