package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/loader/model/lightgbm"
	"github.com/quadnine/quadnine/loader/model/trees"
)

// importFlags are those of the commands that make a version of something else.
type importFlags struct {
	out    string
	eval   string
	metric string
	rows   string
}

func (f *importFlags) flags(c *cobra.Command) {
	fl := c.Flags()
	fl.StringVarP(&f.out, "output", "o", "", "the version's file (required)")
	fl.StringVar(&f.eval, "eval", "", "also write an eval object for quadnine model pack here, with every input from the metric of its name")
	fl.StringVar(&f.metric, "metric", "score", "the metric that the version answers, for --eval")
	fl.StringVar(&f.rows, "rows", "", "the member of the upstream's replies that holds the rows of a query of several, for --eval")
}

func (f *importFlags) check() error {
	if f.out == "" {
		return usage(errors.New("-o: is needed, like -o model.safetensors"))
	}
	if f.rows != "" && f.eval == "" {
		return usage(errors.New("--rows: stands in the eval object, which --eval FILE writes: give both or neither"))
	}
	return nil
}

// write writes the version, and its eval object when one is wanted.
func (f *importFlags) write(tensors []delta.TensorBytes, e *delta.Eval) error {
	e.Rows = f.rows
	text, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	if f.eval != "" { // before anything is written
		if _, err := delta.ParseEval(f.eval, text); err != nil {
			return fmt.Errorf("--eval: %w", err)
		}
	}
	err = writeFile(f.out, func(w io.Writer) error { return delta.WriteSafetensors(w, tensors) })
	if err != nil || f.eval == "" {
		return err
	}
	return writeFile(f.eval, func(w io.Writer) error {
		_, err := w.Write(append(text, '\n'))
		return err
	})
}

// inputs has each input come from the metric of its name.
func inputs(names []string) map[string]delta.Input {
	out := make(map[string]delta.Input, len(names))
	for _, name := range names {
		out[name] = delta.Input{Metric: name}
	}
	return out
}

func newModelImportLightGBM() *cobra.Command {
	var f importFlags
	c := &cobra.Command{
		Use:   "import-lightgbm MODEL.txt",
		Short: "Make a version out of a LightGBM model, as its save_model writes it",
		Long: `Make a safetensors file out of a LightGBM model's text: its trees laid flat, to be
evaluated where they are mapped (kind trees). Numerical and categorical splits,
missing values, averaged forests and the objectives' transforms give what LightGBM
predicts; what cannot be computed so is refused with its line.`,
		Example: `  quadnine model import-lightgbm model.txt -o v1.safetensors --eval eval.json --metric score
  quadnine model pack v1.safetensors --model score --version 1 --eval eval.json -o models/score-v1`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			file, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer func() { _ = file.Close() }() // only read
			m, err := lightgbm.Parse(file)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			p, err := m.Parts()
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			check, err := trees.Check(p)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			e := &delta.Eval{
				Kind: delta.EvalTrees, Metric: f.metric, Input: inputs(check.FeatureNames()),
				Weights: map[string]string{"header": trees.TensorHeader, "nodes": trees.TensorNodes, "roots": trees.TensorRoots, "categories": trees.TensorCategories},
			}
			if err := f.write(forestTensors(p), e); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d trees, at most %d splits deep, %d features, %s of nodes: %s\n", check.Trees(), check.Depth(), len(check.Features), size(int64(len(p.Nodes))), f.out)
			return err
		},
	}
	f.flags(c)
	return c
}

// forestTensors are a forest's tensors, the large one first.
func forestTensors(p trees.Parts) []delta.TensorBytes {
	n := func(b []byte, width int) int64 { return int64(len(b) / width) }
	return []delta.TensorBytes{
		{Name: trees.TensorNodes, DType: "U8", Shape: []int64{n(p.Nodes, trees.NodeSize), trees.NodeSize}, Data: p.Nodes},
		{Name: trees.TensorRoots, DType: "U32", Shape: []int64{n(p.Roots, 4)}, Data: p.Roots},
		{Name: trees.TensorCategories, DType: "U32", Shape: []int64{n(p.Categories, 4)}, Data: p.Categories},
		{Name: trees.TensorHeader, DType: "U8", Shape: []int64{n(p.Header, 1)}, Data: p.Header},
	}
}

// What import-wasm calls the module, in the file and among the weights.
const (
	tensorModule = "wasm.module"
	weightModule = "module"
)

func newModelImportWasm() *cobra.Command {
	var f importFlags
	var weights string
	var order []string
	c := &cobra.Command{
		Use:   "import-wasm MODULE.wasm",
		Short: "Make a version out of a WebAssembly module, with the tensors it computes with",
		Long: `Make a safetensors file that holds a WebAssembly module (kind wasm) and, with
--weights, the tensors of another file, which the module is given copies of in the
order of their names. docs/wasm.md says what a module exports.`,
		Example: `  quadnine model import-wasm score.wasm --inputs uv,pv -o v1.safetensors --eval eval.json --metric score`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			if f.eval != "" && len(order) == 0 {
				return usage(errors.New("--inputs: is needed for --eval, like --inputs uv,pv"))
			}
			code, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			tensors := []delta.TensorBytes{{Name: tensorModule, DType: "U8", Shape: []int64{int64(len(code))}, Data: code}}
			e := &delta.Eval{
				Kind: delta.EvalWasm, Metric: f.metric, Input: inputs(order), Order: order, Weights: map[string]string{weightModule: tensorModule}, Limits: new(delta.DefaultLimits),
			}
			if weights != "" {
				more, err := readTensors(weights)
				if err != nil {
					return fmt.Errorf("--weights: %w", err)
				}
				tensors = append(tensors, more...)
				for _, t := range more {
					if t.Name == weightModule {
						return fmt.Errorf("--weights: %s: tensor %s: that is what the module itself is called among the weights: rename it", weights, t.Name)
					}
					e.Weights[t.Name] = t.Name
				}
			}
			if err := f.write(tensors, e); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "module of %s, %d tensors: %s\n", size(int64(len(code))), len(tensors)-1, f.out)
			return err
		},
	}
	f.flags(c)
	c.Flags().StringVar(&weights, "weights", "", "a safetensors file with the tensors that the module computes with")
	c.Flags().StringSliceVar(&order, "inputs", nil, "the names of its inputs, in the order of a row, for --eval")
	return c
}

// readTensors reads all of a safetensors file.
func readTensors(path string) (out []delta.TensorBytes, err error) {
	f, err := openModel(path)
	if err != nil {
		return nil, err
	}
	defer f.close()
	s, err := delta.ParseSafetensors(f, f.Size())
	if err != nil {
		return nil, f.at(err)
	}
	for _, t := range s.Tensors {
		data := make([]byte, t.Len)
		if _, err := f.ReadAt(data, t.Off); err != nil && (!errors.Is(err, io.EOF) || t.Off+t.Len < f.Size()) {
			return nil, f.at(err)
		}
		out = append(out, delta.TensorBytes{Name: t.Name, DType: t.DType, Shape: t.Shape, Data: data})
	}
	return out, nil
}
