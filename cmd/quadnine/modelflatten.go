package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/quadnine/quadnine/loader/delta"
)

func newModelFlatten() *cobra.Command {
	var format report
	var out string
	c := &cobra.Command{
		Use:   "flatten DELTA DELTA...",
		Short: "Make one delta of several that follow one another, oldest first",
		Long: `Flatten writes one delta that does what the given ones do in turn: newest wins,
and what a newer one replaced is left out. Neither base nor versions are needed.`,
		Example: `  quadnine model flatten v2.qd v3.qd v4.qd -o v4-from-v1.qd`,
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := format.check(); err != nil {
				return err
			}
			if out == "" {
				return usage(errors.New("-o: is needed, like -o v4-from-v1.qd"))
			}
			chain, closeAll, err := openChain(args)
			defer closeAll()
			if err != nil {
				return err
			}
			total := int64(0)
			for _, d := range chain {
				total += d.Header.PayloadSize
			}
			o, end := work(cmd, "read", total)
			plan, err := delta.Flatten(cmd.Context(), chain, o)
			end()
			if err != nil {
				return fmt.Errorf("%v: %w", args, err)
			}
			o, end = work(cmd, "write", 2*plan.Report.PayloadSize)
			err = writeFile(out, func(w io.Writer) error {
				_, err := plan.Write(cmd.Context(), w, o)
				return err
			})
			end()
			if err != nil {
				return err
			}
			return format.print(cmd.OutOrStdout(), &plan.Report, func(w io.Writer) error {
				if err := printChanges(w, &plan.Report); err != nil {
					return err
				}
				return printSums(w, &plan.Report, []string{fmt.Sprintf("%d deltas of %s in all; written to %s", len(chain), size(sizeOf(chain)), out)})
			})
		},
	}
	c.Flags().StringVarP(&out, "output", "o", "", "the file to write (required)")
	format.flag(c)
	return c
}

// openChain parses deltas, which end closes.
func openChain(paths []string) (chain []*delta.Delta, end func(), err error) {
	var files []*modelFile
	end = func() {
		for _, f := range files {
			f.close()
		}
	}
	for _, path := range paths {
		f, err := openModel(path)
		if err != nil {
			return nil, end, err
		}
		files = append(files, f)
		d, err := f.parseDelta()
		if err != nil {
			return nil, end, err
		}
		chain = append(chain, d)
	}
	return chain, end, nil
}

// sizeOf returns the bytes of all files of a chain.
func sizeOf(chain []*delta.Delta) (n int64) {
	for _, d := range chain {
		n += d.Header.Size()
	}
	return n
}
