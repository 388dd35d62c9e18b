package contest

import (
	"context"
	"errors"
	"fmt"
	"time"

	loadgen "github.com/quadnine/quadnine/bench/load"
	"github.com/quadnine/quadnine/bench/load/driver"
	"github.com/quadnine/quadnine/bench/proc"
	"github.com/quadnine/quadnine/bench/rivals"
)

// load is what a case puts on a proxy.
type load interface {
	// measure puts it on one entrant for d.
	measure(ctx context.Context, s *stand, e *entrant, d time.Duration) (Sample, error)
	// start puts it on one entrant without measuring, until the process is
	// stopped, for a profile; nil: the case has none.
	start(ctx context.Context, s *stand, e *entrant, d time.Duration) (*proc.Proc, error)
}

// h2load is a closed loop with static headers.
type h2load struct {
	clients, streams int
	tls, http1       bool
}

// Bounds of one run of h2load: too few requests would be all start, and one
// that hangs ends the case.
const (
	fewest    = 2_000
	runWithin = 2 * time.Minute
)

func (l h2load) run(s *stand, e *entrant, n int) loadgen.Run {
	r := loadgen.Run{Addr: e.run.Addr, Requests: n, Clients: l.clients, Streams: l.streams, TLS: l.tls, HTTP1: l.http1, CPU: s.RestCPU}
	if l.http1 {
		r.Paths = []string{rivals.StatsPath}
		return r
	}
	for i := range 64 { // 16 tenants, 64 metrics: keyed state does real work
		r.Paths = append(r.Paths, fmt.Sprintf(rivals.QueryPath+"?tenant=t-%03d&metric=m-%03d", i%16, i))
	}
	return r
}

// measure warms up, learns from that how many requests take d, and measures
// those.
func (l h2load) measure(ctx context.Context, s *stand, e *entrant, d time.Duration) (Sample, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, runWithin, errors.New("h2load took more than 2 minutes"))
	defer cancel()
	warm, err := l.run(s, e, fewest).Do(ctx)
	if err != nil {
		return Sample{}, err
	}
	n := max(fewest, int(warm.PerSecond*d.Seconds()))
	var res loadgen.Result
	proxy, _, err := s.used(e, func() (err error) {
		res, err = l.run(s, e, n).Do(ctx)
		return err
	})
	if err != nil {
		return Sample{}, err
	}
	out := Sample{Requests: n, CPU: proxy, PerSecond: res.PerSecond}
	out.RSS, err = e.run.RSS()
	return out, err
}

func (l h2load) start(_ context.Context, s *stand, e *entrant, d time.Duration) (*proc.Proc, error) {
	return l.run(s, e, int(400_000*d.Seconds())).Start() // more than any proxy answers meanwhile
}

// drive is the driver's load.
type drive struct{ plan driver.Plan }

// drives makes the plan for an entrant.
func (l drive) drives(s *stand, e *entrant, d time.Duration) driver.Plan {
	p := l.plan
	p.Addr, p.Duration, p.Warm, p.Body = e.run.Addr, d, min(d/4, 300*time.Millisecond), s.spec.body
	if p.Message > 0 {
		p.Body = 0
	}
	if e.tune != nil {
		e.tune(&p)
	}
	return p
}

func (l drive) measure(ctx context.Context, s *stand, e *entrant, d time.Duration) (Sample, error) {
	p := l.drives(s, e, d)
	run, err := driver.Start(ctx, s.Programs.Self, s.RestCPU, p)
	if err != nil {
		return Sample{}, err
	}
	defer run.Stop()
	var res driver.Result
	proxy, backend, err := s.used(e, func() (err error) {
		res, err = run.Go(ctx)
		return err
	})
	if err != nil {
		return Sample{}, err
	}
	out := Sample{Requests: res.Done, CPU: proxy, PerSecond: res.PerSecond, P50: res.Latency.P50, P99: res.Latency.P99}
	out.Rate = p.Rate
	out.Rest = 100 * float64(res.ClientCPU+backend) / float64(res.Took)
	if p.Message > 0 {
		out.P50, out.P99 = 0, 0 // a message may wait for the four before it
	}
	// A proxy is late too when its replies come at the end: the last requests
	// must not have taken a tenth of the run more.
	out.Behind = res.Overloaded || p.Rate > 0 && res.PerSecond < 0.9*p.Rate
	return out, nil
}

// used returns what the proxy and the backend used while do ran; 0 for one that
// there is not.
func (s *stand) used(e *entrant, do func() error) (proxy, backend time.Duration, err error) {
	read := func() (proxy, backend time.Duration, err error) {
		if e.run.Proc != nil {
			proxy, err = e.run.CPU()
		}
		if s.place.To != nil && err == nil {
			backend, err = s.place.To.CPU()
		}
		return proxy, backend, err
	}
	p, b, err := read()
	if err != nil {
		return 0, 0, err
	}
	if err := do(); err != nil {
		return 0, 0, err
	}
	proxy, backend, err = read()
	return proxy - p, backend - b, err
}

func (l drive) start(ctx context.Context, s *stand, e *entrant, d time.Duration) (*proc.Proc, error) {
	p := l.drives(s, e, d)
	run, err := driver.Start(ctx, s.Programs.Self, s.RestCPU, p)
	if err != nil {
		return nil, err
	}
	if err := run.Begin(); err != nil {
		run.Stop()
		return nil, err
	}
	return run.Proc, nil
}
