package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/loader/delta"
)

// The demo's model: score = scale·(uv/pv) + bias, in a file that is mostly
// weights that nobody changes.
const (
	demoModel      = "score"
	demoModelBytes = 64 << 20
	demoChanged    = 2 << 20 // of a new version, about 3 %
	demoCanary     = 50      // percent of the callers: the judge wants about 590 good answers of it
)

// demoVersion is one version of the demo's model.
type demoVersion struct {
	number      uint64
	scale, bias float64
}

var demoVersions = []demoVersion{{1, 2, 1}, {2, 3, 1}, {3, math.NaN(), 1}}

// file returns the version as safetensors: the two weights, and a table of which
// each version changes demoChanged bytes.
func (v demoVersion) file() ([]byte, error) {
	type tensor struct {
		DType   string   `json:"dtype"`
		Shape   []int    `json:"shape"`
		Offsets [2]int64 `json:"data_offsets"`
	}
	head, err := json.Marshal(map[string]tensor{
		"table": {"U8", []int{demoModelBytes}, [2]int64{0, demoModelBytes}},
		"scale": {"F64", []int{}, [2]int64{demoModelBytes, demoModelBytes + 8}},
		"bias":  {"F64", []int{}, [2]int64{demoModelBytes + 8, demoModelBytes + 16}},
	})
	if err != nil {
		return nil, err
	}
	for (8+len(head))%4096 != 0 {
		head = append(head, ' ') // the table begins on a page, so that changed pages map over unchanged ones
	}
	out := make([]byte, 0, 8+len(head)+demoModelBytes+16)
	out = binary.LittleEndian.AppendUint64(out, uint64(len(head)))
	out = append(out, head...)
	table := out[len(out) : len(out)+demoModelBytes]
	fill := func(p []byte, seed uint64) {
		r := rand.New(rand.NewPCG(demoSeed, seed))
		for i := 0; i < len(p); i += 8 {
			binary.LittleEndian.PutUint64(p[i:], r.Uint64())
		}
	}
	fill(table, 0)
	if v.number > 1 {
		fill(table[v.number*demoChanged:(v.number+1)*demoChanged], v.number)
	}
	out = out[:len(out)+demoModelBytes]
	out = binary.LittleEndian.AppendUint64(out, math.Float64bits(v.scale))
	return binary.LittleEndian.AppendUint64(out, math.Float64bits(v.bias)), nil
}

// path returns where the version's safetensors file is kept for later diffs.
func (d *demo) path(n uint64) string {
	return filepath.Join(d.dir, "v"+strconv.FormatUint(n, 10)+".safetensors")
}

// ship packs version i of demoVersions and drops it: the first as a whole file,
// the others as deltas from the one before.
func (d *demo) ship(ctx context.Context, i int) (*delta.Manifest, error) {
	v := demoVersions[i]
	b, err := v.file()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(d.path(v.number), b, 0o600); err != nil {
		return nil, err
	}
	target, err := openSized(d.path(v.number))
	if err != nil {
		return nil, err
	}
	defer target.Close()
	drop := filepath.Join(d.dir, "drops", "v"+strconv.FormatUint(v.number, 10))
	if err := os.MkdirAll(drop, 0o750); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(drop)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	p := delta.Pack{Manifest: delta.Manifest{
		Model: demoModel, Version: v.number, SchemaVersion: 1,
		Canary: &delta.Canary{Weight: demoCanary, PromoteAfter: time.Second, MinRequests: 20},
		Eval: &delta.Eval{
			Kind: delta.EvalRatio, Metric: "score",
			Input:   map[string]delta.Input{"uv": {Metric: "uv"}, "pv": {Metric: "pv"}},
			Weights: map[string]string{"scale": "scale", "bias": "bias"},
		},
	}}
	if i == 0 {
		return p.Full(ctx, root, target)
	}
	base, err := openSized(d.path(v.number - 1))
	if err != nil {
		return nil, err
	}
	defer base.Close()
	m, _, err := p.Delta(ctx, root, v.number-1, base, target, false)
	return m, err
}

// sized is a file with its size, as packing reads it.
type sized struct {
	*os.File
	n int64
}

func (s sized) Size() int64 { return s.n }
func (s sized) Close()      { _ = s.File.Close() } // it was only read

func openSized(name string) (sized, error) {
	f, err := os.Open(name)
	if err != nil {
		return sized{}, err
	}
	st, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return sized{}, err
	}
	return sized{f, st.Size()}, nil
}

// until waits for what is asked for, at most demoPatience.
func (d *demo) until(ctx context.Context, what string, ok func() bool) error {
	for begin := time.Now(); !ok(); {
		if time.Since(begin) > demoPatience {
			return fmt.Errorf("demo: %s did not happen within %v; quarantined: %v", what, demoPatience, d.side.models.loader.Quarantined())
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) active(n uint64) func() bool {
	return func() bool {
		info, ok := d.side.models.loader.Current(demoModel)
		return ok && info.Number == n
	}
}

// status returns what the loader has of version n.
func (d *demo) status(n uint64) (loader.Status, bool) {
	for _, s := range d.side.models.loader.Versions(demoModel) {
		if s.Number == n {
			return s, true
		}
	}
	return loader.Status{}, false
}

// model ships version 2 as a delta.
func (d *demo) model(ctx context.Context) error {
	d.load.mark()
	m, err := d.ship(ctx, 1)
	if err != nil {
		return err
	}
	dropped := time.Now()
	if err := d.until(ctx, "version 2 as a canary", func() bool { s, ok := d.status(2); return ok && s.State >= loader.Canary }); err != nil {
		return err
	}
	if err := d.until(ctx, "version 2 active", d.active(2)); err != nil {
		return err
	}
	took := time.Since(dropped)
	if err := pause(ctx, 300*time.Millisecond); err != nil {
		return err
	}
	s, _ := d.status(2)
	seen := d.load.since()
	ok := seen.bad == 0 && seen.versions["score@1"] > 0 && seen.versions["score@2"] > 0
	mark := d.goal(ok, fmt.Sprintf("%d bad replies; scores answered by version: %v", seen.bad, seen.versions))
	d.say("model", "v2 is a delta: read %.1f MB of %d → verified and mapped %s after its drop → canary %d %% → active after %s · %d bad replies, scores by v1 %d, by v2 %d %s",
		float64(m.Files[0].Size)/(1<<20), demoModelBytes>>20, ms(s.LoadedAt.Sub(s.Dropped)), demoCanary, ms(took),
		seen.bad, seen.versions["score@1"], seen.versions["score@2"], mark)
	return nil
}

// rollback ships version 3, whose answers are no numbers.
func (d *demo) rollback(ctx context.Context) error {
	d.load.mark()
	if _, err := d.ship(ctx, 2); err != nil {
		return err
	}
	dropped := time.Now()
	refused := func() bool {
		_, ok := d.side.models.loader.Refused(demoModel)[3]
		return ok
	}
	if err := d.until(ctx, "version 3 taken back", refused); err != nil {
		return err
	}
	r := d.side.models.loader.Refused(demoModel)[3]
	if err := d.until(ctx, "version 3 unmapped", func() bool { _, ok := d.status(3); return !ok }); err != nil {
		return err
	}
	freed := time.Since(r.At)
	if err := pause(ctx, 300*time.Millisecond); err != nil {
		return err
	}
	seen := d.load.since()
	mark := d.goal(seen.bad == 0 && seen.versions["score@3"] == 0 && d.active(2)(), fmt.Sprintf("%d bad replies; scores answered by version: %v", seen.bad, seen.versions))
	d.say("rollback", "v3 answers no numbers: taken back by its first one, %s after its drop, v2 answered in its place · unmapped %s later, %d MB returned · %d bad replies, none by v3 %s",
		ms(max(r.At.Sub(dropped), 0)), ms(freed), demoModelBytes>>20, seen.bad, mark)
	return nil
}
