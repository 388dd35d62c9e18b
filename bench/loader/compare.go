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

	"golang.org/x/sys/unix"

	"github.com/quadnine/quadnine/bench/proc"
	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/loader/delta"
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
	rounds      int     // at most; 0: all
	samples     []sample
}

// slowRounds are those of what takes seconds and no goal is about.
const slowRounds = 5

// Missing reports the programs that Compare needs and that are not installed.
func Missing() error {
	if err := proc.FindAll(Tools()...); err != nil {
		return err
	}
	_, err := bsdiffDir()
	return err
}

// Compare makes the files in dir, measures everything and returns the table.
// Progress goes to log. The calling program must hand ChildArg to Child, and
// PatchArg to patch.Run.
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
	unix.Sync() // writing back must not run beside what is measured
	for i := range o.Rounds {
		for _, c := range cs {
			if c.rounds > 0 && i >= c.rounds {
				continue
			}
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

// The labels of activations.
const (
	inPlace   = "in place"
	copied    = "copied"
	coldPlace = "in place, the delta on disk only"
	firstLoad = "the whole base, in place, by an empty loader"
	wholeSHA  = "SHA-256 of the whole file"
	calls     = "calls"
)

// contests are the runs of our own binary for one pair.
func (s *scratch) contests(pair string) []*contest {
	do := func(kind, file string) func(context.Context) (sample, error) {
		return func(ctx context.Context) (sample, error) { return child(ctx, job{Kind: kind, File: file}) }
	}
	list := make([]*contest, 0, 10)
	list = append(list, []*contest{
		{pair: pair, label: grouped, run: do("blake3-groups", s.delta(pair))},
		{pair: pair, label: bare, run: do("blake3", s.delta(pair))},
		{pair: pair, label: buffered, run: do("blake3-file", s.delta(pair))},
		{pair: pair, label: inPlace, run: s.activate(arrangement{"store", pair, 2, loader.InPlace, false})},
		{pair: pair, label: copied, run: s.activate(arrangement{"store", pair, 2, loader.Copy, false})},
	}...)
	if pair != "D" {
		return list
	}
	return append(list,
		&contest{pair: pair, label: coldPlace, run: s.activate(arrangement{"store", pair, 2, loader.InPlace, true})},
		&contest{pair: pair, label: firstLoad, run: s.activate(arrangement{"", "base", 1, loader.InPlace, false}), rounds: slowRounds},
		&contest{pair: pair, label: "read of the whole file into fresh heap", run: do("read", s.target(pair)), rounds: slowRounds},
		&contest{pair: pair, label: wholeSHA, run: do("sha256", s.target(pair))},
		&contest{pair: pair, label: calls, run: func(ctx context.Context) (sample, error) {
			return child(ctx, job{Kind: "calls", Store: s.path("small-store"), Mode: loader.InPlace})
		}})
}

// activate returns a run that brings a drop in.
func (s *scratch) activate(a arrangement) func(context.Context) (sample, error) {
	return func(ctx context.Context) (x sample, err error) {
		j, remove, err := s.activation(a)
		defer func() { err = errors.Join(err, remove()) }()
		if err != nil {
			return x, err
		}
		return child(ctx, j)
	}
}

// patches makes the patches of pair D, checks that they build the right file, and
// returns the runs that apply them. bsdiff4 gets a small model that changes as
// much of itself.
func (s *scratch) patches(ctx context.Context, o Options, log io.Writer) ([]*contest, error) {
	dir, err := bsdiffDir()
	if err != nil {
		return nil, err
	}
	made, err := s.small(ctx, dir, o)
	if err != nil {
		return nil, err
	}
	patch, rebuilt := s.path("D.zst"), s.path("rebuilt")
	zmade, err := zstd(ctx, "-q", "-f", "--long=31", "--patch-from="+s.base(), s.target("D"), "-o", patch)
	if err != nil {
		return nil, err
	}
	apply := func(ctx context.Context) (sample, error) {
		return zstd(ctx, "-q", "-f", "-d", "--long=31", "--memory=2048MB", "--patch-from="+s.base(), patch, "-o", rebuilt)
	}
	applySmall := func(ctx context.Context) (sample, error) {
		return bsdiff(ctx, dir, "apply", s.smallBase(), rebuilt, s.path("small.bsdiff"))
	}
	for name, c := range map[string]struct {
		apply func(context.Context) (sample, error)
		want  string
	}{"zstd": {apply, s.target("D")}, "bsdiff4": {applySmall, s.smallTarget()}} {
		if _, err := c.apply(ctx); err != nil {
			return nil, err
		}
		if err := sameFile(rebuilt, c.want); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	fmt.Fprintln(log, "patches build the right files")
	whole, err := os.Stat(s.target("D"))
	if err != nil {
		return nil, err
	}
	part, err := os.Stat(s.smallTarget())
	if err != nil {
		return nil, err
	}
	times := float64(whole.Size()) / float64(part.Size())
	note := fmt.Sprintf("measured on a model of %.1f MB, of which the same share changes, and time multiplied by %.1f", float64(part.Size())/1e6, times)
	return []*contest{
		{pair: "D", label: "zstd --patch-from, apply", run: apply, rounds: slowRounds, note: fmt.Sprintf("making the patch took %.1f s; writes the whole file; memory is the peak of the process", zmade.Steps[stepAll].Wall.Seconds())},
		{pair: "D", label: bsdiffApply, run: applySmall, times: times, note: fmt.Sprintf("%s; memory is the peak for the small one; making its patch took %.1f s", note, made.Steps[stepAll].Wall.Seconds())},
		{pair: "D", label: "bsdiff4 patch, applied by the loader's child, then mapped (extrapolated)", times: times, rounds: slowRounds, note: note, run: s.activate(arrangement{"small-store", patchDrop, 2, loader.Copy, false})},
	}, nil
}

const bsdiffApply = "bsdiff4 apply (extrapolated)"

// small makes the small model's versions, the patch between them, a store with the
// old one and a drop with the patch.
func (s *scratch) small(ctx context.Context, dir string, o Options) (made sample, err error) {
	plain, scale := s.path("small-plain.safetensors"), s.scale
	if size := modelSize(s.scale); size > o.Slice {
		scale *= float64(o.Slice) / float64(size)
	}
	if err := errors.Join(write(plain, scale, base), write(s.smallTarget(), scale, dense)); err != nil {
		return made, fmt.Errorf("make a small version: %w", err)
	}
	old, closeOld, err := open(plain)
	if err != nil {
		return made, err
	}
	defer closeOld()
	if err := s.full(ctx, "small", old); err != nil {
		return made, err
	}
	if made, err = bsdiff(ctx, dir, "diff", s.smallBase(), s.smallTarget(), s.path("small.bsdiff")); err != nil {
		return made, err
	}
	target, closeTarget, err := open(s.smallTarget())
	if err != nil {
		return made, err
	}
	defer closeTarget()
	patch, closePatch, err := open(s.path("small.bsdiff"))
	if err != nil {
		return made, err
	}
	defer closePatch()
	err = s.pack(patchDrop, 2, func(p *delta.Pack, root *os.Root) error {
		_, _, err := p.Patches(ctx, root, 1, old, target, []delta.PatchFile{{Role: delta.RoleBSDiff4, Bytes: patch}}, false, false)
		return err
	})
	if err != nil {
		return made, err
	}
	return made, s.fillStore(ctx, "small", "small-store")
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
