package telemetry

import (
	"context"
	rtrace "runtime/trace"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// reloadSpan is the name of the only spans without a caller.
const reloadSpan = "module.reload"

// Reload is the span of one module's way from its drop being seen to the switch
// that makes it the active one. The zero Reload stands for one that is not
// traced: its methods do nothing. A Reload belongs to one goroutine at a time.
type Reload struct {
	span   Span
	module string // "score@2"
}

// StartReload starts the root span module.reload at the moment seen, which may
// lie in the past, and marks ModuleReloadStart in the execution trace when one is
// being taken. The mark stands at the moment of the call. A nil Tracer only marks.
func (t *Tracer) StartReload(module string, version uint64, seen time.Time) Reload {
	r := Reload{module: module + "@" + strconv.FormatUint(version, 10)}
	if t != nil {
		_, r.span.span = t.tracer.Start(context.Background(), reloadSpan, trace.WithNewRoot(),
			trace.WithSpanKind(trace.SpanKindInternal), trace.WithTimestamp(seen),
			trace.WithAttributes(attribute.String("module.name", module), attribute.String("module.version", strconv.FormatUint(version, 10)),
				attribute.Bool("hot", true)))
	}
	r.mark("ModuleReloadStart")
	return r
}

// TraceID returns the trace's identifier in hexadecimal digits, empty when there
// is no span.
func (r Reload) TraceID() string {
	if r.span.span == nil {
		return ""
	}
	return r.span.span.SpanContext().TraceID().String()
}

// Context returns ctx with the span, so that log records written with it carry
// its identifiers over OTLP.
func (r Reload) Context(ctx context.Context) context.Context {
	if r.span.span == nil {
		return ctx
	}
	return trace.ContextWithSpan(ctx, r.span.span)
}

// Fail ends the span at the moment end as one whose module did not become
// active, for a short stable reason.
func (r Reload) Fail(end time.Time, reason string) {
	r.span.Fail(reason)
	r.End(end)
}

// End ends the span at the moment end, and marks ModuleReloadEnd.
func (r Reload) End(end time.Time, attrs ...Attr) {
	r.mark("ModuleReloadEnd")
	r.span.End(end, attrs...)
}

// mark writes to the execution trace, if one is being taken.
func (r Reload) mark(event string) {
	if r.module != "" && rtrace.IsEnabled() {
		rtrace.Log(context.Background(), event, r.module+" "+r.TraceID())
	}
}

// reloads samples the spans of reloads, which are rare, and no other root: for
// requests the caller decides.
type reloads struct{}

// ShouldSample implements the SDK's Sampler.
func (reloads) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	if p.Name == reloadSpan {
		return sdktrace.AlwaysSample().ShouldSample(p)
	}
	return sdktrace.NeverSample().ShouldSample(p)
}

// Description implements the SDK's Sampler.
func (reloads) Description() string { return "Reloads" }
