package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/quadnine/quadnine/bench/contest"
	"github.com/quadnine/quadnine/bench/grid"
	"github.com/quadnine/quadnine/bench/loader"
	"github.com/quadnine/quadnine/bench/proc"
	"github.com/quadnine/quadnine/bench/rivals"
	"github.com/quadnine/quadnine/bench/ship"
	"github.com/quadnine/quadnine/bench/wake"
	"github.com/quadnine/quadnine/bench/xds"
)

// options are the command's flags.
type options struct {
	table    string
	rounds   int
	profile  time.Duration
	results  string
	json     bool
	markdown bool
	quadnine string
	contest  contest.Options
	loader   loader.Options
	xds      xds.Options
}

// The tables that -table chooses from.
const (
	tableAll      = "all"
	tableRequests = "requests"
	tableLoader   = "loader"
	tableXDS      = "xds"
	tableWake     = "wake"
	tableShip     = "ship"
)

// report is one run, as --json prints it.
type report struct {
	When    time.Time       `json:"when"`
	Machine string          `json:"machine"`
	Contest *contest.Report `json:"requests,omitempty"`
	Loader  *loader.Report  `json:"loader,omitempty"`
	XDS     *xds.Report     `json:"xds,omitempty"`
	Wake    *wake.Report    `json:"wake,omitempty"`
	Ship    *ship.Report    `json:"ship,omitempty"`
}

// usualRounds are those of the xds table, loaderRounds those of the loader's; each
// case of the requests table has its own.
const usualRounds, loaderRounds = 5, 20

// cases reads -case.
func (o *options) cases(list string) error {
	o.contest.Cases = append(o.contest.Cases, strings.Split(list, ",")...)
	return nil
}

// wants reports whether a table was chosen.
func (o options) wants(table string) bool { return o.table == tableAll || o.table == table }

// run measures and prints to out; progress goes to log. What was measured is
// printed even when a rival failed, and the error names it.
func run(ctx context.Context, o options, out, log io.Writer) error {
	tables := []string{tableRequests, tableLoader, tableShip, tableXDS, tableWake, tableAll}
	if !slices.Contains(tables, o.table) {
		return fmt.Errorf("no table %q: use one of %s", o.table, strings.Join(tables, ", "))
	}
	if err := o.missing(); err != nil {
		return err
	}
	if o.results == "" {
		o.results = o.folder()
	}
	dir, err := os.MkdirTemp("", "quadnine-bench-")
	if err != nil {
		return fmt.Errorf("scratch folder: %w", err)
	}
	defer os.RemoveAll(dir)
	if o.quadnine == "" && (o.wants(tableRequests) || o.wants(tableXDS) || o.wants(tableShip)) {
		o.quadnine = filepath.Join(dir, "quadnine")
		if err := build(ctx, "..", o.quadnine, "./cmd/quadnine"); err != nil {
			return err
		}
	}
	rep := report{When: time.Now().UTC().Truncate(time.Second), Machine: machine()}
	err = rep.measure(ctx, o, dir, log)
	if rep.Contest != nil && rep.Contest.Complete && o.contest.Whole() {
		err = errors.Join(err, rep.keep(o.results, rep.tables()))
	}
	return errors.Join(rep.publish(o, out), err)
}

// measure fills in the chosen tables.
func (r *report) measure(ctx context.Context, o options, dir string, log io.Writer) error {
	var errs []error
	if o.wants(tableWake) { // first: nothing else is started yet
		var err error
		r.Wake, err = wake.Measure(ctx, wake.Options{})
		errs = append(errs, err)
	}
	if o.wants(tableRequests) && ctx.Err() == nil {
		errs = append(errs, r.requests(ctx, o, dir, log))
	}
	if o.wants(tableXDS) && ctx.Err() == nil {
		errs = append(errs, r.changes(ctx, o, dir, log))
	}
	if o.wants(tableShip) && ctx.Err() == nil {
		errs = append(errs, r.shipped(ctx, o, dir, log))
	}
	if o.wants(tableLoader) && ctx.Err() == nil {
		var err error
		o.loader.Rounds = cmp.Or(o.rounds, loaderRounds)
		r.Loader, err = loader.Compare(ctx, dir, o.loader, log)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// folder is where profiles and tables go: what a run in full has left is not
// replaced by one that leaves something out.
func (o options) folder() string {
	if o.contest.Whole() {
		return "results"
	}
	return filepath.Join("results", "partial")
}

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

// requests fills in the tables of requests.
func (r *report) requests(ctx context.Context, o options, dir string, log io.Writer) (err error) {
	c := o.contest
	c.Rounds, c.Profile, c.Results, c.Dir, c.Log = o.rounds, o.profile, o.results, dir, log
	if c.ProxyCPU, c.RestCPU, err = twoCPUs(); err != nil {
		return err
	}
	c.Programs.Quadnine = o.quadnine
	if c.Programs.Self, err = os.Executable(); err != nil {
		return fmt.Errorf("this program: %w", err)
	}
	for name, to := range map[string]*string{"reverseproxy": &c.Programs.Reverse, "stats": &c.Programs.Stats} {
		*to = filepath.Join(dir, name)
		if err := build(ctx, ".", *to, "./cmd/"+name); err != nil {
			return err
		}
	}
	if c.Programs.Drops, err = rivals.NewDrops(ctx, o.quadnine, dir); err != nil {
		return err
	}
	r.Contest, err = contest.Run(ctx, c)
	return err
}

// shipRounds are the least that an interval is told of.
const shipRounds = 9

// shipped fills in the table of what requests notice of activations.
func (r *report) shipped(ctx context.Context, o options, dir string, log io.Writer) (err error) {
	s := ship.Options{Rounds: cmp.Or(o.rounds, shipRounds), Programs: rivals.Programs{Quadnine: o.quadnine}}
	if s.ProxyCPU, s.RestCPU, err = twoCPUs(); err != nil {
		return err
	}
	if s.Programs.Self, err = os.Executable(); err != nil {
		return fmt.Errorf("this program: %w", err)
	}
	r.Ship, err = ship.Measure(ctx, filepath.Join(dir, "ship"), s, log)
	return err
}

// changes fills in the table of changes of configuration.
func (r *report) changes(ctx context.Context, o options, dir string, log io.Writer) (err error) {
	x := o.xds
	x.Rounds, x.Quadnine = cmp.Or(o.rounds, usualRounds), o.quadnine
	if x.ProxyCPU, x.RestCPU, err = twoCPUs(); err != nil {
		return err
	}
	if o.profile > 0 {
		x.Profile = func(ctx context.Context, admin string) error {
			p, err := contest.Fetch(ctx, admin, o.profile)
			if err != nil {
				return err
			}
			return contest.Keep(o.results, "quadnine-xds.pprof", p)
		}
	}
	r.XDS, err = xds.Compare(ctx, dir, x, log)
	return err
}

// tables returns those of requests, and the wake-up's.
func (r *report) tables() []*grid.Table {
	var out []*grid.Table
	if r.Contest != nil {
		out = r.Contest.Tables()
	}
	if r.Wake != nil {
		out = append(out, r.Wake.Table())
	}
	return out
}

// publish prints what there is.
func (r *report) publish(o options, out io.Writer) error {
	if o.json {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	var errs []error
	tables := r.tables()
	if r.Loader != nil {
		tables = append(tables, r.Loader.Tables()...)
	}
	if r.Ship != nil {
		tables = append(tables, r.Ship.Tables()...)
	}
	if len(tables) > 0 {
		fmt.Fprintf(out, "\n%s · %s\n", r.Machine, r.When.Format(time.DateTime))
	}
	for _, t := range tables {
		if o.markdown {
			errs = append(errs, t.Markdown(out))
		} else {
			errs = append(errs, t.Text(out))
		}
	}
	if r.XDS != nil {
		errs = append(errs, r.XDS.Print(out, r.Machine))
	}
	return errors.Join(errs...)
}

// keep writes the tables of a whole run into the results folder.
func (r *report) keep(folder string, tables []*grid.Table) (err error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("keep the tables: %w", err)
	}
	f, err := os.Create(filepath.Join(folder, "requests.md"))
	if err != nil {
		return fmt.Errorf("keep the tables: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	fmt.Fprintf(f, "# What a request costs\n\nWritten by `make bench` on %s: %s. How it is measured: docs/bench.md.\n", r.When.Format(time.DateOnly), r.Machine)
	for _, t := range tables {
		if err := t.Markdown(f); err != nil {
			return fmt.Errorf("keep the tables: %w", err)
		}
	}
	return nil
}

// build compiles pkg of the module in dir into out.
func build(ctx context.Context, dir, out, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", out, pkg)
	cmd.Dir = dir
	if msg, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, msg)
	}
	return nil
}
