package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/quadnine/quadnine/bench/proc"
	"github.com/quadnine/quadnine/bench/rivals"
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
}

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 5, "interleaved `rounds`; the table shows medians")
	flag.IntVar(&o.requests, "n", 200_000, "`requests` a rival and round")
	flag.IntVar(&o.warm, "warm", 10_000, "`requests` before each measurement, not counted")
	flag.IntVar(&o.clients, "c", 8, "client `connections`")
	flag.IntVar(&o.streams, "m", 32, "concurrent `streams` a connection")
	flag.DurationVar(&o.profile, "profile", 8*time.Second, "length of quadnine's CPU profile; 0: no budget")
	flag.StringVar(&o.results, "results", "results", "`folder` for the profile")
	flag.BoolVar(&o.json, "json", false, "print JSON instead of the tables")
	flag.StringVar(&o.quadnine, "quadnine", "", "quadnine `binary` to measure (default: built from ..)")
	flag.StringVar(&o.only, "only", "", "measure rivals whose name contains `text` only: for developing, never for a table to show")
	flag.Parse()

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
	if err := proc.FindAll(rivals.Tools()...); err != nil {
		return err
	}
	proxyCPU, restCPU, err := twoCPUs()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "quadnine-bench-")
	if err != nil {
		return fmt.Errorf("scratch folder: %w", err)
	}
	defer os.RemoveAll(dir)

	f, err := newField(ctx, o, dir, proxyCPU, restCPU, log)
	if err != nil {
		return err
	}
	defer f.stop()
	rows, err := f.measure(ctx)
	if err != nil {
		return err
	}
	rep := report{When: time.Now().UTC().Truncate(time.Second), Machine: machine(), Rounds: o.rounds, Requests: o.requests, Clients: o.clients, Streams: o.streams, Rivals: rows}
	if o.profile > 0 {
		if rep.Budget, err = f.budget(ctx, rows); err != nil {
			return err
		}
	}
	if o.json {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(rep)
	}
	return rep.print(out)
}
