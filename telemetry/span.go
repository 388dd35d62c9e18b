package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Attr is one attribute of a span.
type Attr = attribute.KeyValue

// String returns a text attribute.
func String(key, value string) Attr { return attribute.String(key, value) }

// Int returns a number attribute.
func Int(key string, value int64) Attr { return attribute.Int64(key, value) }

// Tracer starts spans. A nil Tracer starts none: that is what Telemetry has when
// traces are not exported.
type Tracer struct{ tracer trace.Tracer }

// Span is one sampled request's span. The zero Span stands for a request that
// has none: all its methods do nothing. A Span belongs to one goroutine at a time.
type Span struct {
	span   trace.Span
	random byte // the caller's random flag, which is passed on
}

// StartSpan starts a server span below the caller's, or returns the zero Span
// when the caller did not sample its own.
func (t *Tracer) StartSpan(tc TraceContext, name string, start time.Time) Span {
	if t == nil || !tc.Sampled() {
		return Span{}
	}
	parent := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: tc.TraceID, SpanID: tc.ParentID, TraceFlags: trace.TraceFlags(tc.Flags), Remote: true,
	})
	_, span := t.tracer.Start(trace.ContextWithRemoteSpanContext(context.Background(), parent), name,
		trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(start))
	return Span{span: span, random: tc.Flags & flagRandom}
}

// Recording reports whether there is a span: if not, the request's traceparent
// is forwarded as it came.
func (s Span) Recording() bool { return s.span != nil }

// AppendTraceparent appends the header value for the upstream request, whose
// parent is this span. The zero Span appends nothing.
func (s Span) AppendTraceparent(dst []byte) []byte {
	if s.span == nil {
		return dst
	}
	sc := s.span.SpanContext()
	tc := TraceContext{TraceID: sc.TraceID(), ParentID: sc.SpanID(), Flags: byte(sc.TraceFlags())&flagSampled | s.random}
	return tc.AppendTraceparent(dst)
}

// Fail marks the span as failed, for a short stable reason (error.type in the
// semantic conventions).
func (s Span) Fail(reason string) {
	if s.span == nil {
		return
	}
	s.span.SetStatus(codes.Error, reason)
	s.span.SetAttributes(attribute.String("error.type", reason))
}

// End ends the span at the moment end and hands it to the exporter. It never
// blocks: the exporter drops spans when its queue is full.
func (s Span) End(end time.Time, attrs ...Attr) {
	if s.span == nil {
		return
	}
	s.span.SetAttributes(attrs...)
	s.span.End(trace.WithTimestamp(end))
}
