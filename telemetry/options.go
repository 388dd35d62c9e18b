package telemetry

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"strings"
)

// Options says where telemetry goes. The zero value logs text at level info to
// standard error and exports only what the OTEL_* environment asks for.
type Options struct {
	// Endpoint is the base URL of an OTLP receiver that speaks http/protobuf,
	// such as http://127.0.0.1:4318. Empty means the environment decides:
	// OTEL_EXPORTER_OTLP_ENDPOINT for all signals, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
	// _METRICS_ENDPOINT and _LOGS_ENDPOINT for one each; with neither, nothing is exported.
	Endpoint string

	LogWriter io.Writer    // os.Stderr when nil
	LogFormat string       // "text" (also when empty) or "json"
	LogLevel  slog.Leveler // slog.LevelInfo when nil

	Version  string // service.version; left out when empty
	Instance string // service.instance.id; left out when empty
}

// ErrOption is what Setup's errors about its options and environment wrap.
var ErrOption = errors.New("telemetry option refused")

// signal is one of OTLP's three streams.
type signal struct{ path, variable string }

var (
	traces  = signal{"/v1/traces", "TRACES"}
	metrics = signal{"/v1/metrics", "METRICS"}
	logs    = signal{"/v1/logs", "LOGS"}
)

// on reports whether s is to be exported.
func (s signal) on(o *Options) bool {
	if o.Endpoint != "" {
		return true
	}
	// OTEL_SDK_DISABLED and the exporter "none" are the specification's switches
	// ("Environment Variable Specification").
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") || os.Getenv("OTEL_"+s.variable+"_EXPORTER") == "none" {
		return false
	}
	return os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_"+s.variable+"_ENDPOINT") != ""
}

// url returns s's full address below an explicit endpoint.
func (s signal) url(endpoint string) string { return strings.TrimSuffix(endpoint, "/") + s.path }

// check refuses what the exporters would only complain about at their first
// export, or ignore.
func (o *Options) check() error {
	if f := o.LogFormat; f != "" && f != "text" && f != "json" {
		return fmt.Errorf("telemetry: log format %q: %w: use text or json", f, ErrOption)
	}
	if err := checkEndpoint("endpoint", o.Endpoint); err != nil {
		return err
	}
	for _, name := range []string{"ENDPOINT", "TRACES_ENDPOINT", "METRICS_ENDPOINT", "LOGS_ENDPOINT"} {
		name = "OTEL_EXPORTER_OTLP_" + name
		if err := checkEndpoint(name, os.Getenv(name)); err != nil {
			return err
		}
	}
	for _, name := range []string{"PROTOCOL", "TRACES_PROTOCOL", "METRICS_PROTOCOL", "LOGS_PROTOCOL"} {
		name = "OTEL_EXPORTER_OTLP_" + name
		if p := os.Getenv(name); p != "" && p != "http/protobuf" {
			return fmt.Errorf("telemetry: %s=%s: %w: only http/protobuf is spoken; unset it and name the receiver's HTTP port (usually 4318)",
				name, p, ErrOption)
		}
	}
	return nil
}

func checkEndpoint(name, value string) error {
	if value == "" {
		return nil
	}
	u, err := url.Parse(value)
	if err != nil {
		return fmt.Errorf("telemetry: %s: %w: %w", name, ErrOption, err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("telemetry: %s %q: %w: want a URL such as http://127.0.0.1:4318", name, value, ErrOption)
	}
	return nil
}
