package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quadnine/quadnine/control"
	"github.com/quadnine/quadnine/xds/bootstrap"
	"github.com/quadnine/quadnine/xds/compile"
)

// newConfig groups what people do with configuration files before they ship
// them.
func newConfig() *cobra.Command {
	c := &cobra.Command{
		Use:     "config",
		Short:   "Check bootstraps and directories of resources",
		Example: "  quadnine config validate -c bootstrap.yaml --snapshot resources/",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(newConfigValidate())
	return withUsage(c)
}

func newConfigValidate() *cobra.Command {
	var (
		path, snapshot string
		strict         bool
		format         report
	)
	c := &cobra.Command{
		Use:   "validate",
		Short: "Compile a bootstrap and a directory of resources as a sidecar would (exit 3 when one is not valid)",
		Long: `Compile the static resources of a bootstrap, and with --snapshot every resource of
a directory, as a sidecar would, and say what is wrong, at which line. What is
accepted without effect, and references that lead nowhere, are warnings.`,
		Example: `  quadnine config validate -c bootstrap.yaml
  quadnine config validate -c bootstrap.yaml --snapshot resources/ --strict`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := format.check(); err != nil {
				return err
			}
			if path == "" && snapshot == "" {
				return usage(errors.New("name a bootstrap with -c, a directory of resources with --snapshot, or both"))
			}
			for flag, name := range map[string]string{"-c": path, "--snapshot": snapshot} {
				if _, err := os.Stat(name); name != "" && err != nil {
					return usage(fmt.Errorf("%s: %w", flag, err))
				}
			}
			v := validation{strict: strict, Errors: []string{}, Warnings: []string{}}
			if path != "" {
				v.bootstrap(path)
			}
			if snapshot != "" {
				v.snapshot(snapshot)
			}
			v.Valid = len(v.Errors) == 0
			if err := v.report(cmd, format); err != nil {
				return err
			}
			if !v.Valid {
				return &exitError{exitShort, fmt.Errorf("config validate: %s", counted(len(v.Errors), "error"))}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVarP(&path, "config-path", "c", "", "the bootstrap, YAML or JSON")
	f.StringVar(&snapshot, "snapshot", "", "directory of resources, as quadnine control serves it")
	f.BoolVar(&strict, "strict", false, "make warnings errors")
	format.flag(c)
	return c
}

// validation is what validate found.
type validation struct {
	strict bool
	static []string // the bootstrap's clusters

	Valid    bool     `json:"valid"`
	Errors   []string `json:"errors"`
	Warnings []string `json:"warnings"`
	Checked  []string `json:"checked"`
}

func (v *validation) fail(err error) {
	for line := range strings.Lines(err.Error()) {
		v.Errors = append(v.Errors, strings.TrimRight(line, "\n"))
	}
}

func (v *validation) warn(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if v.strict {
		v.Errors = append(v.Errors, line)
	} else {
		v.Warnings = append(v.Warnings, line)
	}
}

func (v *validation) report(cmd *cobra.Command, format report) error {
	out := cmd.OutOrStdout()
	if format == "json" {
		return format.print(out, v, nil)
	}
	for _, e := range v.Errors {
		fmt.Fprintln(cmd.ErrOrStderr(), oneLine(e))
	}
	for _, w := range v.Warnings {
		fmt.Fprintln(out, "warning:", oneLine(w))
	}
	if !v.Valid {
		return nil
	}
	_, err := fmt.Fprintf(out, "valid: %s; %s\n", strings.Join(v.Checked, ", "), counted(len(v.Warnings), "warning"))
	return err
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// bootstrap checks a bootstrap and what is static in it.
func (v *validation) bootstrap(path string) {
	b, err := bootstrap.Load(bootstrap.Options{Path: path})
	if err != nil {
		v.fail(err)
		return
	}
	for _, w := range b.Warnings {
		v.warn("%s", w)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		v.fail(err)
		return
	}
	place, c := bootstrap.PlaceOf(path, data), compile.New()
	static, err := staticOf(b)
	if err != nil {
		v.fail(fmt.Errorf("%s: %w", path, err))
		return
	}
	if _, err := layersOf(b, c); err != nil {
		v.fail(fmt.Errorf("%s: %w", path, err))
	}
	if _, err := serversOf(b); err != nil {
		v.fail(fmt.Errorf("%s: %w", path, err))
	}
	if err := b.Identified(); err != nil { // the command line may say it
		v.warn("%s: %v", path, err)
	}
	for i, s := range static {
		field := fmt.Sprintf("static_resources.clusters[%d]", i)
		if n := len(b.Clusters); i >= n {
			field = fmt.Sprintf("static_resources.listeners[%d]", i-n)
		} else {
			v.static = append(v.static, s.Name)
		}
		if s.Aside {
			continue
		}
		notes, err := compileKind(c, s.Kind, s.Body)
		for _, e := range compile.Reasons(err) {
			at := place.At(strings.TrimSuffix(field+"."+e.Path, "."))
			if leftOut(err) {
				v.warn("%s: %v: it is left out", at, e)
			} else {
				v.fail(fmt.Errorf("%s: %w", at, e))
			}
		}
		for _, n := range notes {
			_, what, _ := strings.Cut(n, "/")
			v.warn("%s: %s: %s has no effect", place.At(field), field, what)
		}
	}
	v.Checked = append(v.Checked, fmt.Sprintf("%s (%s)", path, counted(len(static), "static resource")))
}

// snapshot checks a directory of resources.
func (v *validation) snapshot(dir string) {
	l := control.Loader{Known: v.static}
	set, err := l.Load(dir)
	if err != nil {
		v.fail(err)
		return
	}
	for _, w := range set.Warnings {
		v.warn("%s", w)
	}
	v.Checked = append(v.Checked, fmt.Sprintf("%s (%s)", dir, counted(set.Len(), "resource")))
}
