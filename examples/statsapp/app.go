package statsapp

import (
	"cmp"
	"fmt"
	"net/http"

	"google.golang.org/grpc"
)

// Options bound an App. The zero value is usable: a zero field takes the
// default that is named beside it.
type Options struct {
	Protocol Protocol // what Serve speaks; default Both

	MaxBody    int64 // bytes of a request body of events or echo; default 32 MiB
	MaxLine    int   // bytes of one event's line; default 64 KiB
	MaxTenants int   // tenants kept and counted by name; default 1024
	MaxEvents  int   // events kept for each tenant; default 1,000,000
	MaxNames   int   // event names, and custom metrics, of each tenant; default 256
}

func (o *Options) fill() {
	o.MaxBody = cmp.Or(o.MaxBody, 32<<20)
	o.MaxLine = cmp.Or(o.MaxLine, 64<<10)
	o.MaxTenants = cmp.Or(o.MaxTenants, 1024)
	o.MaxEvents = cmp.Or(o.MaxEvents, 1_000_000)
	o.MaxNames = cmp.Or(o.MaxNames, 256)
}

// App is one statistics service.
type App struct {
	opt      Options
	store    *store
	schemas  schemas
	faults   *faults
	counters *counters
	grpc     *grpc.Server
	handler  http.Handler
	server   *http.Server
}

// New returns a service without data or faults that listens nowhere yet. It
// fails only on an unknown protocol.
func New(opt Options) (*App, error) {
	opt.fill()
	protocols, err := opt.Protocol.protocols()
	if err != nil {
		return nil, err
	}
	schemas, err := compileSchemas()
	if err != nil {
		return nil, fmt.Errorf("statsapp: embedded schemas: %w", err)
	}
	a := &App{
		opt:      opt,
		store:    newStore(opt),
		schemas:  schemas,
		faults:   newFaults(opt.MaxTenants),
		counters: newCounters(opt.MaxTenants),
	}
	a.grpc = a.newGRPC()
	a.handler = a.routes()
	a.server = newServer(a.handler, protocols)
	return a, nil
}

// Handler returns the whole service, gRPC included (over HTTP/2 only). It may
// be mounted in a server that is not the App's own.
func (a *App) Handler() http.Handler { return a.handler }

// Requests returns how many queries, batches of events, echoes and gRPC
// messages named tenant, answered or not. Tenants past Options.MaxTenants are
// counted together and return 0.
func (a *App) Requests(tenant string) int64 { return a.counters.of(tenant) }
