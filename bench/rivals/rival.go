package rivals

import (
	"context"
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"text/template"

	"github.com/quadnine/quadnine/bench/proc"
)

//go:embed *.conf *.cfg *.yaml *.caddyfile
var configs embed.FS

// The names in the tables that others refer to.
const (
	NameFloor    = "TCP pass-through"
	NameQuadnine = "quadnine"
	NameDegrade  = "quadnine --degrade"
	NameHAProxy  = "HAProxy"
	NameNginx    = "nginx"
	NameH2O      = "h2o"
	NameEnvoy    = "Envoy full"
)

// Rival is one proxy or server under comparison.
type Rival struct {
	Name string // as it stands in the table
	Note string // what is special about it, for the table's foot

	// Cannot says why the rival cannot take part, by the name of a mode or of a
	// case.
	Cannot map[string]string

	start func(at Place) (*Running, error)
}

// Running is a started rival.
type Running struct {
	*proc.Proc

	Addr  string // where it listens
	Admin string // quadnine's admin address; empty for the others

	model bool // it brings a model version in
}

// Place is where a rival is started, and for what.
type Place struct {
	Mode        Mode
	Dir         string   // scratch folder, its own
	To          *Backend // where it forwards to
	CPU         int      // the CPU it is bound to; -1: none
	Connections int      // it must be able to take; 0: 1,024
	Programs    Programs
	Certs       Certs
}

// Programs are the binaries that are built, not installed.
type Programs struct {
	Quadnine string
	Reverse  string // cmd/reverseproxy
	Stats    string // cmd/stats
	Self     string // whose main serves as the backend
	Drops    string // a folder with a model version, for quadnine; empty: none
}

// Places for connections, unless a case needs more.
const someConnections = 1024

// All returns every proxy: quadnine's first, the floor last.
func All() []Rival {
	return []Rival{quadnine, quadnineDegrades, haproxy, nginx, h2o, caddy, envoyRouter, envoyFull, reverse, tcp}
}

// Tools returns the programs that All and the backend need.
func Tools() []string {
	return []string{"taskset", "h2load", "haproxy", "nginx", "h2o", "caddy", "envoy", "nghttpd"}
}

// Start starts r, waits until it accepts connections and checks that it passes
// a query to the backend and the backend's body back.
func (r Rival) Start(ctx context.Context, at Place) (*Running, error) {
	if at.Connections == 0 {
		at.Connections = someConnections
	}
	run, err := r.start(at)
	if err != nil {
		return nil, fmt.Errorf("rivals: start %s: %w", r.Name, err)
	}
	if err := run.AwaitTCP(ctx, run.Addr); err != nil {
		run.Stop()
		return nil, fmt.Errorf("rivals: start %s: %w", r.Name, err)
	}
	if run.model {
		if err := run.awaitModel(ctx); err != nil {
			run.Stop()
			return nil, fmt.Errorf("rivals: start %s: %w", r.Name, err)
		}
	}
	if err := check(ctx, at, run.Addr); err != nil {
		run.Stop()
		return nil, fmt.Errorf("rivals: %s: %w\n%s", r.Name, err, run.Output())
	}
	return run, nil
}

// options returns how a rival's process is started at this place.
func (at Place) options(more ...proc.Option) []proc.Option {
	if at.CPU >= 0 {
		more = append(more, proc.Pin(at.CPU))
	}
	return more
}

// Sockets is how many a rival must be able to hold: the callers', those to the
// backend, and a quarter more, because nginx drains idle ones when few are left.
func (at Place) Sockets() int { return at.Connections*5/4 + 640 }

// program starts a rival that is a program with a configuration file: its name,
// the file's, whether it speaks only HTTP/1.1 upstream and has more switched on,
// and its arguments by the file's path.
func (at Place) program(name, file string, h1, extra bool, args func(path string) []string, opts ...proc.Option) (*Running, error) {
	bin, err := proc.Find(name)
	if err != nil {
		return nil, err
	}
	addrs, err := proc.Addrs(2)
	if err != nil {
		return nil, err
	}
	c := at.config(addrs[0], addrs[1], h1)
	c.Extra = extra
	path, err := render(at.Dir, file, c)
	if err != nil {
		return nil, err
	}
	p, err := proc.Start(bin, args(path), at.options(opts...)...)
	if err != nil {
		return nil, err
	}
	return &Running{Proc: p, Addr: addrs[0]}, nil
}

// render writes the named configuration, filled with data, into dir and returns
// its path.
func render(dir, name string, data any) (string, error) {
	t, err := template.New(name).Option("missingkey=error").ParseFS(configs, name)
	if err != nil {
		return "", fmt.Errorf("rivals: %s: %w", name, err)
	}
	path := filepath.Join(dir, name)
	f, err := os.Create(path)
	if err != nil {
		return "", fmt.Errorf("rivals: %w", err)
	}
	if err := t.Execute(f, data); err != nil {
		_ = f.Close() // the first error is the one to report
		return "", fmt.Errorf("rivals: %s: %w", name, err)
	}
	if err := f.Close(); err != nil {
		return "", fmt.Errorf("rivals: %w", err)
	}
	return path, nil
}

// port returns the port of a host:port address, 0 without one.
func port(addr string) int { return proc.Port(addr) }
