package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/quadnine/quadnine/loader/delta"
)

func newModelUnpack() *cobra.Command {
	var base, out string
	var format report
	c := &cobra.Command{
		Use:   "unpack DROP|DELTA",
		Short: "Write a version's safetensors file, out of a drop or a delta and its base",
		Example: `  quadnine model unpack models/score-v2 --base v1.safetensors -o v2.safetensors
  quadnine model unpack v2.qd --base v1.safetensors -o v2.safetensors`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := format.check(); err != nil {
				return err
			}
			if out == "" {
				return usage(errors.New("-o: is needed, like -o v2.safetensors"))
			}
			s, err := openSource(args[0], base, out)
			if err != nil {
				return err
			}
			defer s.close()
			o, end := work(cmd, "unpack", s.size)
			err = writeFile(out, func(w io.Writer) error { return s.write(cmd.Context(), w, o) })
			end()
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			r := unpackReport{out, s.size, s.root}
			return format.print(cmd.OutOrStdout(), r, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s: %s, root %v, as %s says\n", out, size(s.size), s.root, args[0])
				return err
			})
		},
	}
	c.Flags().StringVar(&base, "base", "", "the version that the delta was made from")
	c.Flags().StringVarP(&out, "output", "o", "", "the file to write (required)")
	format.flag(c)
	return c
}

// unpackReport is what unpack prints as JSON.
type unpackReport struct {
	Output string     `json:"output"`
	Size   int64      `json:"bytes"`
	Root   delta.Root `json:"root"`
}

// source is where unpack has a version from.
type source struct {
	size  int64
	root  delta.Root
	write func(ctx context.Context, w io.Writer, o delta.Options) error
	open  []func()
}

func (s *source) close() {
	for _, f := range s.open {
		f()
	}
}

func openSource(path, base, out string) (_ *source, err error) {
	s := &source{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	dir, err := isDir(path)
	if err != nil {
		return nil, err
	}
	if !dir {
		f, err := openModel(path)
		if err != nil {
			return nil, err
		}
		s.open = append(s.open, f.close)
		if err := s.delta(f, base); err != nil {
			return nil, err
		}
		return s, nil
	}
	drop, root, err := openDrop(path)
	if err != nil {
		return nil, err
	}
	s.open = append(s.open, func() { _ = root.Close() })
	role := delta.RoleDelta
	_, hasFull := drop.Manifest.File(delta.RoleFull)
	if base == "" && hasFull || drop.Manifest.Base == nil {
		role = delta.RoleFull
	}
	if _, ok := drop.Manifest.File(role); !ok {
		p, err := patchOf(drop, path)
		if err != nil {
			return nil, err
		}
		s.open = append(s.open, p.close)
		if err := s.patch(p, base, out, drop.Manifest); err != nil {
			return nil, err
		}
		return s, nil
	}
	file, err := drop.Open(role)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s.open = append(s.open, func() { _ = file.Close() })
	named, _ := drop.Manifest.File(role)
	f := &modelFile{delta.Section(file, named.Size), path + "/" + named.Path, file}
	if role == delta.RoleDelta {
		if err := s.delta(f, base); err != nil {
			return nil, err
		}
		if s.root != drop.Manifest.TargetRoot {
			return nil, fmt.Errorf("%s: makes root %s, the manifest says %s: the drop was put together from two", f.path, s.root.Short(), drop.Manifest.TargetRoot.Short())
		}
		return s, nil
	}
	s.size, s.root = f.Size(), drop.Manifest.TargetRoot
	s.write = func(ctx context.Context, w io.Writer, o delta.Options) error {
		return delta.Copy(ctx, w, f, s.root, o)
	}
	return s, nil
}

func (s *source) delta(f *modelFile, base string) error {
	d, err := f.parseDelta()
	if err != nil {
		return err
	}
	if base == "" {
		return usage(fmt.Errorf("--base: is needed: %s holds only what changed against the version with root %v", f.path, d.Header.BaseRoot))
	}
	b, err := openModel(base)
	if err != nil {
		return usage(fmt.Errorf("--base: %w", err))
	}
	s.open = append(s.open, b.close)
	if _, err := d.Apply(b); err != nil {
		return b.at(err)
	}
	s.size, s.root = d.Header.TargetSize, d.Header.TargetRoot
	s.write = func(ctx context.Context, w io.Writer, o delta.Options) error {
		return d.Unpack(ctx, w, b, o)
	}
	return nil
}
