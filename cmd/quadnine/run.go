package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/quadnine/quadnine/console"
	"github.com/quadnine/quadnine/snapshot"
)

// newRun is the sidecar itself.
func newRun() *cobra.Command {
	var (
		src        snapshot.Source
		cfg        sidecarConfig
		configFile string
		logLevel   string
	)
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the sidecar in front of an upstream",
		Long: `Run the sidecar: HTTP/2 (prior knowledge) and HTTP/1.1 on one port, forwarded to
the upstream with a circuit breaker per tenant and metric. Below --degrade paths
replies are stored and told, marked as stale, while the upstream is unwell;
without --degrade nothing is stored.

An upstream URL's scheme is the protocol: http:// probes HTTP/2 with prior
knowledge, falls back to HTTP/1.1 and remembers; h2c:// and h1:// force one.

With OTEL_EXPORTER_OTLP_ENDPOINT set, traces, metrics and logs are exported over
OTLP (http/protobuf).`,
		Example: `  quadnine run --listen 127.0.0.1:8080 --upstream http://127.0.0.1:9090
  quadnine run --listen :8080 --upstream h2c://127.0.0.1:9090 --degrade /api/v2/metrics/query --config quadnine.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cfg.level.UnmarshalText([]byte(logLevel)); err != nil {
				return usage(fmt.Errorf("--log-level %q: use debug, info, warn or error", logLevel))
			}
			if configFile != "" {
				data, err := os.ReadFile(configFile)
				if err != nil {
					return usage(fmt.Errorf("--config: %w", err))
				}
				if src.File, err = snapshot.Parse(configFile, data); err != nil {
					return usage(err)
				}
			}
			snap, err := snapshot.Compile(src)
			if err != nil {
				return usage(err)
			}
			cfg.snap, cfg.logTo = snap, cmd.ErrOrStderr()
			s, err := startSidecar(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			s.log.Info("ready", "listen", s.Addr(), "admin", s.AdminAddr(), "role", snap.Listener.Role.String(),
				"upstreams", src.Upstreams, "degrade", src.Degrade)
			select {
			case <-cmd.Context().Done():
			case err := <-s.failed:
				return errors.Join(err, s.stop(cfg.drain))
			}
			return s.stop(cfg.drain)
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&cfg.listen, "listen", "127.0.0.1:8080", "address to take requests on; port 0 picks a free one")
	f.StringArrayVar(&src.Upstreams, "upstream", nil, "URL of the service (http://, h2c:// or h1://); repeat for several endpoints")
	f.StringArrayVar(&src.Degrade, "degrade", nil, "path prefix whose replies are stored and told when the upstream is unwell; repeatable")
	f.StringVar(&src.Role, "role", "inbound", "inbound: in front of the local app; outbound: balance over all upstreams")
	f.StringArrayVar(&src.Peers, "peer", nil, "URL of another sidecar, asked when the local app is unwell; repeatable, needs --trust")
	f.StringArrayVar(&src.Trust, "trust", nil, "CIDR of callers whose x-quadnine-hop is believed; repeatable")
	f.StringVar(&configFile, "config", "", "quadnine.yaml: tenantBreaker and responseCache")
	f.StringVar(&cfg.models.dir, "models", "", "directory that model versions are dropped into; see quadnine model --help")
	f.StringVar(&cfg.models.store, "model-store", "", "private directory for model versions (default: in the user's cache directory)")
	f.StringVar(&cfg.models.ingest, "model-ingest", "copy", "copy: into the store while hashing; inplace: map drops where they are (read-only mounts)")
	f.StringArrayVar(&cfg.models.keys, "model-key", nil, "public key file; when given, every drop must be signed by one of them; repeatable")
	f.DurationVar(&src.Timeout, "timeout", 15*time.Second, "from the complete request to the response's head")
	f.DurationVar(&src.Idle, "idle-timeout", 5*time.Minute, "without progress of either body")
	f.StringVar(&cfg.admin, "admin", console.DefaultAddr, "admin address; port 0 picks a free one")
	f.BoolVar(&cfg.pprof, "admin-pprof", false, "serve /debug/pprof on the admin address")
	f.IntVar(&cfg.shards, "shards", 0, "event loops; 0: one or two, by the CPUs this process may use")
	f.DurationVar(&cfg.drain, "drain-time", 30*time.Second, "after SIGTERM: how long running requests may take")
	f.StringVar(&logLevel, "log-level", slog.LevelInfo.String(), "debug, info, warn or error")
	f.StringVar(&cfg.logFormat, "log-format", "text", "text or json")
	return c
}
