package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/quadnine/quadnine/bench/load/driver"
	"github.com/quadnine/quadnine/bench/load/echo"
	"github.com/quadnine/quadnine/bench/loader"
	"github.com/quadnine/quadnine/bench/ship"
	"github.com/quadnine/quadnine/loader/patch"
)

func main() {
	if child, err := asChild(os.Args[1:]); child {
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	o := flags()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o, os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// asChild does the work of the processes that this binary starts of itself.
func asChild(args []string) (child bool, err error) {
	switch {
	case len(args) == 2 && args[0] == loader.ChildArg:
		return true, loader.Child(context.Background(), args[1], os.Stdout)
	case len(args) == 1 && args[0] == loader.PatchArg:
		return true, patch.Run(context.Background(), os.Stdin, os.Stdout)
	case len(args) == 2 && args[0] == ship.ChildArg:
		return true, ship.Child(context.Background(), args[1])
	case len(args) == 2 && args[0] == driver.ChildArg:
		return true, driver.Child(args[1], os.Stdin, os.Stdout)
	case len(args) == 3 && args[0] == echo.ChildArg:
		return true, echo.Child(args[1], args[2])
	default:
		return false, nil
	}
}

// flags reads the command line.
func flags() options {
	var o options
	flag.StringVar(&o.table, "table", tableAll, "which `table`: requests, loader, ship, xds, wake or all")
	flag.Func("case", "cases of the requests table, `a,b`; default all of them: saturated-static, …", o.cases)
	flag.BoolVar(&o.contest.Quick, "quick", false, "few and short rounds of the requests table: for developing, never for a table to show")
	flag.IntVar(&o.rounds, "rounds", 0, "interleaved `rounds`, at least; 0: each table's and case's own")
	flag.StringVar(&o.contest.Only, "only", "", "measure rivals whose name contains `text` only: for developing, never for a table to show")
	flag.Float64Var(&o.loader.Scale, "scale", 1, "`factor` on the size of the loader table's model: for developing, never for a table to show")
	flag.Int64Var(&o.loader.Slice, "bsdiff", 128<<20, "`bytes` of the model that bsdiff4 gets, which takes 18 times as much memory")
	flag.IntVar(&o.xds.Samples, "swaps", 57, "`changes` of each kind in the xds table")
	flag.IntVar(&o.xds.Requests, "routed", 60_000, "`requests` a route and round in the xds table; 0: no rates")
	flag.DurationVar(&o.profile, "profile", 4*time.Second, "length of each of quadnine's CPU profiles; 0: none, and no budget")
	flag.StringVar(&o.results, "results", "", "`folder` for the profiles and the tables (default: results; results/partial for a run that leaves something out)")
	flag.BoolVar(&o.json, "json", false, "print JSON instead of the tables")
	flag.BoolVar(&o.markdown, "markdown", false, "print the tables as Markdown, as they are kept in the results folder")
	flag.StringVar(&o.quadnine, "quadnine", "", "quadnine `binary` to measure (default: built from ..)")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "bench: %q is no flag: tables are chosen with -table, files go to -results\n", flag.Args())
		os.Exit(2)
	}
	return o
}
