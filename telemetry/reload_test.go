package telemetry

import (
	"bytes"
	"context"
	rtrace "runtime/trace"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

func recordedReloads(t *testing.T) (*Tracer, *tracetest.InMemoryExporter) {
	t.Helper()
	exp := tracetest.NewInMemoryExporter()
	p := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exp), sdktrace.WithSampler(sdktrace.ParentBased(reloads{})))
	return &Tracer{p.Tracer(scope)}, exp
}

func TestReloadIsARootSpanFromDropToSwitch(t *testing.T) {
	tracer, exp := recordedReloads(t)
	seen := time.Unix(1_700_000_000, 42)
	r := tracer.StartReload("score", 2, seen)
	id := r.TraceID()
	if got := trace.SpanContextFromContext(r.Context(t.Context())).TraceID().String(); got != id {
		t.Errorf("log records get the trace %s, want %s", got, id)
	}
	r.End(seen.Add(3*time.Second), Int("module.bytes", 4096))
	spans := exp.GetSpans()
	if len(spans) != 1 {
		t.Fatalf("%d spans, want 1", len(spans))
	}
	s := spans[0]
	if s.Name != "module.reload" || s.Parent.IsValid() || s.SpanKind != trace.SpanKindInternal || s.SpanContext.TraceID().String() != id {
		t.Errorf("span %s %v below %v, trace %s", s.Name, s.SpanKind, s.Parent, s.SpanContext.TraceID())
	}
	if !s.StartTime.Equal(seen) || s.EndTime.Sub(s.StartTime) != 3*time.Second || s.Status.Code != codes.Unset {
		t.Errorf("from %v to %v, status %v", s.StartTime, s.EndTime, s.Status)
	}
	got := attribute.NewSet(s.Attributes...)
	want := attribute.NewSet(String("module.name", "score"), String("module.version", "2"), attribute.Bool("hot", true), Int("module.bytes", 4096))
	if !got.Equals(&want) {
		t.Errorf("attributes %v, want %v", got.ToSlice(), want.ToSlice())
	}
}

func TestFailedReloadSaysWhy(t *testing.T) {
	tracer, exp := recordedReloads(t)
	tracer.StartReload("score", 3, time.Now()).Fail(time.Now(), "rolled-back")
	spans := exp.GetSpans()
	if len(spans) != 1 || spans[0].Status != (sdktrace.Status{Code: codes.Error, Description: "rolled-back"}) {
		t.Fatalf("%+v", spans)
	}
}

func TestOnlyReloadsAreSampledWithoutACaller(t *testing.T) {
	tracer, exp := recordedReloads(t)
	_, span := tracer.tracer.Start(context.Background(), "GET query")
	span.End()
	unsampled, _ := ParseTraceparent([]byte(unsampledHeader))
	tracer.StartSpan(unsampled, "GET query", time.Now()).End(time.Now())
	if spans := exp.GetSpans(); len(spans) != 0 {
		t.Errorf("%d spans of requests that nobody sampled", len(spans))
	}
	sampled, _ := ParseTraceparent([]byte(sampledHeader))
	tracer.StartSpan(sampled, "GET query", time.Now()).End(time.Now())
	if spans := exp.GetSpans(); len(spans) != 1 {
		t.Errorf("%d spans of the request that its caller sampled, want 1", len(spans))
	}
}

func TestReloadWithoutTracer(t *testing.T) {
	var off *Tracer
	r := off.StartReload("score", 2, time.Now())
	if id := r.TraceID(); id != "" {
		t.Errorf("trace %q without a tracer", id)
	}
	if ctx := t.Context(); r.Context(ctx) != ctx {
		t.Error("a context of its own without a span")
	}
	r.End(time.Now())
	r.Fail(time.Now(), "rolled-back")
}

func TestReloadStandsInTheExecutionTrace(t *testing.T) {
	if rtrace.IsEnabled() {
		t.Fatal("an execution trace is being taken: run without -trace")
	}
	var b bytes.Buffer
	if err := rtrace.Start(&b); err != nil {
		t.Fatal(err)
	}
	tracer, _ := recordedReloads(t)
	r := tracer.StartReload("score", 2, time.Now())
	r.End(time.Now())
	rtrace.Stop()
	for _, want := range []string{"ModuleReloadStart", "ModuleReloadEnd", "score@2 " + r.TraceID()} {
		if !bytes.Contains(b.Bytes(), []byte(want)) {
			t.Errorf("%q is not in the execution trace", want)
		}
	}
}
