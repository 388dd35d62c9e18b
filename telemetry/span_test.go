package telemetry

import (
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

func recorded(t *testing.T) (*Tracer, *tracetest.SpanRecorder) {
	t.Helper()
	rec := tracetest.NewSpanRecorder()
	p := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(rec), sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample())))
	return &Tracer{p.Tracer(scope)}, rec
}

func TestSampledRequestGetsASpan(t *testing.T) {
	tracer, rec := recorded(t)
	tc, _ := ParseTraceparent([]byte(sampledHeader[:53] + "03"))
	start := time.Unix(1_700_000_000, 42)
	span := tracer.StartSpan(tc, "GET /api/v2/metrics/query", start)
	if !span.Recording() {
		t.Fatal("a sampled request got no span")
	}
	up, ok := ParseTraceparent(span.AppendTraceparent(nil))
	if !ok || up.TraceID != tc.TraceID || up.ParentID == tc.ParentID || up.Flags != flagSampled|flagRandom {
		t.Fatalf("upstream is told %+v after %+v: want the same trace, a new parent, both flags", up, tc)
	}
	span.Fail("upstream-5xx")
	span.End(start.Add(3*time.Millisecond), String("quadnine.tenant", "t-7"), Int("http.response.status_code", 503))

	ended := rec.Ended()
	if len(ended) != 1 {
		t.Fatalf("%d spans ended, want 1", len(ended))
	}
	s := ended[0]
	if s.Name() != "GET /api/v2/metrics/query" || s.SpanKind() != trace.SpanKindServer ||
		s.Parent().SpanID() != tc.ParentID || !s.Parent().IsRemote() || s.SpanContext().SpanID() != up.ParentID {
		t.Errorf("span %s %v, parent %v, told upstream %x", s.Name(), s.SpanKind(), s.Parent(), up.ParentID)
	}
	if !s.StartTime().Equal(start) || s.EndTime().Sub(start) != 3*time.Millisecond {
		t.Errorf("span from %v to %v", s.StartTime(), s.EndTime())
	}
	if s.Status() != (sdktrace.Status{Code: codes.Error, Description: "upstream-5xx"}) {
		t.Errorf("status %+v", s.Status())
	}
	got := attribute.NewSet(s.Attributes()...)
	want := attribute.NewSet(String("error.type", "upstream-5xx"), String("quadnine.tenant", "t-7"), Int("http.response.status_code", 503))
	if !got.Equals(&want) {
		t.Errorf("attributes %v, want %v", got.ToSlice(), want.ToSlice())
	}
}

func TestUnsampledRequestGetsNothing(t *testing.T) {
	tracer, rec := recorded(t)
	sampled, _ := ParseTraceparent([]byte(sampledHeader))
	unsampled, _ := ParseTraceparent([]byte(unsampledHeader))
	var off *Tracer
	for name, start := range map[string]func() Span{
		"unsampled": func() Span { return tracer.StartSpan(unsampled, "q", time.Time{}) },
		"none":      func() Span { return tracer.StartSpan(TraceContext{}, "q", time.Time{}) },
		"no tracer": func() Span { return off.StartSpan(sampled, "q", time.Time{}) },
	} {
		if n := testing.AllocsPerRun(10, func() {
			s := start()
			s.Fail("reason")
			if s.Recording() || s.AppendTraceparent(nil) != nil {
				t.Errorf("%s: there is a span", name)
			}
			s.End(time.Time{})
		}); n != 0 {
			t.Errorf("%s: %v allocs, want 0", name, n)
		}
	}
	if n := len(rec.Started()); n != 0 {
		t.Errorf("%d spans started", n)
	}
}
