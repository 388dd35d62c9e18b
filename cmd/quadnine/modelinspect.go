package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/quadnine/quadnine/loader/delta"
)

func newModelInspect() *cobra.Command {
	var format report
	c := &cobra.Command{
		Use:   "inspect DROP|DELTA|SAFETENSORS",
		Short: "Print what is in a drop, a delta or a version, without reading its data",
		Example: `  quadnine model inspect v2.qd
  quadnine model inspect models/score-v2 --format json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := format.check(); err != nil {
				return err
			}
			dir, err := isDir(args[0])
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			if dir {
				d, root, err := openDrop(args[0])
				if err != nil {
					return err
				}
				defer func() { _ = root.Close() }()
				return format.print(w, d.Manifest, func(w io.Writer) error { return printManifest(w, d.Manifest) })
			}
			f, err := openModel(args[0])
			if err != nil {
				return err
			}
			defer f.close()
			if f.isDelta() {
				d, err := f.parseDelta()
				if err != nil {
					return err
				}
				r := deltaReport{d.Header, delta.Summarize(d.Entries)}
				return format.print(w, r, r.print)
			}
			s, err := delta.ParseSafetensors(f, f.Size())
			if err != nil {
				return f.at(err)
			}
			r := fileReport{f.Size(), s.DataOff, s.Metadata, tensorsOf(s)}
			return format.print(w, r, r.print)
		},
	}
	format.flag(c)
	return c
}

// deltaReport is what inspect prints of a .qd.
type deltaReport struct {
	Header delta.Header   `json:"header"`
	Parts  []delta.Change `json:"tensors"`
}

func (r deltaReport) print(w io.Writer) error {
	h := &r.Header
	fmt.Fprintf(w, "base     %v  %s\ntarget   %v  %s\npayload  %v  %s\ntable    %v  %s: %d entries, %d extents, %d rows\n\n",
		h.BaseRoot, size(h.BaseSize), h.TargetRoot, size(h.TargetSize), h.PayloadRoot, size(h.PayloadSize),
		h.TableRoot, size(h.TableSize), h.Entries, h.Extents, h.Rows)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "TENSOR\tKIND\tSHIPPED\tOF\tEXTENTS\tROWS\n")
	for _, c := range r.Parts {
		fmt.Fprintf(t, "%s\t%v\t%s\t%s\t%d\t%d\n", shown(c.Name), c.Kind, size(c.Shipped), size(c.Bytes), c.Extents, c.Rows)
	}
	return t.Flush()
}

// fileReport is what inspect prints of a safetensors file.
type fileReport struct {
	Size     int64             `json:"bytes"`
	DataOff  int64             `json:"data_offset"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Tensors  []tensorReport    `json:"tensors"`
}

type tensorReport struct {
	Name  string  `json:"name"`
	DType string  `json:"dtype"`
	Shape []int64 `json:"shape"`
	Off   int64   `json:"offset"`
	Bytes int64   `json:"bytes"`
}

func tensorsOf(s *delta.Safetensors) []tensorReport {
	list := make([]tensorReport, 0, len(s.Tensors))
	for _, t := range s.Tensors {
		list = append(list, tensorReport{t.Name, t.DType, t.Shape, t.Off, t.Len})
	}
	return list
}

func (r fileReport) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "TENSOR\tDTYPE\tSHAPE\tOFFSET\tSIZE\n")
	aligned := 0
	for _, x := range r.Tensors {
		fmt.Fprintf(t, "%s\t%s\t%v\t%d\t%s\n", shown(x.Name), x.DType, x.Shape, x.Off, size(x.Bytes))
		if x.Off%delta.PageSize == 0 {
			aligned++
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%d tensors, %d of them page-aligned, data from byte %d, %s in all\n", len(r.Tensors), aligned, r.DataOff, size(r.Size))
	return err
}

func printManifest(w io.Writer, m *delta.Manifest) error {
	fmt.Fprintf(w, "%s v%d, schema %d, root %v\n", m.Model, m.Version, m.SchemaVersion, m.TargetRoot)
	if m.Base != nil {
		fmt.Fprintf(w, "from v%d, root %v\n", m.Base.Version, m.Base.Root)
	}
	for _, f := range m.Files {
		fmt.Fprintf(w, "%s: %s, %s\n", f.Role, f.Path, size(f.Size))
	}
	if m.Eval != nil {
		fmt.Fprintf(w, "answers %s within the process: %s\n", m.Eval.Metric, m.Eval.Kind)
		for _, line := range describeEval(m.Eval) {
			fmt.Fprintf(w, "  %s\n", line)
		}
	}
	if c := m.Canary; c != nil {
		fmt.Fprintf(w, "canary for %v %% of the callers, at least %v and %d requests\n", c.Weight, c.PromoteAfter, c.MinRequests)
	}
	if s := m.Shadow; s != nil {
		until := "until somebody says so"
		if s.Queries > 0 {
			until = fmt.Sprintf("until %d were compared without a fault", s.Queries)
		}
		fmt.Fprintf(w, "first in shadow for %v %% of the queries, %s\n", s.Percent, until)
	}
	if n := len(m.Warmup); n > 0 {
		fmt.Fprintf(w, "warm-up requests: %d\n", n)
	}
	signed := "not signed"
	if m.Signature != nil {
		signed = "signed by key " + m.Signature.KeyID
	}
	_, err := fmt.Fprintln(w, signed)
	return err
}
