package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/quadnine/quadnine/loader/delta"
)

// embedded returns a score model with an embedding, of which the given rows are
// other than they were.
func embedded(t *testing.T, scale float64, changed ...int) []byte {
	t.Helper()
	const rows, width = 1000, 256
	h, err := json.Marshal(map[string]any{
		"scale": map[string]any{"dtype": "F64", "shape": []int{}, "data_offsets": []int{0, 8}},
		"bias":  map[string]any{"dtype": "F64", "shape": []int{}, "data_offsets": []int{8, 16}},
		"embed": map[string]any{"dtype": "I8", "shape": []int{rows, width}, "data_offsets": []int{16, 16 + rows*width}},
	})
	if err != nil {
		t.Fatal(err)
	}
	b := append(binary.LittleEndian.AppendUint64(nil, uint64(len(h))), h...)
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(scale))
	b = binary.LittleEndian.AppendUint64(b, 0)
	embed := make([]byte, rows*width)
	for i := range embed {
		embed[i] = byte(i * 31 >> 3)
	}
	for _, row := range changed {
		embed[row*width+9]++
	}
	return append(b, embed...)
}

// A delta of scattered rows is brought in where its private memory is allowed, and
// otherwise refused with the figures, while the version before answers.
func TestModelCopyLimit(t *testing.T) {
	v1, v2 := embedded(t, 2), embedded(t, 3, 5, 400, 900)
	for limit, want := range map[string]string{"8KiB": "score@1", "64KiB": "score@2", "off": "score@2"} {
		t.Run(limit, func(t *testing.T) {
			dir := t.TempDir()
			s := newStand(t, standConfig{models: modelsConfig{dir: dir, store: t.TempDir(), copyLimit: limit}})
			drop := func(n uint64, write func(p *delta.Pack, root *os.Root) error) {
				t.Helper()
				folder := filepath.Join(dir, []string{"", "v1", "v2"}[n])
				if err := os.Mkdir(folder, 0o755); err != nil {
					t.Fatal(err)
				}
				root, err := os.OpenRoot(folder)
				if err != nil {
					t.Fatal(err)
				}
				p := &delta.Pack{Manifest: delta.Manifest{
					Model: "score", Version: n, SchemaVersion: 1, Canary: &delta.Canary{},
					Eval: &delta.Eval{
						Kind: delta.EvalRatio, Metric: "score",
						Input:   map[string]delta.Input{"uv": {Metric: "uv"}, "pv": {Metric: "pv"}},
						Weights: map[string]string{"scale": "scale", "bias": "bias"},
					},
				}}
				if err := errors.Join(write(p, root), root.Close()); err != nil {
					t.Fatal(err)
				}
			}
			drop(1, func(p *delta.Pack, root *os.Root) error {
				_, err := p.Full(t.Context(), root, bytes.NewReader(v1))
				return err
			})
			for !s.modelState(1, "active") {
				runtime.Gosched()
			}
			drop(2, func(p *delta.Pack, root *os.Root) error {
				_, report, err := p.Delta(t.Context(), root, 1, bytes.NewReader(v1), bytes.NewReader(v2), false)
				if err == nil && report.Rows != 3 {
					t.Errorf("the delta ships %d rows, want 3: %+v", report.Rows, report.Changes)
				}
				return err
			})
			const refused = "over the limit on private memory"
			for !s.modelState(2, "active") && !strings.Contains(s.admin("/models"), refused) {
				runtime.Gosched()
			}
			if _, version, a := s.score(s.client(true), "u"); a.status != http.StatusOK || version != want {
				t.Errorf("%d by %q, want %s\n%s", a.status, version, want, s.admin("/models"))
			}
			if page := s.admin("/models"); want == "score@1" && !strings.Contains(page, "at most 8192 are allowed") {
				t.Errorf("/models does not say how much is allowed:\n%s", page)
			}
		})
	}
}

func TestModelCopyLimitIsASize(t *testing.T) {
	for limit, want := range map[string]int64{"": 0, "off": -1, "4MiB": 4 << 20, "4096": 4096, "0": -2, "-1": -2, "lots": -2} {
		c := modelsConfig{copyLimit: limit}
		n, err := c.copies()
		if want == -2 {
			if err == nil || !strings.Contains(err.Error(), "--model-copy-limit: ") {
				t.Errorf("%q: %d, %v; want an error that names the flag", limit, n, err)
			}
		} else if n != want || err != nil {
			t.Errorf("%q: %d, %v; want %d", limit, n, err, want)
		}
	}
}
