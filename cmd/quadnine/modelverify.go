package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/quadnine/quadnine/loader/delta"
)

// verifyFlags are verify's.
type verifyFlags struct {
	base   string
	keys   []string
	format report
}

func newModelVerify() *cobra.Command {
	var f verifyFlags
	c := &cobra.Command{
		Use:   "verify DROP|DELTA|SAFETENSORS",
		Short: "Check every digest, bound and signature (exit 3 when one falls short)",
		Long: `Check a drop (sizes, digests, the delta; with --key the signature, which covers
the files and all that the manifest says), a delta or a version. With --base the whole target is proved, too.`,
		Example: `  quadnine model verify models/score-v2 --base v1.safetensors --key ship.key.pub
  quadnine model verify v2.qd`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	c.Flags().StringVar(&f.base, "base", "", "the version that the delta was made from")
	c.Flags().StringArrayVar(&f.keys, "key", nil, "a trusted public key: the drop must be signed by one of them; may be repeated")
	f.format.flag(c)
	return c
}

// verifyReport is what verify prints as JSON.
type verifyReport struct {
	Path   string      `json:"path"`
	Good   bool        `json:"good"`
	Proved []string    `json:"proved"`
	Root   *delta.Root `json:"root,omitempty"` // of the version
	Error  string      `json:"error,omitempty"`
}

func (f *verifyFlags) run(cmd *cobra.Command, path string) error {
	if err := f.format.check(); err != nil {
		return err
	}
	keys, err := readKeys(f.keys)
	if err != nil {
		return err
	}
	dir, err := isDir(path)
	if err != nil {
		return err
	}
	if len(keys) > 0 && !dir {
		return usage(fmt.Errorf("--key: only drops are signed; %s is a file", path))
	}
	var base *modelFile
	if f.base != "" {
		if base, err = openModel(f.base); err != nil {
			return usage(fmt.Errorf("--base: %w", err))
		}
		defer base.close()
	}
	r := verifyReport{Path: path, Proved: []string{}}
	if dir {
		err = r.drop(cmd, path, base, keys)
	} else {
		err = r.file(cmd, path, base)
	}
	if r.Good = err == nil; err != nil {
		r.Error = err.Error()
	}
	if err == nil || f.format == "json" {
		if err := f.format.print(cmd.OutOrStdout(), r, r.print); err != nil {
			return err
		}
	}
	if err != nil && cmd.Context().Err() == nil {
		return &exitError{exitShort, err}
	}
	return err
}

func (r verifyReport) print(w io.Writer) error {
	for _, p := range r.Proved {
		fmt.Fprintf(w, "good: %s\n", p)
	}
	if r.Root == nil {
		return nil
	}
	_, err := fmt.Fprintf(w, "root %v\n", *r.Root)
	return err
}

func (r *verifyReport) proved(what string, root delta.Root) {
	r.Proved = append(r.Proved, what)
	r.Root = &root
}

func (r *verifyReport) file(cmd *cobra.Command, path string, base *modelFile) error {
	f, err := openModel(path)
	if err != nil {
		return err
	}
	defer f.close()
	if f.isDelta() {
		d, err := f.parseDelta()
		if err != nil {
			return err
		}
		return f.at(r.delta(cmd, d, base))
	}
	if _, err := delta.ParseSafetensors(f, f.Size()); err != nil {
		return f.at(err)
	}
	o, end := work(cmd, "verify", f.Size())
	root, err := rootOf(cmd.Context(), f, o)
	end()
	if err == nil {
		r.proved("safetensors header", root)
	}
	return err
}

func (r *verifyReport) delta(cmd *cobra.Command, d *delta.Delta, base *modelFile) error {
	if base == nil {
		o, end := work(cmd, "verify", d.Header.PayloadSize)
		err := d.VerifyPayload(cmd.Context(), o)
		end()
		if err == nil {
			r.proved("header, table, payload (give --base to prove the target)", d.Header.TargetRoot)
		}
		return err
	}
	o, end := work(cmd, "verify", d.Header.PayloadSize+base.Size())
	err := d.Verify(cmd.Context(), base, o)
	end()
	if err == nil {
		r.proved("header, table, payload, base, target", d.Header.TargetRoot)
	}
	return err
}

func (r *verifyReport) drop(cmd *cobra.Command, path string, base *modelFile, keys []*delta.PublicKey) error {
	d, root, err := openDrop(path)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	if err := verifyDrop(cmd, path, d, keys); err != nil {
		return err
	}
	what := "manifest, files"
	if len(keys) > 0 {
		what += ", signature"
	}
	r.proved(what, d.Manifest.TargetRoot)
	if base == nil {
		return nil
	}
	return r.dropDelta(cmd, path, d, base)
}

// dropPatch proves what the drop's patch makes of base, in the system's directory
// for temporary files.
func (r *verifyReport) dropPatch(cmd *cobra.Command, path string, d *delta.Drop, base *modelFile) error {
	p, err := patchOf(d, path)
	if err != nil {
		return err
	}
	defer p.close()
	if err := p.proveRoot(cmd.Context(), "", base, d.Manifest.TargetRoot); err != nil {
		return p.at(err)
	}
	r.proved("the patch's target", d.Manifest.TargetRoot)
	return nil
}

// dropDelta proves what the drop's delta makes of base.
func (r *verifyReport) dropDelta(cmd *cobra.Command, path string, d *delta.Drop, base *modelFile) error {
	if _, ok := d.Manifest.File(delta.RoleDelta); !ok && d.Manifest.Base != nil {
		return r.dropPatch(cmd, path, d, base)
	}
	f, err := d.Open(delta.RoleDelta)
	if err != nil {
		return fmt.Errorf("%s: %w: leave --base out", path, err)
	}
	defer func() { _ = f.Close() }()
	named, _ := d.Manifest.File(delta.RoleDelta)
	q, err := delta.Parse(f, named.Size)
	if err == nil {
		err = r.delta(cmd, q, base)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s/%s: %w", path, named.Path, err)
	}
	return err
}

// verifyDrop holds a drop's files against its manifest, and the manifest's signature
// against the keys when there are any.
func verifyDrop(cmd *cobra.Command, path string, d *delta.Drop, keys []*delta.PublicKey) error {
	var total int64
	for _, f := range d.Manifest.Files {
		total += f.Size
	}
	o, end := work(cmd, "verify", total)
	err := d.Verify(cmd.Context(), keys, o)
	end()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
