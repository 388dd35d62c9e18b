package main

import (
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/quadnine/quadnine/examples/statsapp"
)

// The demo's data: the same in every app, so that any of them gives the same
// number.
const (
	demoSeed   = 9999
	demoEvents = 2000 // for each tenant
)

var (
	demoTenants = []string{"t-1", "t-2", "t-3", "t-4", "t-5", "t-6", "t-7", "t-8"}
	demoMetrics = []string{"pv", "uv", "ratio", "avg_duration"}
)

// demoApp is one statistics service on a socket.
type demoApp struct {
	addr string
	app  *statsapp.App
	wg   sync.WaitGroup
}

func startDemoApp(ctx context.Context, addr string) (*demoApp, error) {
	app, err := statsapp.New(statsapp.Options{})
	if err != nil {
		return nil, err
	}
	if err := app.Seed(demoSeed, demoTenants, demoEvents); err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("demo: start a statistics service: %w", err)
	}
	a := &demoApp{addr: ln.Addr().String(), app: app}
	a.wg.Go(func() { _ = app.Serve(ln) }) // ends with kill
	return a, nil
}

// kill ends the service as kill -9 would: connections break.
func (a *demoApp) kill() {
	_ = a.app.Close()
	a.wg.Wait()
}
