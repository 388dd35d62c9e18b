package main

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/spf13/pflag"

	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/loader/share"
	"github.com/quadnine/quadnine/telemetry"
)

// shareFlags are what the command line says of processes that share models.
type shareFlags struct {
	socket  string // empty: none do
	clients int
	ready   time.Duration
	reclaim time.Duration // 0: as for who reads here
	sealed  string        // a size
}

func (f *shareFlags) register(set *pflag.FlagSet) {
	set.StringVar(&f.socket, "model-share", "", "Unix socket through which other processes map model versions; see docs/shared.md")
	set.IntVar(&f.clients, "model-share-clients", share.DefaultClients, "how many processes may share models at a time")
	set.DurationVar(&f.ready, "model-share-ready", share.DefaultReady, "how long a process may take to map and check a version before it is cut off; canaries wait for it")
	set.StringVar(&f.sealed, "model-share-sealed", "4GiB", "memory for sealed copies, for processes whose user could write the store's files; 0: refuse these")
}

// options returns what was said, checked.
func (f *shareFlags) options() (share.Options, error) {
	o := share.Options{Socket: f.socket, Clients: f.clients, Ready: f.ready, Reclaim: f.reclaim, Sealed: share.DefaultSealed}
	if f.sealed != "" {
		n, err := parseBytes(f.sealed)
		if err != nil {
			return o, usage(fmt.Errorf("--model-share-sealed: %w", err))
		}
		o.Sealed = n
	}
	if f.clients <= 0 {
		return o, usage(fmt.Errorf("--model-share-clients: is %d: want more than 0", f.clients))
	}
	if f.ready <= 0 {
		return o, usage(fmt.Errorf("--model-share-ready: is %v: want more than 0", f.ready))
	}
	return o, nil
}

// listen takes the socket.
func (f *shareFlags) listen(ctx context.Context) (*share.Server, error) {
	o, err := f.options()
	if err != nil {
		return nil, err
	}
	s, err := share.Listen(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("--model-share: %w", err)
	}
	return s, nil
}

// shared returns the events of processes that share models; nil when none do.
func (a *models) shared() <-chan loader.Event {
	if a.share == nil {
		return nil
	}
	return a.share.Events()
}

// count counts what an event of theirs says.
func (a *models) count(e *loader.Event) {
	switch e.Kind {
	case loader.EventDetached:
		a.registry.Count(telemetry.ModelShareDetached, 1)
	case loader.EventHeld:
		a.registry.Count(telemetry.ModelShareRevoked, 1)
	}
}

// measureShared makes the server the source of r's gauges of shared models.
func (a *models) measureShared(r *telemetry.Registry) {
	if a.share == nil {
		return
	}
	each := func(value func(share.Status) float64) iter.Seq[telemetry.Sample] {
		return func(yield func(telemetry.Sample) bool) {
			for _, s := range a.share.Status() {
				if !yield(telemetry.Sample{Labels: []string{s.Model}, Value: value(s)}) {
					return
				}
			}
		}
	}
	r.Gauges(telemetry.ModelShareProcesses, each(func(s share.Status) float64 { return float64(s.Processes) }))
	r.Gauges(telemetry.ModelShareHeld, each(func(s share.Status) float64 { return float64(s.Held) }))
	r.Gauge(telemetry.ModelShareSealed, func() float64 { return float64(a.share.Sealed()) })
}
