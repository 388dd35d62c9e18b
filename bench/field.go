package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/quadnine/quadnine/bench/load"
	"github.com/quadnine/quadnine/bench/rivals"
)

// startWithin bounds the start of the backend and of each rival.
const startWithin = 20 * time.Second

// runWithin bounds one run of h2load, so that a proxy that hangs ends the
// comparison instead of stopping it.
const runWithin = 5 * time.Minute

// field is the running comparison: the backend and every rival in front of it.
type field struct {
	options

	backend  *rivals.Backend
	entrants []*entrant
	restCPU  int // where the client runs
	log      io.Writer
}

// entrant is one started rival with what was measured so far.
type entrant struct {
	rivals.Rival

	run    *rivals.Running
	rounds []round
}

// round is one measurement.
type round struct {
	cpu       time.Duration // of the proxy, for one request
	perSecond float64       // requests
}

// newField builds the binaries and starts everything.
func newField(ctx context.Context, o options, dir string, proxyCPU, restCPU int, log io.Writer) (*field, error) {
	f := &field{options: o, restCPU: restCPU, log: log}
	place := rivals.Place{CPU: proxyCPU, Quadnine: o.quadnine, Reverse: filepath.Join(dir, "reverseproxy")}
	if err := build(ctx, ".", place.Reverse, "./cmd/reverseproxy"); err != nil {
		return nil, err
	}
	if place.Quadnine == "" {
		place.Quadnine = filepath.Join(dir, "quadnine")
		if err := build(ctx, "..", place.Quadnine, "./cmd/quadnine"); err != nil {
			return nil, err
		}
	}
	start, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	var err error
	if f.backend, err = rivals.StartBackend(start, dir, restCPU); err != nil {
		return nil, err
	}
	place.Upstream, place.HTTP1 = f.backend.H2, f.backend.H1
	for i, r := range rivals.All() {
		if !strings.Contains(strings.ToLower(r.Name), strings.ToLower(o.only)) {
			continue
		}
		place.Dir = filepath.Join(dir, fmt.Sprint("rival", i))
		if err := os.Mkdir(place.Dir, 0o755); err != nil {
			f.stop()
			return nil, fmt.Errorf("scratch folder: %w", err)
		}
		started, err := r.Start(start, place)
		if err != nil {
			f.stop()
			return nil, err
		}
		f.entrants = append(f.entrants, &entrant{Rival: r, run: started})
		fmt.Fprintf(log, "%s answers rightly\n", r.Name)
	}
	if len(f.entrants) == 0 {
		f.stop()
		return nil, fmt.Errorf("no rival's name contains %q", o.only)
	}
	return f, nil
}

// stop ends every process of the field.
func (f *field) stop() {
	for _, e := range f.entrants {
		e.run.Stop()
	}
	f.backend.Stop()
}

// measure runs the rounds and returns the table's rows.
func (f *field) measure(ctx context.Context) ([]row, error) {
	for i := range f.rounds {
		for _, e := range f.entrants {
			r, err := f.once(ctx, e.run)
			if err != nil {
				return nil, fmt.Errorf("%s, round %d: %w", e.Name, i+1, err)
			}
			e.rounds = append(e.rounds, r)
			fmt.Fprintf(f.log, "round %d/%d  %-24s %7.2f µs\n", i+1, f.rounds, e.Name, micros(r.cpu))
		}
	}
	return rows(f.entrants), nil
}

// once warms a rival up and measures it.
func (f *field) once(ctx context.Context, r *rivals.Running) (round, error) {
	if _, err := f.load(ctx, r.Addr, f.warm); err != nil {
		return round{}, err
	}
	before, err := r.CPU()
	if err != nil {
		return round{}, err
	}
	res, err := f.load(ctx, r.Addr, f.requests)
	if err != nil {
		return round{}, err
	}
	after, err := r.CPU()
	if err != nil {
		return round{}, err
	}
	return round{cpu: (after - before) / time.Duration(f.requests), perSecond: res.PerSecond}, nil
}

// load runs h2load once against addr.
func (f *field) load(ctx context.Context, addr string, n int) (load.Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, runWithin, errors.New("h2load took more than 5 minutes"))
	defer cancel()
	return f.h2load(addr, n).Do(ctx)
}

// h2load describes the load that every rival gets.
func (f *field) h2load(addr string, n int) load.Run {
	return load.Run{Addr: addr, Paths: queries(), Requests: n, Clients: f.clients, Streams: f.streams, CPU: f.restCPU}
}

// queries are the paths that are asked for in turn: 16 tenants and 64 metrics,
// so that keyed state and header tables do real work.
func queries() []string {
	paths := make([]string, 0, 64)
	for i := range 64 {
		paths = append(paths, fmt.Sprintf(rivals.QueryPath+"?tenant=t-%d&metric=m-%d", i%16, i))
	}
	return paths
}

// build compiles pkg of the module in dir into out.
func build(ctx context.Context, dir, out, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, pkg)
	cmd.Dir = dir
	if msg, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, msg)
	}
	return nil
}
