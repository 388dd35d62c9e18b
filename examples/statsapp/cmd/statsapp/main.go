// Command statsapp serves the example statistics service on one port.
//
// # Concurrency
//
// It runs until SIGINT or SIGTERM, then answers what is in flight.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/quadnine/quadnine/examples/statsapp"
)

// drain bounds how long requests in flight may take after a signal.
const drain = 10 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type config struct {
	listen   string
	protocol string
	tenants  string
	events   int
	seed     uint64
	faults   map[string]statsapp.Fault
}

func parse(args []string, stderr io.Writer) (config, error) {
	c := config{faults: map[string]statsapp.Fault{}}
	fs := flag.NewFlagSet("statsapp", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&c.listen, "listen", "127.0.0.1:8080", "`address` to listen on; port 0 takes a free one")
	fs.StringVar(&c.protocol, "protocol", "both", "both, h1 or h2c")
	fs.StringVar(&c.tenants, "seed-tenants", "", "`names` of tenants to invent data for, with commas")
	fs.IntVar(&c.events, "seed-events", 10_000, "events to invent for each of those tenants")
	fs.Uint64Var(&c.seed, "seed", 1, "what the invented data depends on")
	fs.Func("fault", "`tenant=kind[,status=503][,delay_ms=50][,percent=30]`; may be repeated", func(v string) error {
		tenant, f, err := parseFault(v)
		c.faults[tenant] = f
		return err
	})
	if err := fs.Parse(args); err != nil {
		return c, err
	}
	if fs.NArg() > 0 {
		return c, fmt.Errorf("statsapp: unexpected argument %q; see --help", fs.Arg(0))
	}
	return c, nil
}

func parseFault(v string) (string, statsapp.Fault, error) {
	parts := strings.Split(v, ",")
	tenant, kind, ok := strings.Cut(parts[0], "=")
	f := statsapp.Fault{Kind: statsapp.Kind(kind)}
	if !ok {
		return "", f, errors.New("want tenant=kind")
	}
	fields := map[string]*int{"status": &f.Status, "delay_ms": &f.DelayMS, "percent": &f.Percent}
	for _, part := range parts[1:] {
		name, value, _ := strings.Cut(part, "=")
		n, err := strconv.Atoi(value)
		if err != nil || fields[name] == nil {
			return "", f, fmt.Errorf("%q: want status, delay_ms or percent, = and a number", part)
		}
		*fields[name] = n
	}
	return tenant, f, nil
}

// run serves until ctx ends.
func run(ctx context.Context, args []string, stderr io.Writer) error {
	c, err := parse(args, stderr)
	if err != nil {
		return err
	}
	app, err := statsapp.New(statsapp.Options{Protocol: statsapp.Protocol(c.protocol)})
	if err != nil {
		return err
	}
	defer func() { _ = app.Close() }() // nothing is left to do about a failed close
	if c.tenants != "" {
		if err := app.Seed(c.seed, strings.Split(c.tenants, ","), c.events); err != nil {
			return err
		}
	}
	for tenant, f := range c.faults {
		if err := app.SetFault(tenant, f); err != nil {
			return fmt.Errorf("statsapp: --fault %s: %w", tenant, err)
		}
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", c.listen)
	if err != nil {
		return fmt.Errorf("statsapp: --listen %s: %w; choose another address, or port 0 for a free one", c.listen, err)
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	log.Info("listening", "addr", ln.Addr().String(), "protocol", c.protocol)

	served := make(chan error, 1)
	go func() { served <- app.Serve(ln) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	if err := app.Shutdown(grace); err != nil {
		log.Warn("requests cut off", "after", drain)
		return app.Close()
	}
	log.Info("stopped")
	return nil
}
