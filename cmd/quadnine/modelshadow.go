package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/quadnine/quadnine/console"
	"github.com/quadnine/quadnine/loader"
)

func newModelShadow() *cobra.Command {
	var (
		admin   adminAddr
		percent float64
	)
	c := &cobra.Command{
		Use:   "shadow MODEL VERSION",
		Short: "Have a version of a running sidecar's model computed beside the active one, and never served",
		Long: `Have the canary or the standby computed for a share of the queries beside the
active version. Its answers are compared with those that callers get, and nobody
is served by it: see quadnine model compare. --percent 0 ends it: a version that
was not tried yet becomes the canary. It is kept over a restart.`,
		Example: `  quadnine model shadow score 2 --percent 10
  quadnine model compare score
  quadnine model shadow score 2 --percent 0`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			version, err := versionArg(args[1])
			if err != nil {
				return err
			}
			if !(percent >= 0 && percent <= 100) { // NaN is not
				return usage(fmt.Errorf("--percent %v: want 0 to 100", percent))
			}
			path := "/models/" + url.PathEscape(args[0]) + "/versions/" + strconv.FormatUint(version, 10) + "/shadow?percent=" + strconv.FormatFloat(percent, 'g', -1, 64)
			return admin.act(cmd, path, "in shadow")
		},
	}
	admin.flag(c)
	c.Flags().Float64Var(&percent, "percent", 100, "of the queries; 0 ends it")
	return c
}

func versionArg(text string) (uint64, error) {
	version, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, usage(fmt.Errorf("version %q: want a number, as quadnine model ls lists them", text))
	}
	return version, nil
}

// act sends a POST and prints what came of it. Who gets no answer must look whether
// the version is what.
func (a adminAddr) act(cmd *cobra.Command, path, what string) error {
	return a.actFor(cmd, path, what, usualWait)
}

// actFor is act that waits for the answer at most for that long; 0: until it comes.
func (a adminAddr) actFor(cmd *cobra.Command, path, what string, most time.Duration) error {
	status, body, err := a.askFor(cmd.Context(), http.MethodPost, path, most)
	if errors.Is(err, errUnanswered) {
		err = fmt.Errorf("%w: it may be %s or not: look with quadnine model ls --admin %s", err, what, a)
		if cmd.Context().Err() != nil {
			return &exitError{exitInterrupted, err}
		}
	}
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return a.refused(status, body)
	}
	_, err = cmd.OutOrStdout().Write(body)
	return err
}

// find returns a model of a running sidecar.
func (a adminAddr) find(ctx context.Context, name string) (*console.Model, error) {
	status, body, err := a.ask(ctx, http.MethodGet, "/models?format=json")
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, a.refused(status, body)
	}
	var list modelList
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("http://%s/models: %w: is it the admin address of a sidecar?", a, err)
	}
	i := slices.IndexFunc(list.Models, func(m console.Model) bool { return m.Name == name })
	if i < 0 {
		var names []string
		for _, m := range list.Models {
			names = append(names, modelName(m.Name))
		}
		return nil, fmt.Errorf("%s: no model is called %s; there are: %s", a, shown(name), orNone(names))
	}
	return &list.Models[i], nil
}

func newModelCompare() *cobra.Command {
	var (
		admin  adminAddr
		format report
	)
	c := &cobra.Command{
		Use:     "compare MODEL",
		Short:   "Show how the answers of a version in shadow differ from those that callers got",
		Example: `  quadnine model compare score --format json`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := format.check(); err != nil {
				return err
			}
			m, err := admin.find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if m.Shadow == nil {
				return fmt.Errorf("%s: no version is, or was, in shadow: see quadnine model shadow --help", shown(args[0]))
			}
			return format.print(cmd.OutOrStdout(), m.Shadow, func(w io.Writer) error { return printShadow(w, m.Name, m.Shadow) })
		},
	}
	admin.flag(c)
	format.flag(c)
	return c
}

func printShadow(w io.Writer, model string, s *console.Shadow) error {
	state := fmt.Sprintf("for %.4g %% of the queries", s.Percent)
	if s.Over {
		state = "over"
	}
	fmt.Fprintf(w, "%s@%d in shadow beside %s@%d: %s\n", shown(model), s.Version, shown(model), s.Against, state)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "TENANT\tCOMPARED\tEQUAL\tNOT FINITE\tFAILED\tREL P50\tREL P99\tREL MAX\tABS P99\tABS MAX\tBIAS\n")
	row := func(tenant string, d *console.Differences) {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%.3g\t%.3g\t%.3g\t%.3g\t%.3g\t%.3g\n", tenant, d.Compared, d.Equal, d.NotFinite, d.Failed,
			d.Relative.P50, d.Relative.P99, d.Relative.Max, d.Absolute.P99, d.Absolute.Max, d.Bias)
	}
	row("(all)", &s.Differences)
	for i := range s.Tenants {
		row(oneLine(s.Tenants[i].Tenant), &s.Tenants[i].Differences)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "skipped: %d busy, %d without its inputs, %d gone\n", s.SkippedBusy, s.SkippedInputs, s.SkippedGone)
	return err
}

// shadow has a version computed in shadow, for console.Views.
func (a *models) shadow(ctx context.Context, model string, version uint64, percent float64) error {
	return a.explainStudy(a.loader.Shadow(ctx, model, version, percent), model)
}

// explainStudy says whose mistake an error of the loader is.
func (a *models) explainStudy(err error, model string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, loader.ErrNoModel):
		return fmt.Errorf("%w: no model has that name; there are: %s", console.ErrNoVersion, orNone(a.loader.Models()))
	case errors.Is(err, loader.ErrNotServing), errors.Is(err, loader.ErrNotShadow), errors.Is(err, loader.ErrShadow),
		errors.Is(err, loader.ErrExperiment), errors.Is(err, loader.ErrNoExperiment), errors.Is(err, loader.ErrBadExperiment):
		var have []string
		for _, s := range a.loader.Versions(model) {
			have = append(have, fmt.Sprintf("%d (%s)", s.Number, s.State))
		}
		return fmt.Errorf("%w: %s; there are: %s", console.ErrState, strings.TrimPrefix(err.Error(), "loader: "), orNone(have))
	case errors.Is(err, loader.ErrClosed):
		return fmt.Errorf("%w: this sidecar is stopping: ask again once it is back", console.ErrState)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("it may be done or not: look with quadnine model ls: %w", err)
	default:
		return fmt.Errorf("it is done, but may be forgotten at a restart: %w", err)
	}
}
