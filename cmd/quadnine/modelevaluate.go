package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/loader/model"
	"github.com/quadnine/quadnine/proxy"
)

func newModelEval() *cobra.Command {
	var eval string
	c := &cobra.Command{
		Use:   "eval SAFETENSORS [ROWS]",
		Short: "Compute what a version answers, for rows of inputs",
		Long: `Compute what a version answers, as the sidecar would: each line of ROWS, or of the
standard input, is a JSON object with the inputs by their names in the eval object;
each line that is printed is the answer. The schema is applied, and a WebAssembly
module is called once for up to 1,024 rows.`,
		Example: `  echo '{"uv": 3, "pv": 4}' | quadnine model eval v1.safetensors --eval eval.json`,
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if eval == "" {
				return usage(errors.New("--eval: is needed, like --eval eval.json"))
			}
			ev, err := evaluatorOf(args[0], eval)
			if err != nil {
				return err
			}
			in, name := cmd.InOrStdin(), "standard input"
			if len(args) > 1 {
				f, err := os.Open(args[1])
				if err != nil {
					return err
				}
				defer func() { _ = f.Close() }() // only read
				in, name = f, args[1]
			}
			return evalRows(cmd.OutOrStdout(), ev, in, name)
		},
	}
	c.Flags().StringVar(&eval, "eval", "", "a JSON file with the manifest's eval object (required)")
	return c
}

// evaluatorOf builds a file's evaluator.
func evaluatorOf(path, eval string) (model.Evaluator, error) {
	text, err := os.ReadFile(eval)
	if err != nil {
		return nil, usage(fmt.Errorf("--eval: %w", err))
	}
	e, err := delta.ParseEval(eval, text)
	if err != nil {
		return nil, usage(fmt.Errorf("--eval: %w", err))
	}
	tensors, err := readTensors(path)
	if err != nil {
		return nil, err
	}
	byName := make(map[string]delta.TensorBytes, len(tensors))
	for _, t := range tensors {
		byName[t.Name] = t
	}
	ev, err := model.Build(evalSpec(e, path), func(name string) (string, []byte, bool) {
		t, ok := byName[name]
		return t.DType, t.Data, ok
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return ev, nil
}

// evalRows reads rows, computes them in calls of as many as a sidecar's have at most,
// and prints the answers.
func evalRows(w io.Writer, ev model.Evaluator, r io.Reader, name string) error {
	buf := bufio.NewWriter(w)
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	rows, line := []float64{}, 0
	n := len(ev.Inputs())
	most := proxy.MostRows(max(n, 1))
	compute := func() error {
		out := make([]float64, len(rows)/n)
		if err := model.EvalRows(ev, rows, out); err != nil && len(out) > 0 {
			return fmt.Errorf("%s: the rows up to line %d: %w", name, line, err)
		}
		rows = rows[:0]
		for _, v := range out {
			_, _ = buf.Write(append(strconv.AppendFloat(nil, v, 'g', -1, 64), '\n')) // Flush tells
		}
		return nil
	}
	for lines.Scan() {
		line++
		if len(lines.Bytes()) == 0 {
			continue
		}
		var err error
		if rows, err = appendRow(rows, ev, lines.Bytes()); err != nil {
			return fmt.Errorf("%s, line %d: %w", name, line, err)
		}
		if len(rows) >= most*n {
			if err := compute(); err != nil {
				return err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := compute(); err != nil {
		return err
	}
	return buf.Flush()
}

// appendRow appends the values of one row, which is a JSON object.
func appendRow(rows []float64, ev model.Evaluator, text []byte) ([]float64, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return nil, err
	}
	for _, in := range ev.Inputs() {
		member := members[in.Name]
		if in.Rule != nil {
			v, err := in.Rule.Read(member)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", in.Name, err)
			}
			rows = append(rows, v)
			continue
		}
		var v *float64
		if member == nil || json.Unmarshal(member, &v) != nil || v == nil {
			return nil, fmt.Errorf("%s: want a number", in.Name)
		}
		rows = append(rows, *v)
	}
	return rows, nil
}
