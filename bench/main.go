package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/quadnine/quadnine/bench/loader"
	"github.com/quadnine/quadnine/bench/proc"
	"github.com/quadnine/quadnine/bench/rivals"
	"github.com/quadnine/quadnine/bench/xds"
)

// options are the command's flags.
type options struct {
	rounds   int
	requests int
	warm     int
	clients  int
	streams  int
	profile  time.Duration
	results  string
	json     bool
	quadnine string
	only     string
	table    string
	loader   loader.Options
	xds      xds.Options
}

// The tables that -table chooses from.
const (
	tableAll      = "all"
	tableRequests = "requests"
	tableLoader   = "loader"
	tableXDS      = "xds"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == loader.ChildArg {
		if err := loader.Child(context.Background(), os.Args[2], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	var o options
	flag.StringVar(&o.table, "table", tableAll, "which `table`: requests, loader, xds or all")
	flag.Float64Var(&o.loader.Scale, "scale", 1, "`factor` on the size of the loader table's model: for developing, never for a table to show")
	flag.Int64Var(&o.loader.Slice, "bsdiff", 32<<20, "`bytes` of the model that bsdiff4 gets")
	flag.IntVar(&o.xds.Samples, "swaps", 57, "`changes` of each kind in the xds table")
	flag.IntVar(&o.xds.Requests, "routed", 60_000, "`requests` a route and round in the xds table; 0: no rates")
	flag.IntVar(&o.rounds, "rounds", 5, "interleaved `rounds`; the table shows medians")
	flag.IntVar(&o.requests, "n", 200_000, "`requests` a rival and round")
	flag.IntVar(&o.warm, "warm", 10_000, "`requests` before each measurement, not counted")
	flag.IntVar(&o.clients, "c", 8, "client `connections`")
	flag.IntVar(&o.streams, "m", 32, "concurrent `streams` a connection")
	flag.DurationVar(&o.profile, "profile", 8*time.Second, "length of quadnine's CPU profiles; 0: no profile, no budget")
	flag.StringVar(&o.results, "results", "results", "`folder` for the profiles")
	flag.BoolVar(&o.json, "json", false, "print JSON instead of the tables")
	flag.StringVar(&o.quadnine, "quadnine", "", "quadnine `binary` to measure (default: built from ..)")
	flag.StringVar(&o.only, "only", "", "measure rivals whose name contains `text` only: for developing, never for a table to show")
	flag.Parse()
	o.loader.Rounds, o.xds.Rounds = o.rounds, o.rounds

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o, os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures and prints to out; progress goes to log.
func run(ctx context.Context, o options, out, log io.Writer) error {
	if !slices.Contains([]string{tableAll, tableRequests, tableLoader, tableXDS}, o.table) {
		return fmt.Errorf("no table %q: use %s, %s, %s or %s", o.table, tableRequests, tableLoader, tableXDS, tableAll)
	}
	if err := o.missing(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "quadnine-bench-")
	if err != nil {
		return fmt.Errorf("scratch folder: %w", err)
	}
	defer os.RemoveAll(dir)

	rep := report{When: time.Now().UTC().Truncate(time.Second), Machine: machine(), Rounds: o.rounds}
	if o.wants(tableRequests) {
		if err := rep.measure(ctx, o, dir, log); err != nil {
			return err
		}
	}
	if o.wants(tableXDS) {
		if err := rep.changes(ctx, o, dir, log); err != nil {
			return err
		}
	}
	if o.wants(tableLoader) {
		if rep.Loader, err = loader.Compare(ctx, dir, o.loader, log); err != nil {
			return err
		}
	}
	if o.json {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(rep)
	}
	if o.wants(tableRequests) {
		if err := rep.print(out); err != nil {
			return err
		}
	}
	if rep.XDS != nil {
		if err := rep.XDS.Print(out, rep.Machine); err != nil {
			return err
		}
	}
	if rep.Loader == nil {
		return nil
	}
	return rep.Loader.Print(out, rep.Machine)
}

// wants reports whether a table was chosen.
func (o options) wants(table string) bool { return o.table == tableAll || o.table == table }

// missing reports the programs that the chosen tables need and that are not
// installed, before anything is measured.
func (o options) missing() error {
	var errs []error
	if o.wants(tableRequests) {
		errs = append(errs, proc.FindAll(rivals.Tools()...))
	}
	if o.wants(tableXDS) {
		errs = append(errs, proc.FindAll(xds.Tools()...))
	}
	if o.wants(tableLoader) {
		errs = append(errs, loader.Missing())
	}
	return errors.Join(errs...)
}

// measure fills in the table of requests.
func (r *report) measure(ctx context.Context, o options, dir string, log io.Writer) error {
	proxyCPU, restCPU, err := twoCPUs()
	if err != nil {
		return err
	}
	f, err := newField(ctx, o, dir, proxyCPU, restCPU, log)
	if err != nil {
		return err
	}
	defer f.stop()
	r.Requests, r.Clients, r.Streams = o.requests, o.clients, o.streams
	if r.Rivals, err = f.measure(ctx); err != nil {
		return err
	}
	if o.profile > 0 {
		r.Budget, err = f.budget(ctx, r.Rivals)
	}
	return err
}

// changes fills in the table of changes of configuration.
func (r *report) changes(ctx context.Context, o options, dir string, log io.Writer) (err error) {
	x := o.xds
	if x.ProxyCPU, x.RestCPU, err = twoCPUs(); err != nil {
		return err
	}
	if x.Quadnine = o.quadnine; x.Quadnine == "" {
		x.Quadnine = filepath.Join(dir, "quadnine")
		if err := build(ctx, "..", x.Quadnine, "./cmd/quadnine"); err != nil {
			return err
		}
	}
	if o.profile > 0 {
		x.Profile = func(ctx context.Context, admin string) error {
			raw, err := fetchProfile(ctx, admin, o.profile)
			if err != nil {
				return err
			}
			return o.keep("quadnine-xds.pprof", raw)
		}
	}
	r.XDS, err = xds.Compare(ctx, dir, x, log)
	return err
}
