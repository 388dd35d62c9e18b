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

//go:embed *.conf *.cfg *.yaml
var configs embed.FS

// Rival is one proxy under comparison.
type Rival struct {
	Name string // as it stands in the table
	Note string // what is special about it, for the table's foot

	start func(at Place) (*Running, error)
}

// Running is a started rival.
type Running struct {
	*proc.Proc

	Addr  string // where it listens, HTTP/2 with prior knowledge
	Admin string // quadnine's admin address; empty for the others
}

// Place is where a rival is started.
type Place struct {
	Dir      string // scratch folder, its own
	Upstream string // the backend's HTTP/2 address
	HTTP1    string // the backend's HTTP/1.1 address
	CPU      int    // the CPU it is bound to; -1: none
	Quadnine string // the quadnine binary
	Reverse  string // the binary of cmd/reverseproxy
}

// All returns every rival, quadnine first and the floor last.
func All() []Rival {
	return []Rival{quadnine, quadnineStoresNothing, haproxy, nginx, envoy, reverse, tcp}
}

// Tools returns the programs that All and the backend need.
func Tools() []string { return []string{"taskset", "h2load", "haproxy", "nginx", "envoy", "nghttpd"} }

// Start starts r, waits until it accepts connections and checks that it passes
// a query to the backend and the backend's body back.
func (r Rival) Start(ctx context.Context, at Place) (*Running, error) {
	run, err := r.start(at)
	if err != nil {
		return nil, fmt.Errorf("rivals: start %s: %w", r.Name, err)
	}
	if err := run.AwaitTCP(ctx, run.Addr); err != nil {
		run.Stop()
		return nil, fmt.Errorf("rivals: start %s: %w", r.Name, err)
	}
	if err := check(ctx, run.Addr); err != nil {
		run.Stop()
		return nil, fmt.Errorf("rivals: %s: %w\n%s", r.Name, err, run.Output())
	}
	return run, nil
}

// options returns how a rival's process is started at this place.
func (at Place) options() []proc.Option {
	if at.CPU < 0 {
		return nil
	}
	return []proc.Option{proc.Pin(at.CPU)}
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
