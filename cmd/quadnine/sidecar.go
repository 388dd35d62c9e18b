package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/quadnine/quadnine/console"
	"github.com/quadnine/quadnine/proxy"
	"github.com/quadnine/quadnine/proxy/shard"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// sidecarConfig is what a sidecar needs beyond its snapshot.
type sidecarConfig struct {
	snap          *snapshot.Snapshot
	listen, admin string
	pprof         bool
	shards        int
	driver        shard.Driver
	ceilings      ceilingFlags
	drain         time.Duration
	level         slog.Level
	logFormat     string
	logTo         io.Writer
	onTransition  func(proxy.Transition)
	models        modelsConfig
	managed       managedConfig                  // with a bootstrap: snap is nil then
	onRouted      func(version string, at int64) // measurement only
}

// sidecar is one running sidecar: data plane, admin port, telemetry.
type sidecar struct {
	log      *slog.Logger
	tel      *telemetry.Telemetry
	proxy    *proxy.Server
	console  *console.Server
	models   *models       // nil without --models and --model-bucket
	managed  *managed      // nil without a bootstrap
	listener net.Listener  // nil with a bootstrap: the data plane opens its own
	drain    time.Duration // how long callers may take to leave
	quit     chan struct{} // closed by /quitquitquit
	started  time.Time
	failed   chan error // the data plane's accept loop ended by itself

	cancel   context.CancelFunc
	unfollow func() // ends the management stream; nil before it begins
	wg       sync.WaitGroup
}

// maxShards is enough for a sidecar: one loop moves several hundred thousand
// requests a second, and each further one costs connections to every endpoint.
const maxShards = 2

// loops returns how many shards to run when n is what was asked for, and leaves
// one more thread to the collector, the console and the dialers.
func loops(n int) int {
	procs := runtime.GOMAXPROCS(0) // respects the cgroup's CPU quota
	if n <= 0 {
		n = min(max(procs-1, 1), maxShards)
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(n + 1) // also on fewer CPUs: a loop that sleeps in the kernel keeps its own only while another is free
	}
	return n
}

// startSidecar opens the ports and starts everything. On an error nothing is
// left running.
func startSidecar(ctx context.Context, cfg sidecarConfig) (_ *sidecar, err error) {
	s := &sidecar{started: time.Now(), failed: make(chan error, 1), quit: make(chan struct{}), drain: cfg.drain}
	s.tel, err = telemetry.Setup(ctx, telemetry.Options{
		LogWriter: cfg.logTo, LogFormat: cfg.logFormat, LogLevel: cfg.level, Version: version(),
	})
	if err != nil {
		if errors.Is(err, telemetry.ErrOption) {
			return nil, usage(err)
		}
		return nil, err
	}
	s.log = s.tel.Logger
	ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop(0))
		}
	}()
	snap := cfg.snap
	if snap != nil {
		var lc net.ListenConfig
		if s.listener, err = lc.Listen(ctx, "tcp", cfg.listen); err != nil {
			return nil, fmt.Errorf("listen: %w: is another program on that port? choose another with --listen, or port 0 for any free one", err)
		}
	} else {
		snap = new(snapshot.Snapshot)
	}
	o := proxy.Options{
		Snapshot: snap, Registry: s.tel.Registry, Tracer: s.tel.Tracer, Log: s.log,
		Shards: loops(cfg.shards), Driver: cfg.driver, OnTransition: s.transition(cfg.onTransition), OnRouted: cfg.onRouted,
	}
	if cfg.managed.boot != nil {
		o.Service = cfg.managed.boot.Node.GetCluster()
	}
	if o.Limits, err = cfg.ceilings.limits(cfg.managed.boot, s.log); err != nil {
		return nil, err
	}
	if cfg.models.dir != "" || cfg.models.bucket.url != "" {
		s.models = newModels(s.log)
		s.models.instrument(s.tel)
		o.Models = s.models
	}
	if s.proxy, err = proxy.New(o); err != nil {
		return nil, err
	}
	if s.models != nil {
		if cfg.managed.boot != nil {
			cfg.models.judge.node = cfg.managed.boot.Node.GetId()
		}
		if err := s.models.open(ctx, cfg.models, s.proxy.Now); err != nil {
			return nil, err
		}
		s.wg.Go(func() { s.models.follow(ctx) })
	}
	if cfg.managed.boot != nil {
		if s.managed, err = startManaged(ctx, cfg.managed, s.proxy, s.tel.Registry, s.log); err != nil {
			return nil, err
		}
	}
	mux := http.NewServeMux()
	mux.Handle("/", console.New(s.views()))
	if cfg.pprof {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	}
	if s.console, err = console.Listen(ctx, cfg.admin, mux, s.log); err != nil {
		return nil, err
	}
	if s.listener != nil {
		s.wg.Go(func() {
			if err := s.proxy.Serve(s.listener); !errors.Is(err, proxy.ErrClosed) {
				s.failed <- err
			}
		})
		s.wg.Go(func() { s.greet(ctx, snap) })
	}
	if s.managed != nil {
		follow, cancel := context.WithCancel(ctx)
		var following sync.WaitGroup
		s.unfollow = func() { cancel(); following.Wait() }
		following.Go(func() { s.managed.follow(follow, s.log) })
	}
	s.wg.Go(func() { s.proxy.Tidy(ctx) })
	return s, nil
}

// Addr returns where requests are taken.
func (s *sidecar) Addr() string {
	if s.listener == nil {
		return ""
	}
	return s.listener.Addr().String()
}

// AdminAddr returns where the console listens.
func (s *sidecar) AdminAddr() string { return s.console.Addr().String() }

// transition logs every breaker's change: rare, and what an operator looks for.
func (s *sidecar) transition(also func(proxy.Transition)) func(proxy.Transition) {
	return func(t proxy.Transition) {
		if t.Cluster != "" {
			s.log.Warn("cluster breaker", "cluster", t.Cluster, "state", t.State)
		} else {
			s.log.Warn("breaker", "tenant", t.Key.Tenant, "metric", t.Key.Metric, "state", t.State)
		}
		if also != nil {
			also(t)
		}
	}
}

// greet says at once when an upstream cannot be reached: the sidecar serves all
// the same, for the app may still be starting.
func (s *sidecar) greet(ctx context.Context, snap *snapshot.Snapshot) {
	d := net.Dialer{Timeout: 2 * time.Second}
	for _, e := range snap.Clusters[snapshot.LocalCluster].Assignment.Endpoints {
		nc, err := d.DialContext(ctx, "tcp", e.Address)
		if err == nil {
			_ = nc.Close() // only its existence was asked
			continue
		}
		if ctx.Err() != nil {
			return
		}
		hint := "requests are answered 503 (or stale) until it listens; is the app started, and on that port?"
		if _, ok := errors.AsType[*net.DNSError](err); ok {
			hint = "requests are answered 503 (or stale) until the name resolves; check the host in --upstream"
		}
		s.log.Warn("upstream cannot be reached", "upstream", e.Address, "err", err, "hint", hint)
	}
}

// stop drains for at most drain, then ends everything that was started.
func (s *sidecar) stop(drain time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	var errs []error
	if s.unfollow != nil {
		s.unfollow() // what is configured from here on is for whoever comes next
	}
	if s.proxy != nil {
		if drain > 0 {
			s.log.Info("draining", "in_flight", s.proxy.Active(), "at_most", drain)
			if err := s.proxy.Drain(ctx); err != nil {
				errs = append(errs, fmt.Errorf("drain: %d requests were still running after %v", s.proxy.Active(), drain))
			}
		}
		s.proxy.Close()
	} else if s.listener != nil {
		errs = append(errs, s.listener.Close())
	}
	if s.models != nil {
		errs = append(errs, s.models.close())
	}
	s.cancel()
	late, cancelLate := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancelLate()
	if s.console != nil {
		errs = append(errs, s.console.Shutdown(late))
	}
	s.wg.Wait()
	if s.managed != nil {
		errs = append(errs, s.managed.close())
	}
	return errors.Join(append(errs, s.tel.Shutdown(late))...)
}
