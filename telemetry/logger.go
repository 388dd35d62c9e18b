package telemetry

import (
	"context"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/contrib/bridges/otelslog"
	sdklog "go.opentelemetry.io/otel/sdk/log"
)

// localHandler writes log records to the operator's terminal or container log.
func localHandler(o *Options) slog.Handler {
	w, opts := o.LogWriter, &slog.HandlerOptions{Level: o.level()}
	if w == nil {
		w = os.Stderr
	}
	if o.LogFormat == "json" {
		return slog.NewJSONHandler(w, opts)
	}
	return slog.NewTextHandler(w, opts)
}

func (o *Options) level() slog.Leveler {
	if o.LogLevel == nil {
		return slog.LevelInfo
	}
	return o.LogLevel
}

// bridge sends log records of at least the local level to provider.
func bridge(o *Options, provider *sdklog.LoggerProvider) slog.Handler {
	return leveled{otelslog.NewHandler(scope, otelslog.WithLoggerProvider(provider)), o.level()}
}

// leveled gives a handler that takes everything a lowest level.
type leveled struct {
	slog.Handler
	least slog.Leveler
}

// Enabled implements slog.Handler.
func (h leveled) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= h.least.Level() && h.Handler.Enabled(ctx, l)
}

// WithAttrs implements slog.Handler.
func (h leveled) WithAttrs(attrs []slog.Attr) slog.Handler {
	return leveled{h.Handler.WithAttrs(attrs), h.least}
}

// WithGroup implements slog.Handler.
func (h leveled) WithGroup(name string) slog.Handler {
	return leveled{h.Handler.WithGroup(name), h.least}
}

// complainEvery bounds the log lines about a receiver that is away: exports are
// tried every second or so, and all are counted.
const complainEvery = 30 * time.Second

// complaints takes the exporters' errors. They go to the local log only: sent
// over the bridge they would feed themselves.
type complaints struct {
	log      *slog.Logger
	registry *Registry
	last     atomic.Int64 // Unix ns of the last line
}

// Handle implements OpenTelemetry's ErrorHandler.
func (c *complaints) Handle(err error) {
	c.registry.Count(ExportFailures, 1)
	now, last := time.Now().UnixNano(), c.last.Load()
	if now-last < int64(complainEvery) || !c.last.CompareAndSwap(last, now) {
		return
	}
	c.log.Warn("telemetry export failed; the sidecar goes on without it", "err", err, "next_line_in", complainEvery)
}
