package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/quadnine/quadnine/loader/delta"
)

func newModelDiff() *cobra.Command {
	var format report
	var out string
	c := &cobra.Command{
		Use:   "diff BASE TARGET",
		Short: "Say what differs between two versions, and write the delta with -o",
		Example: `  quadnine model diff v1.safetensors v2.safetensors
  quadnine model diff v1.safetensors v2.safetensors -o v2.qd --format json`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := format.check(); err != nil {
				return err
			}
			base, err := openModel(args[0])
			if err != nil {
				return err
			}
			defer base.close()
			target, err := openModel(args[1])
			if err != nil {
				return err
			}
			defer target.close()
			o, end := work(cmd, "compare", base.Size()+2*target.Size())
			plan, err := delta.Diff(cmd.Context(), base, target, o)
			end()
			if err != nil {
				return err
			}
			if out != "" {
				o, end := work(cmd, "write", 2*plan.Report.PayloadSize)
				err := writeFile(out, func(w io.Writer) error {
					_, err := plan.Write(cmd.Context(), w, o)
					return err
				})
				end()
				if err != nil {
					return err
				}
			}
			return format.print(cmd.OutOrStdout(), &plan.Report, func(w io.Writer) error { return printDiff(w, &plan.Report, out) })
		},
	}
	c.Flags().StringVarP(&out, "output", "o", "", "write the delta to this file")
	format.flag(c)
	return c
}

// printDiff prints a line for each tensor that differs, and the sums.
func printDiff(w io.Writer, r *delta.Report, out string) error {
	how := "compared by tensor"
	if !r.ByTensor {
		how = "compared page by page: not both are safetensors files"
	}
	if err := printChanges(w, r); err != nil {
		return err
	}
	for _, name := range r.Removed {
		fmt.Fprintf(w, "%s removed\n", shown(name))
	}
	words := []string{fmt.Sprintf("%d changed, %d same, %s", len(r.Changes), r.Same, how)}
	if out != "" {
		words = append(words, "written to "+out)
	}
	return printSums(w, r, words)
}

func printSums(w io.Writer, r *delta.Report, words []string) error {
	_, err := fmt.Fprintf(w, "delta %s (payload %s) for a target of %s; %s\n", size(r.DeltaSize), size(r.PayloadSize), size(r.TargetSize), strings.Join(words, "; "))
	return err
}

func printChanges(w io.Writer, r *delta.Report) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(r.Changes) > 0 {
		fmt.Fprint(t, "TENSOR\tCHANGE\tSHIPPED\tOF\tEXTENTS\tROWS\n")
	}
	for _, c := range r.Changes {
		name := shown(c.Name)
		if c.Name == "" && !r.ByTensor {
			name = "(file)"
		}
		fmt.Fprintf(t, "%s\t%v\t%s\t%s\t%d\t%d\n", name, c.Kind, size(c.Shipped), size(c.Bytes), c.Extents, c.Rows)
	}
	return t.Flush()
}
