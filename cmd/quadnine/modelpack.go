package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/quadnine/quadnine/loader/delta"
)

// packFlags are pack's, before they become a delta.Pack.
type packFlags struct {
	pack        delta.Pack
	out         string
	base        string
	baseVersion uint64
	full        bool
	patches     []string
	withDelta   bool
	key         string
	eval        string
	canary      delta.Canary
	shadow      delta.Shadow
	warmup      string
	format      report
}

func newModelPack() *cobra.Command {
	var f packFlags
	c := &cobra.Command{
		Use:   "pack TARGET",
		Short: "Make a drop: the version, or its delta from --base, with a manifest",
		Long: `Make a drop: a directory with the delta from --base to TARGET (with --full also
TARGET itself, for sidecars that lack the base), or with TARGET alone when there
is no --base. With --patch the drop holds that patch from --base's file to TARGET
in place of the delta (with --delta, beside it): made by bsdiff, Python's bsdiff4
or zstd --patch-from, and applied here once to see that it makes TARGET.
MANIFEST.json is renamed into place last, so a watched directory
may be written to directly.`,
		Example: `  quadnine model pack v1.safetensors --model score --version 1 -o models/score-v1
  quadnine model pack v2.safetensors --base v1.safetensors --model score --version 2 --canary-weight 5 --key ship.key -o models/score-v2`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	fl := c.Flags()
	m := &f.pack.Manifest
	fl.StringVarP(&f.out, "output", "o", "", "the drop's directory; made when missing (required)")
	fl.StringVar(&m.Model, "model", "", "the model's name (required)")
	fl.Uint64Var(&m.Version, "version", 0, "the version's number, above all before it (required)")
	fl.IntVar(&m.SchemaVersion, "schema-version", 1, "of what the version expects around it")
	fl.StringSliceVar(&m.RequiredEnv, "require-env", nil, "a variable that must be set where the version runs; may be repeated")
	fl.StringVar(&f.base, "base", "", "the version to make the delta from")
	fl.Uint64Var(&f.baseVersion, "base-version", 0, "its number (default: one below --version)")
	fl.BoolVar(&f.full, "full", false, "with --base: put TARGET itself into the drop too")
	fl.StringArrayVar(&f.patches, "patch", nil, "with --base: ship this bsdiff4 or zstd patch file in place of the delta; may be given once for each")
	fl.BoolVar(&f.withDelta, "delta", false, "with --patch: put the delta into the drop too")
	fl.StringVar(&f.key, "key", "", "sign with this private key, from quadnine model keygen")
	fl.StringVar(&f.eval, "eval", "", "a JSON file with the manifest's eval object")
	fl.Float64Var(&f.canary.Weight, "canary-weight", delta.DefaultCanary.Weight, "percent of the callers that try it; 0 activates at once")
	fl.DurationVar(&f.canary.PromoteAfter, "promote-after", delta.DefaultCanary.PromoteAfter, "as a canary for at least this long")
	fl.Int64Var(&f.canary.MinRequests, "min-requests", delta.DefaultCanary.MinRequests, "answered as a canary before promotion")
	fl.Float64Var(&f.shadow.Percent, "shadow", delta.DefaultShadow.Percent, "first computed for this percentage of the queries beside the active version, and never served; needs --eval")
	fl.Int64Var(&f.shadow.Queries, "shadow-queries", delta.DefaultShadow.Queries, "compared in shadow without a fault before callers try it; 0: until somebody says so")
	fl.StringVar(&f.warmup, "warmup", "", "a JSON file with the manifest's warmup list; needs --eval")
	f.format.flag(c)
	return c
}

// packReport is what pack prints as JSON.
type packReport struct {
	Manifest *delta.Manifest `json:"manifest"`
	Diff     *delta.Report   `json:"diff,omitempty"`
	Took     string          `json:"took"`
}

func (f *packFlags) run(cmd *cobra.Command, path string) error {
	start := time.Now()
	if err := f.check(cmd); err != nil {
		return err
	}
	target, err := openModel(path)
	if err != nil {
		return err
	}
	defer target.close()
	if _, err := delta.ParseSafetensors(target, target.Size()); err != nil {
		return fmt.Errorf("%w; a model version is a safetensors file", target.at(err))
	}
	if err := os.MkdirAll(f.out, 0o755); err != nil {
		return fmt.Errorf("-o: %w", err)
	}
	root, err := os.OpenRoot(f.out)
	if err != nil {
		return fmt.Errorf("-o: %w", err)
	}
	defer func() { _ = root.Close() }()
	var r packReport
	if f.base == "" {
		var end func()
		f.pack.Options, end = work(cmd, "pack", target.Size())
		r.Manifest, err = f.pack.Full(cmd.Context(), root, target)
		end()
	} else {
		err = f.delta(cmd, &r, root, target)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", f.out, err)
	}
	r.Took = time.Since(start).Round(time.Millisecond).String()
	return f.format.print(cmd.OutOrStdout(), &r, func(w io.Writer) error {
		if r.Diff != nil {
			if err := printDiff(w, r.Diff, ""); err != nil {
				return err
			}
		}
		return printManifest(w, r.Manifest)
	})
}

func (f *packFlags) delta(cmd *cobra.Command, r *packReport, root *os.Root, target *modelFile) error {
	base, err := openModel(f.base)
	if err != nil {
		return err
	}
	defer base.close()
	if f.baseVersion == 0 {
		f.baseVersion = f.pack.Manifest.Version - 1
	}
	total := base.Size() + 2*target.Size()
	if f.full {
		total += target.Size()
	}
	var end func()
	f.pack.Options, end = work(cmd, "pack", total)
	defer end()
	if len(f.patches) == 0 {
		r.Manifest, r.Diff, err = f.pack.Delta(cmd.Context(), root, f.baseVersion, base, target, f.full)
		return err
	}
	patches, done, err := f.openPatches(cmd.Context(), base, target)
	defer done()
	if err != nil {
		return err
	}
	r.Manifest, r.Diff, err = f.pack.Patches(cmd.Context(), root, f.baseVersion, base, target, patches, f.withDelta, f.full)
	return err
}

// openPatches opens the patches that are to be shipped, each proved once. done
// closes them, also after an error.
func (f *packFlags) openPatches(ctx context.Context, base, target *modelFile) (patches []delta.PatchFile, done func(), err error) {
	var open []*patchFile
	done = func() {
		for _, p := range open {
			p.close()
		}
	}
	for _, path := range f.patches {
		p, err := openPatch(path)
		if err != nil {
			return nil, done, fmt.Errorf("--patch: %w", err)
		}
		open = append(open, p)
		if err := p.prove(ctx, f.out, base, target); err != nil {
			return nil, done, fmt.Errorf("--patch %w", p.at(err))
		}
		patches = append(patches, delta.PatchFile{Role: p.header.Role, Bytes: p})
	}
	return patches, done, nil
}

// check turns flags into the manifest's optional parts.
func (f *packFlags) check(cmd *cobra.Command) error {
	errs := []error{f.format.check()}
	m := &f.pack.Manifest
	need := func(ok bool, flag, like string) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s: is needed, like %s %s", flag, flag, like))
		}
	}
	need(f.out != "", "-o", "models/score-v2")
	need(m.Model != "", "--model", "score")
	need(m.Version != 0, "--version", "2")
	if f.base == "" && (f.full || f.baseVersion != 0) {
		errs = append(errs, errors.New("--full and --base-version: need --base"))
	}
	if f.base == "" && len(f.patches) > 0 {
		errs = append(errs, errors.New("--patch: needs --base"))
	}
	if f.withDelta && len(f.patches) == 0 {
		errs = append(errs, errors.New("--delta: needs --patch; without it the drop holds the delta anyhow"))
	}
	if fl := cmd.Flags(); fl.Changed("canary-weight") || fl.Changed("promote-after") || fl.Changed("min-requests") {
		m.Canary = &f.canary
	}
	if fl := cmd.Flags(); fl.Changed("shadow") || fl.Changed("shadow-queries") {
		m.Shadow = &f.shadow
	}
	if f.warmup != "" {
		b, err := os.ReadFile(f.warmup)
		if err == nil {
			m.Warmup, err = delta.ParseWarmup(f.warmup, b)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("--warmup: %w", err))
		}
	}
	if f.key != "" {
		b, err := os.ReadFile(f.key)
		if err == nil {
			f.pack.Key, err = delta.ParsePrivateKey(b)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("--key %s: %w", f.key, err))
		}
	}
	if f.eval != "" {
		b, err := os.ReadFile(f.eval)
		if err == nil {
			m.Eval, err = delta.ParseEval(f.eval, b)
		}
		if err == nil {
			err = new(evalSpec(m.Eval, m.Model)).Validate() // as far as that is seen without the weights
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("--eval: %w", err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return usage(err)
	}
	return nil
}
