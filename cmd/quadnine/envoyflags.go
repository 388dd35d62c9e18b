package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/quadnine/quadnine/xds/bootstrap"
)

// envoyFlags are the flags of Envoy's that start quadnine in its place.
type envoyFlags struct {
	boot        bootstrap.Options
	mode        string
	strict      bool // --reject-unknown-dynamic-fields
	concurrency int
	drain       int
	addressPath string // the admin address is written here
	logPath     string // --log-path; "": the log goes to stderr
	hotRestart  bool   // --hot-restart-version: say it, and end
	pattern     bool   // --log-format is one of Envoy's
	ignored     map[string]string
}

// withoutEffect are flags of Envoy's that are taken so that its command lines
// work, and why they do nothing.
var withoutEffect = []struct{ name, why string }{
	{"component-log-level", "there is one log level: --log-level"},
	{"cpuset-threads", "event loops follow the CPUs that the process may use"},
	{"drain-strategy", "connections are drained at once, each as soon as its requests are answered"},
	{"parent-shutdown-time-s", "hot restart is not supported"},
	{"base-id", "hot restart is not supported"},
	{"use-dynamic-base-id", "hot restart is not supported"},
	{"restart-epoch", "hot restart is not supported"},
	{"disable-hot-restart", "hot restart is not supported"},
	{"skip-hot-restart-on-no-parent", "hot restart is not supported"},
	{"skip-hot-restart-parent-stats", "hot restart is not supported"},
	{"skip-deprecated-logs", "deprecated fields are listed in docs/xds-fields.md"},
	{"enable-mutex-tracing", "profiles are served: --admin-pprof"},
	{"allow-unknown-fields", "it is the default"},
	{"local-address-ip-version", "addresses are as configured"},
	{"file-flush-interval-msec", "access logs are flushed as soon as nothing more is waiting"},
	{"file-flush-min-size-kb", "access logs are flushed as soon as nothing more is waiting"},
	{"log-format-escaped", "log lines are escaped always"},
	{"enable-fine-grain-logging", "there is one log level: --log-level"},
	{"allow-unknown-static-fields", "it is the default"},
	{"ignore-unknown-dynamic-fields", "unknown fields are counted: /xds/status"},
	{"disable-extensions", "extensions are what docs/xds-fields.md lists"},
	{"stats-tag", "labels are those of docs/metrics.md"},
	{"enable-core-dump", "ask the operating system"},
	{"socket-path", "hot restart is not supported"},
	{"socket-mode", "hot restart is not supported"},
}

// register adds the flags to f.
func (e *envoyFlags) register(f *pflag.FlagSet) {
	f.StringVarP(&e.boot.Path, "config-path", "c", "", "Envoy's bootstrap file: take the configuration from it and from the management server it names")
	f.StringVar(&e.boot.YAML, "config-yaml", "", "bootstrap fields that lie over the file's, as YAML")
	f.StringVar(&e.boot.ServiceNode, "service-node", "", "node id, over the bootstrap's")
	f.StringVar(&e.boot.ServiceCluster, "service-cluster", "", "node cluster, over the bootstrap's")
	f.StringVar(&e.boot.ServiceZone, "service-zone", "", "zone of the node, over the bootstrap's")
	f.BoolVar(&e.boot.Strict, "strict", false, "refuse a bootstrap with anything that has no effect here")
	f.BoolVar(&e.boot.Strict, "reject-unknown-static-fields", false, "the same as --strict")
	f.BoolVar(&e.strict, "reject-unknown-dynamic-fields", false, "refuse resources with fields that are not known")
	f.StringVar(&e.mode, "mode", "serve", "serve, or validate: check the bootstrap and end")
	f.IntVar(&e.concurrency, "concurrency", 0, "the same as --shards")
	f.IntVar(&e.drain, "drain-time-s", 0, "the same as --drain-time, in seconds")
	f.StringVar(&e.logPath, "log-path", "", "file that log lines are appended to, instead of stderr")
	f.BoolVar(&e.hotRestart, "hot-restart-version", false, "say that hot restart is not supported, as Envoy does without it, and end")
	_ = f.MarkHidden("hot-restart-version") // it exists
	f.StringVar(&e.addressPath, "admin-address-path", "", "file that the admin address is written to")
	e.ignored = make(map[string]string)
	for _, w := range withoutEffect {
		f.Var(ignoredFlag{e.ignored, w.name}, w.name, "has no effect: "+w.why)
		f.Lookup(w.name).NoOptDefVal = "true"
		_ = f.MarkHidden(w.name) // it exists
	}
	for _, name := range []string{"component-log-level", "cpuset-threads", "drain-strategy", "parent-shutdown-time-s", "base-id", "restart-epoch", "local-address-ip-version", "file-flush-interval-msec", "file-flush-min-size-kb", "disable-extensions", "stats-tag", "socket-path", "socket-mode"} {
		f.Lookup(name).NoOptDefVal = "" // takes a value
	}
	f.Lookup("cpuset-threads").NoOptDefVal = "true"
}

// ignoredFlag notes that a flag was given.
type ignoredFlag struct {
	seen map[string]string
	name string
}

func (i ignoredFlag) String() string     { return "" }
func (i ignoredFlag) Set(v string) error { i.seen[i.name] = v; return nil }
func (i ignoredFlag) Type() string       { return "value" }

// managed reports whether a bootstrap was given.
func (e *envoyFlags) managed() bool { return e.boot.Path != "" || e.boot.YAML != "" }

// before returns the arguments in front of "--". What stands behind it means nothing
// to Envoy either: who starts one marks it there, as in -- --run-id 1.
func (e *envoyFlags) before(cmd *cobra.Command, args []string) []string {
	if n := cmd.ArgsLenAtDash(); n >= 0 && e.managed() {
		return args[:n]
	}
	return args
}

// warn says which of the flags given have no effect.
func (e *envoyFlags) warn(log *slog.Logger) {
	for _, w := range withoutEffect {
		if _, ok := e.ignored[w.name]; ok {
			log.Warn("flag has no effect", "flag", "--"+w.name, "because", w.why)
		}
	}
	if e.pattern {
		log.Warn("flag has no effect", "flag", "--log-format", "because", "log lines have no pattern: they are text or json")
	}
}

// apply puts what Envoy's flags say into cfg.
func (e *envoyFlags) apply(cfg *sidecarConfig) error {
	if e.concurrency > 0 {
		cfg.shards = e.concurrency
	}
	if e.drain > 0 {
		cfg.drain = time.Duration(e.drain) * time.Second
	}
	if strings.Contains(cfg.logFormat, "%") {
		cfg.logFormat, e.pattern = "text", true
	}
	switch e.mode {
	case "serve", "validate":
		return nil
	default:
		return usage(fmt.Errorf("--mode %q: use serve or validate", e.mode))
	}
}

// openLog returns where log lines go, and what closes it.
func (e *envoyFlags) openLog(stderr io.Writer) (io.Writer, func(), error) {
	if e.logPath == "" {
		return stderr, func() {}, nil
	}
	f, err := os.OpenFile(e.logPath, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644) //nolint:gosec // a log is read by others
	if err != nil {
		return nil, nil, usage(fmt.Errorf("--log-path: %w", err))
	}
	return f, func() { _ = f.Close() }, nil // every line was written at once
}

// logLevel reads quadnine's and Envoy's names of log levels.
func logLevel(s string) (slog.Level, error) {
	switch s {
	case "trace":
		return slog.LevelDebug - 4, nil
	case "warning":
		return slog.LevelWarn, nil
	case "critical":
		return slog.LevelError, nil
	case "off":
		return slog.LevelError + 4, nil
	}
	var l slog.Level
	if err := l.UnmarshalText([]byte(s)); err != nil {
		return 0, usage(fmt.Errorf("--log-level %q: use debug, info, warn or error", s))
	}
	return l, nil
}
