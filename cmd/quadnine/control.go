package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"github.com/quadnine/quadnine/control"
	"github.com/quadnine/quadnine/policy"
)

// controlConfig is what `control` was told.
type controlConfig struct {
	dir, listen, admin string
	strict             bool
	tls                control.TLSFiles
	level, format      string
	drain              time.Duration
	veto               string
	share              float64
}

// newControl is the management server.
func newControl() *cobra.Command {
	var cfg controlConfig
	c := &cobra.Command{
		Use:   "control",
		Short: "Serve a directory of xDS resources to sidecars and Envoys",
		Long: `Serve a directory of xDS resources (YAML or JSON) over the aggregated stream,
incremental and state of the world. The directory is watched, compiled as a
sidecar would compile it, and taken as a whole or not at all. A version that a
node rejects is not sent to it again, nor to nodes that come later, until it
changes.

nodes/NAME below the directory holds what is different for the nodes whose id or
cluster is NAME, which may be a pattern such as web-*.

Sidecars that run with --model-pool put what canaries of models show into one
pool here: they are promoted, and blocked, on all of them together.`,
		Example: `  quadnine control --config resources/
  quadnine control --config resources/ --listen :18000 --tls-cert tls.crt --tls-key tls.key --tls-client-ca ca.crt`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cfg.run(cmd) },
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&cfg.dir, "config", "", "directory of resources (required)")
	f.StringVar(&cfg.listen, "listen", "127.0.0.1:18000", "address to serve gRPC on; port 0 picks a free one")
	f.StringVar(&cfg.admin, "admin", "127.0.0.1:18001", "admin address: /ready, /status, /config_dump, /metrics; port 0 picks a free one")
	f.StringVar(&cfg.tls.Cert, "tls-cert", "", "certificate file; without one the stream is plaintext")
	f.StringVar(&cfg.tls.Key, "tls-key", "", "its key file")
	f.StringVar(&cfg.tls.ClientCA, "tls-client-ca", "", "file of the authorities whose certificates nodes must have")
	f.BoolVar(&cfg.strict, "strict", false, "refuse what would be warned about: fields without effect, references that lead nowhere")
	f.StringVar(&cfg.veto, "veto-blocks-all", policy.SpreadNonFinite.String(), "vetoes of one sidecar that block a model version on all: non-finite, any or none; the others are weighed")
	f.Float64Var(&cfg.share, "pool-share", policy.DefaultPoolConfig().Share, "largest part of the evidence needed that one sidecar can give; 0.5: it takes two")
	f.DurationVar(&cfg.drain, "drain-time", 2*time.Second, "after SIGTERM: how long streams may take to end")
	f.StringVarP(&cfg.level, "log-level", "l", slog.LevelInfo.String(), "debug, info, warn or error")
	f.StringVar(&cfg.format, "log-format", "text", "text or json")
	return c
}

func (cfg *controlConfig) run(cmd *cobra.Command) error {
	log, err := cfg.logger(cmd)
	if err != nil {
		return err
	}
	if cfg.dir == "" {
		return usage(errors.New("--config: name a directory of resources"))
	}
	secured, err := cfg.tls.Config()
	if err != nil {
		return usage(fmt.Errorf("--tls-cert, --tls-key, --tls-client-ca: %w", err))
	}
	o := control.Options{Dir: cfg.dir, Strict: cfg.strict, Log: log}
	if o.Pool, err = cfg.pool(); err != nil {
		return usage(err)
	}
	s, err := control.Open(o)
	if err != nil {
		return usage(fmt.Errorf("--config %s: %w", cfg.dir, err))
	}
	var lc net.ListenConfig
	streams, err := lc.Listen(cmd.Context(), "tcp", cfg.listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	pages, err := lc.Listen(cmd.Context(), "tcp", cfg.admin)
	if err != nil {
		return fmt.Errorf("--admin: %w", errors.Join(err, streams.Close()))
	}
	log.Info("ready", "listen", streams.Addr().String(), "admin", pages.Addr().String(), "tls", secured != nil)
	return cfg.serve(cmd.Context(), s, streams, pages, secured)
}

// serve runs until ctx ends or something that it needs does.
func (cfg *controlConfig) serve(ctx context.Context, s *control.Server, streams, pages net.Listener, secured *tls.Config) error {
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g := grpc.NewServer(grpcOptions(secured)...)
	s.Register(following, g)
	healthv1.RegisterHealthServer(g, health.NewServer())
	web := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 3)
	var wg sync.WaitGroup
	wg.Go(func() { failed <- s.Follow(following) })
	wg.Go(func() { failed <- g.Serve(streams) })
	wg.Go(func() {
		if err := web.Serve(pages); !errors.Is(err, http.ErrServerClosed) {
			failed <- err
		}
	})
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	stop() // ends the streams
	ended := time.AfterFunc(cfg.drain, g.Stop)
	g.GracefulStop()
	ended.Stop()
	err = errors.Join(err, web.Close())
	wg.Wait()
	return err
}

// grpcOptions are a management server's: nodes send pings at will, and the names
// and versions of all that they have when they come again.
func grpcOptions(secured *tls.Config) []grpc.ServerOption {
	out := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(64 << 20),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	}
	if secured != nil {
		out = append(out, grpc.Creds(credentials.NewTLS(secured)))
	}
	return out
}

// pool returns what weighs the sidecars' evidence.
func (cfg *controlConfig) pool() (*control.Pool, error) {
	spread, err := policy.ParseSpread(cfg.veto)
	if err != nil {
		return nil, fmt.Errorf("--veto-blocks-all: %w", err)
	}
	p, err := control.NewPool(policy.PoolConfig{Spread: spread, Share: cfg.share})
	if err != nil {
		return nil, fmt.Errorf("--pool-share: %w", err)
	}
	return p, nil
}

func (cfg *controlConfig) logger(cmd *cobra.Command) (*slog.Logger, error) {
	level, err := logLevel(cfg.level)
	if err != nil {
		return nil, err
	}
	o := &slog.HandlerOptions{Level: level}
	switch cfg.format {
	case "text":
		return slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), o)), nil
	}
	return nil, usage(fmt.Errorf("--log-format %q: use text or json", cfg.format))
}
