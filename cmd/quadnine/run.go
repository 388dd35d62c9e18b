package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/quadnine/quadnine/console"
	"github.com/quadnine/quadnine/loader"
	"github.com/quadnine/quadnine/proxy/shard"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/xds/bootstrap"
)

// newRun is the sidecar itself.
func newRun() *cobra.Command {
	var (
		src        snapshot.Source
		cfg        sidecarConfig
		configFile string
		level      string
		driver     string
		envoy      envoyFlags
	)
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the sidecar in front of an upstream",
		Long: `Run the sidecar: HTTP/2 (prior knowledge) and HTTP/1.1 on one port, forwarded to
the upstream with a circuit breaker per tenant and metric. Below --degrade paths
replies are stored and told, marked as stale, while the upstream is unwell;
without --degrade nothing is stored.

An upstream URL's scheme is the protocol: http:// probes HTTP/2 with prior
knowledge, falls back to HTTP/1.1 and remembers; h2c:// and h1:// force one;
https:// is TLS, which negotiates it. With --tls-cert and --tls-key callers speak
TLS, too. Certificates are read anew when their files change.

With OTEL_EXPORTER_OTLP_ENDPOINT set, traces, metrics and logs are exported over
OTLP (http/protobuf).`,
		Example: `  quadnine run --listen 127.0.0.1:8080 --upstream http://127.0.0.1:9090
  quadnine run --listen :8080 --upstream h2c://127.0.0.1:9090 --degrade /api/v2/metrics/query --config quadnine.yaml`,
		Args: func(cmd *cobra.Command, args []string) error { return cobra.NoArgs(cmd, envoy.before(cmd, args)) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if cfg.level, err = logLevel(level); err != nil {
				return err
			}
			if cfg.driver, err = shard.ParseDriver(driver); err != nil {
				return usage(fmt.Errorf("--driver: %w", err))
			}
			if err := envoy.apply(&cfg); err != nil {
				return err
			}
			if src.File, err = readConfig(cmd, configFile, envoy.managed()); err != nil {
				return err
			}
			at, err := setFromFile(cmd.Flags(), configFile, src.File.Models)
			if err != nil {
				return err
			}
			if err := cfg.models.check(); err != nil {
				return located(err, at)
			}
			if err := checkNeeds(cmd.Flags()); err != nil {
				return located(err, at)
			}
			if envoy.hotRestart {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), "disabled")
				return err
			}
			var closeLog func()
			if cfg.logTo, closeLog, err = envoy.openLog(cmd.ErrOrStderr()); err != nil {
				return err
			}
			defer closeLog()
			if envoy.managed() {
				return runManaged(cmd, &cfg, &envoy)
			}
			snap, err := snapshot.Compile(src)
			if err != nil {
				return usage(err)
			}
			if err := checkTLS(snap); err != nil {
				return usage(err)
			}
			cfg.snap = snap
			s, err := startSidecar(cmd.Context(), cfg)
			if err != nil {
				return located(err, at)
			}
			envoy.warn(s.log)
			s.log.Info("ready", "listen", s.Addr(), "admin", s.AdminAddr(), "role", snap.Listeners[0].Role.String(),
				"upstreams", src.Upstreams, "degrade", src.Degrade)
			select {
			case <-cmd.Context().Done():
			case <-s.quit:
			case err := <-s.failed:
				return errors.Join(err, s.stop(cfg.drain))
			}
			return s.stop(cfg.drain)
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&cfg.listen, "listen", "127.0.0.1:8080", "address to take requests on; port 0 picks a free one")
	f.StringArrayVar(&src.Upstreams, "upstream", nil, "URL of the service (http://, h2c://, h1:// or https://); repeat for several endpoints")
	registerTLS(f, &src.TLS)
	f.StringArrayVar(&src.Degrade, "degrade", nil, "path prefix whose replies are stored and told when the upstream is unwell; repeatable")
	f.StringSliceVar(&src.Upgrades, "upgrade", []string{"websocket"}, "protocol that callers may change to, by Upgrade or by extended CONNECT; repeatable; none: refuse all")
	f.StringVar(&src.Role, "role", "inbound", "inbound: in front of the local app; outbound: balance over all upstreams")
	f.StringArrayVar(&src.Peers, "peer", nil, "URL of another sidecar, asked when the local app is unwell; repeatable, needs --trust")
	f.StringArrayVar(&src.Trust, "trust", nil, "CIDR of callers whose x-quadnine-hop is believed; repeatable")
	f.StringVar(&configFile, "config", "", "quadnine.yaml: tenantBreaker, responseCache and models")
	f.StringVar(&cfg.models.dir, "models", "", "directory that model versions are dropped into; see quadnine model --help")
	f.StringVar(&cfg.models.store, "model-store", "", "private directory for model versions (default: in the user's cache directory)")
	f.StringVar(&cfg.models.ingest, "model-ingest", "copy", "copy: into the store while hashing; inplace: map drops where they are (read-only mounts)")
	f.StringArrayVar(&cfg.models.keys, "model-key", nil, "public key file; when given, every drop must be signed by one of them, or of --model-trust; repeatable")
	f.StringArrayVar(&cfg.models.trust, "model-trust", nil, "public key file (PEM, ECDSA P-256) for the model.sig that OpenSSF Model Signing writes into a drop; when given, every drop must be signed by one of them, or of --model-key; repeatable")
	f.StringArrayVar(&cfg.models.quotas, "model-quota", nil, "bytes that the store may hold, like 20GiB, or one model's versions of it, like score=5GiB; drops that would exceed it are refused; repeatable")
	f.StringVar(&cfg.models.copyLimit, "model-copy-limit", "256MiB", "private memory that one version's rows and short extents may take, or off: no limit; what takes more is refused")
	f.DurationVar(&cfg.models.reclaim, "model-reclaim", loader.DefaultReclaim, "how long a version that is out of use may be held by who reads it or maps it; then it is taken away, and the reader gets an error")
	f.BoolVar(&cfg.models.mlock, "model-mlock", false, "keep model versions in memory (mlock); one that takes more than the process may lock, or than its control group has room for, is refused")
	cfg.models.bucket.flags(c)
	cfg.models.judge.flags(c)
	f.StringVar(&cfg.models.patchMemory, "model-patch-memory", "256MiB", "private memory of the child process that applies bsdiff4 and zstd patches, or off: no limit")
	cfg.models.share.register(f)
	f.DurationVar(&cfg.models.patchTime, "model-patch-time", 15*time.Minute, "how long that child may take; 0: no limit")
	f.DurationVar(&src.Timeout, "timeout", 15*time.Second, "from the complete request to the response's head")
	f.DurationVar(&src.Idle, "idle-timeout", 5*time.Minute, "without progress of either body")
	f.StringVar(&src.Codec, "codec", "auto", "auto: HTTP/2 or HTTP/1.1, by a connection's first bytes; http1 or http2: that alone")
	f.StringVar(&src.Retry, "retry", "on", "on: send an idempotent request once more when its endpoint failed; off: only one that certainly was not processed")
	f.IntVar(&src.RetryBody, "retry-body", 0, "bytes of a request's body that are kept for that; requests with longer ones are sent once")
	f.StringVar(&cfg.admin, "admin", console.DefaultAddr, "admin address; port 0 picks a free one")
	f.BoolVar(&cfg.pprof, "admin-pprof", false, "serve /debug/pprof on the admin address")
	f.IntVar(&cfg.shards, "shards", 0, "event loops; 0: one or two, by the CPUs this process may use")
	f.StringVar(&driver, "driver", shard.Auto.String(), "how event loops wait for sockets: epoll (Linux), portable, or auto: the first that this system has")
	f.Int64Var(&cfg.ceilings.connections, "max-connections", 0, "callers' connections at a time, more are closed; 0: half of what the limit of open files allows")
	f.StringVar(&cfg.ceilings.memory, "max-memory", "", "memory ceiling, like 512MiB, or off; new work is refused below it (default: GOMEMLIMIT, else 90 % of the control group's limit)")
	f.DurationVar(&cfg.drain, "drain-time", 30*time.Second, "after SIGTERM: how long running requests may take")
	f.StringVarP(&level, "log-level", "l", slog.LevelInfo.String(), "debug, info, warn or error; Envoy's names do too")
	f.StringVar(&cfg.logFormat, "log-format", "text", "text or json; a pattern of Envoy's is text")
	f.StringVar(&cfg.managed.stateDir, "state-dir", "", "with -c: where the last good configuration is kept, or none (default: in the user's cache directory)")
	f.BoolVar(&cfg.managed.noEmpty, "refuse-empty", false, "with -c: refuse a state-of-the-world response without any listener or cluster, which would delete them all")
	f.StringVar(&cfg.managed.csds, "csds", "", "with -c: address to serve the client status discovery service on")
	envoy.register(f)
	return c
}

// readConfig reads quadnine.yaml, when one is given; a bootstrap takes its place.
func readConfig(cmd *cobra.Command, file string, managed bool) (*snapshot.File, error) {
	if !cmd.Flags().Changed("config") || managed {
		return new(snapshot.File), nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, usage(fmt.Errorf("--config: %w", err))
	}
	f, err := snapshot.Parse(file, data)
	if err != nil {
		return nil, usage(err)
	}
	return f, nil
}

// needsNoBootstrap are the flags that say what a bootstrap says.
var needsNoBootstrap = []string{"listen", "upstream", "degrade", "role", "peer", "config", "timeout", "idle-timeout", "codec", "retry", "retry-body", "upgrade"}

// runManaged runs a sidecar that is configured by a bootstrap file.
func runManaged(cmd *cobra.Command, cfg *sidecarConfig, envoy *envoyFlags) error {
	for _, name := range append(needsNoBootstrap, tlsFlags...) {
		if cmd.Flags().Changed(name) {
			return usage(fmt.Errorf("--%s: not together with a bootstrap (-c, --config-yaml), which says what is listened on and where requests go", name))
		}
	}
	boot, err := bootstrap.Load(envoy.boot)
	if err != nil {
		return usage(err)
	}
	if !cmd.Flags().Changed("admin") && boot.Admin != "" {
		cfg.admin = boot.Admin
	}
	cfg.managed.boot, cfg.managed.strict = boot, envoy.strict
	if envoy.mode == "validate" {
		return validateBootstrap(cmd, boot, envoy.strict)
	}
	s, err := startSidecar(cmd.Context(), *cfg)
	if err != nil {
		return err
	}
	envoy.warn(s.log)
	if envoy.addressPath != "" {
		if err := os.WriteFile(envoy.addressPath, []byte(s.AdminAddr()), 0o644); err != nil {
			return errors.Join(usage(fmt.Errorf("--admin-address-path: %w", err)), s.stop(0))
		}
	}
	s.log.Info("started", "admin", s.AdminAddr(), "node", boot.Node.GetId(), "cluster", boot.Node.GetCluster())
	select {
	case <-cmd.Context().Done():
	case <-s.quit:
	}
	return s.stop(cfg.drain)
}
