package loader

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"

	"github.com/quadnine/quadnine/bench/proc"
	"github.com/quadnine/quadnine/loader"
)

// Options say what is compared.
type Options struct {
	Rounds int     // runs of everything
	Scale  float64 // of the model's size; 1: 1.3 GB
	Slice  int64   // bytes of the model that bsdiff4 gets
}

// contest is one thing that is measured once a round.
type contest struct {
	pair, label string
	run         func(context.Context) (sample, error)
	note        string
	times       float64 // what a run is multiplied by; 0: not at all
	samples     []sample
}

// Missing reports the programs that Compare needs and that are not installed.
func Missing() error {
	if err := proc.FindAll(Tools()...); err != nil {
		return err
	}
	_, err := bsdiffDir()
	return err
}

// Compare makes the files in dir, measures everything and returns the table.
// Progress goes to log. The calling program must hand ChildArg to Child.
func Compare(ctx context.Context, dir string, o Options, log io.Writer) (*Report, error) {
	if o.Rounds < 1 || o.Scale <= 0 || o.Scale > 1 || o.Slice < 1 {
		return nil, fmt.Errorf("rounds %d, scale %v, slice %d: want at least 1, above 0 to 1, at least 1", o.Rounds, o.Scale, o.Slice)
	}
	s := &scratch{dir: dir, scale: o.Scale}
	packed, err := s.prepare(ctx, log)
	if err != nil {
		return nil, err
	}
	var cs []*contest
	for _, pair := range []string{"D", "S"} {
		cs = append(cs, s.contests(pair)...)
	}
	patches, err := s.patches(ctx, o, log)
	if err != nil {
		return nil, err
	}
	cs = append(cs, patches...)
	for i := range o.Rounds {
		for _, c := range cs {
			x, err := c.run(ctx)
			if err != nil {
				return nil, fmt.Errorf("pair %s, %s, round %d: %w", c.pair, c.label, i+1, err)
			}
			c.samples = append(c.samples, x)
		}
		fmt.Fprintf(log, "loader: round %d/%d\n", i+1, o.Rounds)
	}
	return newReport(o, packed, cs), nil
}

// contests are the runs of our own binary for one pair.
func (s *scratch) contests(pair string) []*contest {
	hash := func(kind, file string) func(context.Context) (sample, error) {
		return func(ctx context.Context) (sample, error) { return child(ctx, job{Kind: kind, File: file}) }
	}
	activate := func(mode loader.Mode) func(context.Context) (sample, error) {
		return func(ctx context.Context) (x sample, err error) {
			j, remove, err := s.activation(pair, mode)
			defer func() { err = errors.Join(err, remove()) }()
			if err != nil {
				return x, err
			}
			return child(ctx, j)
		}
	}
	return []*contest{
		{pair: pair, label: grouped, run: hash("blake3-groups", s.delta(pair))},
		{pair: pair, label: bare, run: hash("blake3", s.delta(pair))},
		{pair: pair, label: buffered, run: hash("blake3-file", s.delta(pair))},
		{pair: pair, label: "in place", run: activate(loader.InPlace)},
		{pair: pair, label: "copied", run: activate(loader.Copy)},
		{pair: pair, label: "read of the whole file into fresh heap", run: hash("read", s.target(pair))},
		{pair: pair, label: "SHA-256 of the whole file", run: hash("sha256", s.target(pair))},
	}
}

// patches makes the patches of pair D, checks that they build the right file, and
// returns the runs that apply them.
func (s *scratch) patches(ctx context.Context, o Options, log io.Writer) ([]*contest, error) {
	dir, err := bsdiffDir()
	if err != nil {
		return nil, err
	}
	off, n, err := slice(o.Scale, o.Slice)
	if err != nil {
		return nil, err
	}
	oldSlice, newSlice, slicePatch, rebuilt := s.path("old.slice"), s.path("new.slice"), s.path("slice.bsdiff"), s.path("rebuilt")
	err = errors.Join(cut(s.base(), oldSlice, off, n), cut(s.target("D"), newSlice, off, n))
	if err != nil {
		return nil, err
	}
	made, err := bsdiff(ctx, dir, "diff", oldSlice, newSlice, slicePatch)
	if err != nil {
		return nil, err
	}
	patch := s.path("D.zst")
	zmade, err := zstd(ctx, "-q", "-f", "--long=31", "--patch-from="+s.base(), s.target("D"), "-o", patch)
	if err != nil {
		return nil, err
	}
	apply := func(ctx context.Context) (sample, error) {
		return zstd(ctx, "-q", "-f", "-d", "--long=31", "--memory=2048MB", "--patch-from="+s.base(), patch, "-o", rebuilt)
	}
	applySlice := func(ctx context.Context) (sample, error) {
		return bsdiff(ctx, dir, "apply", oldSlice, rebuilt, slicePatch)
	}
	if _, err := apply(ctx); err != nil {
		return nil, err
	}
	if err := sameFile(rebuilt, s.target("D")); err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	if _, err := applySlice(ctx); err != nil {
		return nil, err
	}
	if err := sameFile(rebuilt, newSlice); err != nil {
		return nil, fmt.Errorf("bsdiff4: %w", err)
	}
	whole, err := os.Stat(s.target("D"))
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(log, "patches build the right files")
	return []*contest{
		{pair: "D", label: "zstd --patch-from, apply", run: apply, note: fmt.Sprintf("making the patch took %.1f s; writes the whole file; memory is the peak of the process", zmade.Steps[stepAll].Wall.Seconds())},
		{
			pair: "D", label: "bsdiff4 apply (extrapolated)", run: applySlice, times: float64(whole.Size()) / float64(n),
			note: fmt.Sprintf("measured on %.1f MB of the file, of which the same share changes, and time multiplied by %.0f; memory is the peak for the slice alone; making the slice's patch took %.1f s", float64(n)/1e6, float64(whole.Size())/float64(n), made.Steps[stepAll].Wall.Seconds()),
		},
	}, nil
}

// child does a job in a process of its own, with two threads for Go's scheduler
// at most, as the figures are meant for a small machine.
func child(ctx context.Context, j job) (s sample, err error) {
	arg, err := json.Marshal(j)
	if err != nil {
		return s, err
	}
	self, err := os.Executable()
	if err != nil {
		return s, err
	}
	cmd := exec.CommandContext(ctx, self, ChildArg, string(arg))
	cmd.Env = append(os.Environ(), fmt.Sprint("GOMAXPROCS=", min(2, runtime.NumCPU())))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return s, err
	}
	err = json.Unmarshal(out, &s)
	return s, err
}
