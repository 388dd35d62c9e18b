package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// Telemetry is what Setup built.
type Telemetry struct {
	Registry *Registry
	Logger   *slog.Logger
	Tracer   *Tracer // nil when traces are not exported; a nil Tracer may be used

	exporting []exporter
}

// exporter is what the three SDK providers have in common.
type exporter interface {
	ForceFlush(context.Context) error
	Shutdown(context.Context) error
}

// Setup starts logging and, where configured, the export of traces, metrics and
// logs over OTLP. It does not wait for the receiver. Its errors wrap ErrOption
// when an option or variable is at fault. While exporting, it takes over
// OpenTelemetry's global error handler, so a process calls it once.
func Setup(ctx context.Context, o Options) (*Telemetry, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	local := localHandler(&o)
	t := &Telemetry{Registry: NewRegistry(), Logger: slog.New(local)}
	if !traces.on(&o) && !metrics.on(&o) && !logs.on(&o) {
		t.Registry.logger.Store(t.Logger)
		return t, nil
	}
	otel.SetErrorHandler(&complaints{log: t.Logger, registry: t.Registry})
	res, err := identity(ctx, &o)
	if err == nil {
		err = errors.Join(t.exportTraces(ctx, &o, res), t.exportMetrics(ctx, &o, res), t.exportLogs(ctx, &o, res, local))
	}
	if err != nil {
		return nil, errors.Join(err, t.Shutdown(ctx))
	}
	t.Registry.logger.Store(t.Logger)
	return t, nil
}

// identity describes this process. OTEL_SERVICE_NAME and
// OTEL_RESOURCE_ATTRIBUTES have the last word.
func identity(ctx context.Context, o *Options) (*resource.Resource, error) {
	attrs := []attribute.KeyValue{attribute.String("service.name", "quadnine")}
	if o.Version != "" {
		attrs = append(attrs, attribute.String("service.version", o.Version))
	}
	if o.Instance != "" {
		attrs = append(attrs, attribute.String("service.instance.id", o.Instance))
	}
	res, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(attrs...), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("telemetry: describe this process (see OTEL_RESOURCE_ATTRIBUTES): %w", err)
	}
	return res, nil
}

func (t *Telemetry) exportTraces(ctx context.Context, o *Options, res *resource.Resource) error {
	if !traces.on(o) {
		return nil
	}
	var opts []otlptracehttp.Option
	if o.Endpoint != "" {
		opts = append(opts, otlptracehttp.WithEndpointURL(traces.url(o.Endpoint)))
	}
	exp, err := otlptracehttp.New(ctx, opts...)
	if err != nil {
		return fmt.Errorf("telemetry: export traces: %w", err)
	}
	p := sdktrace.NewTracerProvider(sdktrace.WithResource(res), sdktrace.WithBatcher(exp),
		sdktrace.WithSampler(sdktrace.ParentBased(reloads{}))) // the caller decides; see StartSpan
	t.Tracer = &Tracer{p.Tracer(scope)}
	t.exporting = append(t.exporting, p)
	return nil
}

func (t *Telemetry) exportMetrics(ctx context.Context, o *Options, res *resource.Resource) error {
	if !metrics.on(o) {
		return nil
	}
	var opts []otlpmetrichttp.Option
	if o.Endpoint != "" {
		opts = append(opts, otlpmetrichttp.WithEndpointURL(metrics.url(o.Endpoint)))
	}
	exp, err := otlpmetrichttp.New(ctx, opts...)
	if err != nil {
		return fmt.Errorf("telemetry: export metrics: %w", err)
	}
	p := sdkmetric.NewMeterProvider(sdkmetric.WithResource(res),
		sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exp, sdkmetric.WithProducer(t.Registry))))
	t.exporting = append(t.exporting, p)
	return t.Registry.Observe(p.Meter(scope))
}

func (t *Telemetry) exportLogs(ctx context.Context, o *Options, res *resource.Resource, local slog.Handler) error {
	if !logs.on(o) {
		return nil
	}
	var opts []otlploghttp.Option
	if o.Endpoint != "" {
		opts = append(opts, otlploghttp.WithEndpointURL(logs.url(o.Endpoint)))
	}
	exp, err := otlploghttp.New(ctx, opts...)
	if err != nil {
		return fmt.Errorf("telemetry: export logs: %w", err)
	}
	p := sdklog.NewLoggerProvider(sdklog.WithResource(res), sdklog.WithProcessor(sdklog.NewBatchProcessor(exp)))
	t.Logger = slog.New(slog.NewMultiHandler(local, bridge(o, p)))
	t.exporting = append(t.exporting, p)
	return nil
}

// Flush sends what is waiting to be exported, and returns when the receiver has
// it or ctx ends.
func (t *Telemetry) Flush(ctx context.Context) error {
	return t.each(func(e exporter) error { return e.ForceFlush(ctx) })
}

// Shutdown flushes and stops the exporters, within ctx's deadline. Logger goes on
// writing locally; spans started later are lost.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	return t.each(func(e exporter) error { return e.Shutdown(ctx) })
}

// each runs do for all exporters at once: a receiver that hangs for one signal
// must not use up the others' time.
func (t *Telemetry) each(do func(exporter) error) error {
	errs := make([]error, len(t.exporting))
	var wg sync.WaitGroup
	for i, e := range t.exporting {
		wg.Go(func() { errs[i] = do(e) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
