package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/quadnine/quadnine/console"
	"github.com/quadnine/quadnine/loader"
)

func newModelGC() *cobra.Command {
	var (
		admin  adminAddr
		dry    bool
		format report
	)
	c := &cobra.Command{
		Use:   "gc [STORE]",
		Short: "Remove what nothing needs from a store of models",
		Long: `Remove what nothing needs from the store of a running sidecar, or from the directory
STORE, which no process may use meanwhile. Versions that are active, standby or not
decided yet stay, and so do those that they are made of.`,
		Example: `  quadnine model gc --dry-run
  quadnine model gc ~/.cache/quadnine/models`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := format.check(); err != nil {
				return err
			}
			var got console.Collection
			var err error
			switch {
			case len(args) == 0:
				got, err = admin.collect(cmd.Context(), dry)
			case cmd.Flags().Changed("admin"):
				return usage(errors.New("--admin is a running sidecar's, STORE a directory that none uses: give one of them"))
			default:
				got, err = collectStore(args[0], dry)
			}
			if err != nil && len(got.Garbage) == 0 {
				return err
			}
			return errors.Join(err, format.print(cmd.OutOrStdout(), got, func(w io.Writer) error { return printGarbage(w, &got) }))
		},
	}
	admin.flag(c)
	c.Flags().BoolVar(&dry, "dry-run", false, "only list it")
	format.flag(c)
	return c
}

// collect asks a running sidecar.
func (a adminAddr) collect(ctx context.Context, dry bool) (got console.Collection, err error) {
	status, body, err := a.ask(ctx, http.MethodPost, fmt.Sprintf("/models/gc?dry_run=%t", dry))
	if err != nil {
		return got, err
	}
	if status != http.StatusOK {
		return got, a.refused(status, body)
	}
	if err := json.Unmarshal(body, &got); err != nil {
		return got, fmt.Errorf("http://%s/models/gc: %w: is it the admin address of a sidecar?", a, err)
	}
	return got, nil
}

// collectStore looks into a store that nobody uses.
func collectStore(dir string, dry bool) (console.Collection, error) {
	found, used, err := loader.GCStore(dir, dry)
	if errors.Is(err, loader.ErrInUse) {
		err = fmt.Errorf("%w; for a running sidecar's store: quadnine model gc --admin HOST:PORT", err)
	}
	return console.Collection{Garbage: garbage(found), Removed: !dry && err == nil, Used: used}, err
}

func garbage(found []loader.Garbage) []console.Garbage {
	out := make([]console.Garbage, 0, len(found))
	for _, g := range found {
		out = append(out, console.Garbage(g))
	}
	return out
}

func printGarbage(w io.Writer, c *console.Collection) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	var sum int64
	for _, g := range c.Garbage {
		sum += g.Bytes
		fmt.Fprintf(t, "%s\t%d bytes\t%s\n", oneLine(g.Path), g.Bytes, oneLine(g.Why))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	what := "would be removed"
	if c.Removed {
		what = "were removed"
	}
	quota := ""
	if c.Quota > 0 {
		quota = fmt.Sprintf(" of %d", c.Quota)
	}
	_, err := fmt.Fprintf(w, "%d bytes %s; the store's versions take %d%s\n", sum, what, c.Used, quota)
	return err
}

// gc implements console.Collector.
func (a *models) gc(ctx context.Context, dryRun bool) (console.Collection, error) {
	found, err := a.loader.GC(ctx, dryRun)
	_, all := a.loader.Disk("")
	return console.Collection{Garbage: garbage(found), Removed: !dryRun, Used: all.Used, Quota: all.Limit}, err
}

// rooms returns what a model takes of the store, and all models of the kernel's
// mappings.
func (a *models) rooms(model string) (store, mappings *console.Room) {
	own, all := a.loader.Disk(model)
	if own.Limit == 0 {
		own.Limit = all.Limit
	}
	used, limit := a.loader.Mappings()
	return &console.Room{Used: own.Used, Limit: own.Limit}, &console.Room{Used: used, Limit: limit}
}

// quota reads --model-quota.
func (c *modelsConfig) quota() (store int64, models map[string]int64, err error) {
	for _, text := range c.quotas {
		model, bytes, one := strings.Cut(text, "=")
		if !one {
			bytes = text
		}
		n, err := parseBytes(bytes)
		if err == nil && n == 0 {
			err = errors.New("0 would refuse every version; leave it out for no bound")
		}
		switch {
		case err != nil:
		case one && (model == "" || models[model] > 0):
			err = fmt.Errorf("%q: name each model once", text)
		case !one && store > 0:
			err = fmt.Errorf("%q: the store has one quota, and %d bytes were said before", text, store)
		}
		if err != nil {
			return 0, nil, usage(fmt.Errorf("--model-quota: %w", err))
		}
		if !one {
			store = n
			continue
		}
		if models == nil {
			models = make(map[string]int64)
		}
		models[model] = n
	}
	return store, models, nil
}
