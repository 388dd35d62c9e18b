package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/quadnine/quadnine/loader/delta"
	"github.com/quadnine/quadnine/loader/modelsign"
	"github.com/quadnine/quadnine/loader/oci"
)

// newModel groups what people do with model versions before they ship them.
func newModel() *cobra.Command {
	c := &cobra.Command{
		Use:   "model",
		Short: "Make, look at and check model versions and the deltas between them",
		Long: `A version is a safetensors file. A delta (.qd) makes one version out of another; a
drop is a directory with either or both and MANIFEST.json, which the sidecar
takes when it appears in its models directory.`,
		Example: `  quadnine model diff v1.safetensors v2.safetensors
  quadnine model pack v2.safetensors --base v1.safetensors --model score --version 2 -o models/score-v2`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	experiment := newModelExperiment()
	c.AddCommand(newModelDiff(), newModelPack(), newModelUnpack(), newModelFlatten(), newModelInspect(), newModelVerify(), newModelKeygen(), newModelLs(), newModelRollback(), newModelGC(), newModelPool(), newModelShadow(), newModelCompare(), experiment, newModelActivate(), newModelPush(), newModelOCI(), newModelApplyPatch(),
		newModelImportLightGBM(), newModelImportWasm(), newModelEval())
	for _, sub := range slices.Concat(c.Commands(), experiment.Commands()) {
		args, run := sub.Args, sub.RunE
		sub.Args = func(cmd *cobra.Command, a []string) error {
			if err := args(cmd, a); err != nil {
				return usage(fmt.Errorf("%w; see %s --help", err, cmd.CommandPath()))
			}
			return nil
		}
		sub.RunE = func(cmd *cobra.Command, a []string) error {
			err := run(cmd, a)
			if e, ok := errors.AsType[*exitError](err); ok && e.code == exitInterrupted {
				return err // it knows better what was done
			}
			if err != nil && cmd.Context().Err() != nil {
				return &exitError{exitInterrupted, fmt.Errorf("%s: interrupted; nothing was written", cmd.Name())}
			}
			return err
		}
	}
	return c
}

// report is what --format chooses between.
type report string

func (r *report) flag(c *cobra.Command) {
	*r = "text"
	c.Flags().StringVar((*string)(r), "format", "text", "how the report is printed: text or json")
}

func (r report) check() error {
	if r != "text" && r != "json" {
		return usage(fmt.Errorf("--format %q: use text or json", string(r)))
	}
	return nil
}

// print writes v as JSON, or what text writes.
func (r report) print(w io.Writer, v any, text func(io.Writer) error) error {
	if r == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(v)
	}
	return text(w)
}

// modelFile is an open file of a known size.
type modelFile struct {
	delta.Sized

	path string
	file *os.File
}

func openModel(path string) (*modelFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	s, err := f.Stat()
	if err == nil && !s.Mode().IsRegular() {
		err = fmt.Errorf("%s: is no plain file", path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &modelFile{delta.Section(f, s.Size()), path, f}, nil
}

func (m *modelFile) close() { _ = m.file.Close() } // only read

// at puts the file's name before what is wrong with it.
func (m *modelFile) at(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", m.path, err)
}

// isDelta reports whether the file is a .qd, whole or not.
func (m *modelFile) isDelta() bool {
	var b [8]byte
	_, err := m.ReadAt(b[:], 0)
	return filepath.Ext(m.path) == ".qd" || err == nil && string(b[:]) == "QDELTA1\x00"
}

// openDrop opens the directory of a drop, which may be an image layout.
func openDrop(path string) (*delta.Drop, *os.Root, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, nil, err
	}
	if oci.Is(root.FS()) {
		l, err := oci.Parse(root.FS())
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("%s: %w", path, err), root.Close())
		}
		return delta.NewDrop(root, l.Manifest, func(f delta.File) string { return l.Blob(f.Path).Path }), root, nil
	}
	d, err := delta.OpenDrop(root)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("%s: %w: is it a drop, made by quadnine model pack?", path, err), root.Close())
	}
	return d, root, nil
}

func isDir(path string) (bool, error) {
	s, err := os.Stat(path)
	return err == nil && s.IsDir(), err
}

// writeFile writes path by way of a file beside it that is renamed into place:
// there is the whole output or none.
func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("-o %s: %w", path, err)
	}
	err = write(f)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		if err = os.Rename(f.Name(), path); err == nil {
			return nil
		}
	}
	return errors.Join(err, os.Remove(f.Name()))
}

// work returns the options for work on total bytes. On a terminal it shows a
// bar; end wipes it.
func work(cmd *cobra.Command, what string, total int64) (o delta.Options, end func()) {
	o.Workers = min(runtime.GOMAXPROCS(0), 8)
	f, ok := cmd.ErrOrStderr().(*os.File)
	if !ok {
		return o, func() {}
	}
	if s, err := f.Stat(); err != nil || s.Mode()&os.ModeCharDevice == 0 {
		return o, func() {}
	}
	bar := progressbar.NewOptions64(max(total, 1), progressbar.OptionSetWriter(f), progressbar.OptionSetDescription(what),
		progressbar.OptionShowBytes(true), progressbar.OptionUseIECUnits(true), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(30))
	o.Progress = func(n int64) { _ = bar.Add64(n) } // more than expected only fills the bar
	return o, func() { _ = bar.Finish() }
}

// size prints bytes for people.
func size(n int64) string {
	if n < 1<<10 {
		return strconv.FormatInt(n, 10) + " B"
	}
	f, unit := float64(n)/(1<<10), 0
	for f >= 1023.95 && unit < 4 {
		f, unit = f/(1<<10), unit+1
	}
	return fmt.Sprintf("%.1f %ciB", f, "KMGTP"[unit])
}

// shown is a name that cannot play tricks on a terminal.
func shown(name string) string {
	if name == "" {
		return "(header)"
	}
	if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || r == '"' || r == ' ' }) {
		return strconv.Quote(name)
	}
	return name
}

// readKeys reads public keys.
func readKeys(paths []string) ([]*delta.PublicKey, error) {
	var keys []*delta.PublicKey
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			return nil, usage(fmt.Errorf("--key: %w", err))
		}
		k, err := delta.ParsePublicKey(b)
		if err != nil {
			return nil, usage(fmt.Errorf("--key %s: %w", p, err))
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// readTrust reads public keys of OpenSSF Model Signing, which flag named.
func readTrust(flag string, paths []string) ([]*modelsign.Key, error) {
	var keys []*modelsign.Key
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			return nil, usage(fmt.Errorf("%s: %w", flag, err))
		}
		k, err := modelsign.ParseKey(b)
		if err != nil {
			return nil, usage(fmt.Errorf("%s %s: %w", flag, p, err))
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// parseDelta parses an open .qd.
func (m *modelFile) parseDelta() (*delta.Delta, error) {
	d, err := delta.Parse(m, m.Size())
	return d, m.at(err)
}

func rootOf(ctx context.Context, m *modelFile, o delta.Options) (delta.Root, error) {
	l, err := delta.LeavesOf(ctx, m, o)
	if err != nil {
		return delta.Root{}, m.at(err)
	}
	return delta.RootFromLeaves(m.Size(), l)
}
