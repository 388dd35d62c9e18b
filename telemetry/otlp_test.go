package telemetry

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/proto"
)

// receiver is an OTLP receiver over http/protobuf on loopback.
type receiver struct {
	*httptest.Server

	mu      sync.Mutex
	refused []string
	traces  coltrace.ExportTraceServiceRequest
	metrics colmetrics.ExportMetricsServiceRequest
	logs    collogs.ExportLogsServiceRequest
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := new(receiver)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", take(r, &r.traces, &coltrace.ExportTraceServiceResponse{}))
	mux.HandleFunc("POST /v1/metrics", take(r, &r.metrics, &colmetrics.ExportMetricsServiceResponse{}))
	mux.HandleFunc("POST /v1/logs", take(r, &r.logs, &collogs.ExportLogsServiceResponse{}))
	mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.refused = append(r.refused, req.Method+" "+req.URL.Path)
		w.WriteHeader(http.StatusNotFound)
	})
	r.Server = httptest.NewServer(mux)
	t.Cleanup(r.Close)
	return r
}

// take merges each request's message into all.
func take(r *receiver, all, reply proto.Message) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		if err == nil {
			err = proto.UnmarshalOptions{Merge: true}.Unmarshal(body, all)
		}
		if err != nil || req.Header.Get("Content-Type") != "application/x-protobuf" {
			r.refused = append(r.refused, req.URL.Path+" "+req.Header.Get("Content-Type"))
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		out, _ := proto.Marshal(reply)
		w.Header().Set("Content-Type", "application/x-protobuf")
		_, _ = w.Write(out)
	}
}

func TestEverythingArrivesOverOTLP(t *testing.T) {
	for _, how := range []string{"option", "environment"} {
		t.Run(how, func(t *testing.T) {
			quiet(t)
			rec := newReceiver(t)
			var local bytes.Buffer
			o := Options{LogWriter: &local, Version: "v0.1.0", Instance: "pod-1"}
			if how == "option" {
				o.Endpoint = rec.URL + "/"
			} else {
				t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", rec.URL)
				t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
			}
			tel, err := Setup(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			populate(tel.Registry)
			tc, _ := ParseTraceparent([]byte(sampledHeader))
			span := tel.Tracer.StartSpan(tc, "GET query", time.Unix(1_700_000_000, 0))
			upstream := span.AppendTraceparent(nil)
			span.End(time.Unix(1_700_000_001, 0), String("quadnine.tenant", "t-7"))
			tel.Logger.Debug("unseen")
			tel.Logger.Warn("breaker opened", "tenant", "t-7", "failures", 4)
			if err := tel.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			families := scrapeFamilies(t, tel.Registry)
			if err := tel.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}

			rec.mu.Lock()
			defer rec.mu.Unlock()
			if len(rec.refused) > 0 {
				t.Fatalf("the receiver refused %v", rec.refused)
			}
			if !strings.Contains(local.String(), "breaker opened") || strings.Contains(local.String(), "export failed") {
				t.Errorf("local log %q", &local)
			}
			checkSpan(t, rec, upstream)
			checkLog(t, rec)
			values := checkMetrics(t, rec)
			for _, in := range Catalog() {
				f := families[in.Prometheus()]
				for _, m := range f.GetMetric() {
					var labels []string
					for _, l := range m.GetLabel() {
						labels = append(labels, l.GetValue())
					}
					slices.Sort(labels)
					want := m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
					if got, ok := values[in.Name+" "+strings.Join(labels, " ")]; !ok || got != want {
						t.Errorf("%s %v: %v over OTLP (%v), %v scraped", in.Name, labels, got, ok, want)
					}
				}
			}
			if how == "environment" {
				if got := find(rec.traces.GetResourceSpans()[0].GetResource().GetAttributes(), "deployment.environment.name"); got != "test" {
					t.Errorf("OTEL_RESOURCE_ATTRIBUTES arrived as %q", got)
				}
			}
		})
	}
}

func checkResource(t *testing.T, r *resource.Resource) {
	t.Helper()
	for key, want := range map[string]string{"service.name": "quadnine", "service.version": "v0.1.0", "service.instance.id": "pod-1"} {
		if got := find(r.GetAttributes(), key); got != want {
			t.Errorf("resource %s is %q, want %q", key, got, want)
		}
	}
}

func checkSpan(t *testing.T, rec *receiver, upstream []byte) {
	t.Helper()
	if len(rec.traces.GetResourceSpans()) != 1 {
		t.Fatalf("traces %v, want one resource", &rec.traces)
	}
	rs := rec.traces.GetResourceSpans()[0]
	checkResource(t, rs.GetResource())
	spans := rs.GetScopeSpans()[0].GetSpans()
	if len(spans) != 1 {
		t.Fatalf("%d spans, want 1", len(spans))
	}
	s := spans[0]
	if got := "00-" + hex.EncodeToString(s.GetTraceId()) + "-" + hex.EncodeToString(s.GetSpanId()) + "-01"; got != string(upstream) {
		t.Errorf("span %s, upstream was told %s", got, upstream)
	}
	if got := hex.EncodeToString(s.GetParentSpanId()); s.GetName() != "GET query" || got != sampledHeader[36:52] || find(s.GetAttributes(), "quadnine.tenant") != "t-7" {
		t.Errorf("span %v", s)
	}
	if s.GetEndTimeUnixNano()-s.GetStartTimeUnixNano() != 1e9 {
		t.Errorf("span took %d ns, want 1 s", s.GetEndTimeUnixNano()-s.GetStartTimeUnixNano())
	}
}

func checkLog(t *testing.T, rec *receiver) {
	t.Helper()
	if len(rec.logs.GetResourceLogs()) != 1 {
		t.Fatalf("logs %v, want one resource", &rec.logs)
	}
	rl := rec.logs.GetResourceLogs()[0]
	checkResource(t, rl.GetResource())
	records := rl.GetScopeLogs()[0].GetLogRecords()
	if len(records) != 1 {
		t.Fatalf("%d log records, want 1", len(records))
	}
	l := records[0]
	if l.GetBody().GetStringValue() != "breaker opened" || l.GetSeverityText() != "WARN" || find(l.GetAttributes(), "tenant") != "t-7" {
		t.Errorf("log record %v", l)
	}
}

// checkMetrics returns what arrived last, by name and sorted attribute values.
func checkMetrics(t *testing.T, rec *receiver) map[string]float64 {
	t.Helper()
	values := make(map[string]float64)
	key := func(name string, attrs []*common.KeyValue) string {
		var labels []string
		for _, a := range attrs {
			labels = append(labels, a.GetValue().GetStringValue())
		}
		slices.Sort(labels)
		return name + " " + strings.Join(labels, " ")
	}
	for _, rm := range rec.metrics.GetResourceMetrics() {
		checkResource(t, rm.GetResource())
		for _, sm := range rm.GetScopeMetrics() {
			for _, m := range sm.GetMetrics() {
				for _, p := range m.GetSum().GetDataPoints() {
					if !m.GetSum().GetIsMonotonic() {
						t.Errorf("%s is not monotonic", m.GetName())
					}
					values[key(m.GetName(), p.GetAttributes())] = float64(p.GetAsInt())
				}
				for _, p := range m.GetGauge().GetDataPoints() {
					values[key(m.GetName(), p.GetAttributes())] = p.GetAsDouble()
				}
				for _, p := range m.GetHistogram().GetDataPoints() {
					values[key(m.GetName(), p.GetAttributes())] = float64(p.GetCount())
					var sum uint64
					for _, n := range p.GetBucketCounts() {
						sum += n
					}
					// populate records 500 ns and 3 ms.
					if sum != p.GetCount() || math.Abs(p.GetSum()-0.0030005) > 1e-9 || len(p.GetBucketCounts()) != len(p.GetExplicitBounds())+1 ||
						p.GetBucketCounts()[0] != 1 || p.GetBucketCounts()[slices.Index(p.GetExplicitBounds(), 0.005)] != 1 {
						t.Errorf("histogram %v", p)
					}
				}
			}
		}
	}
	return values
}

func find(attrs []*common.KeyValue, key string) string {
	for _, a := range attrs {
		if a.GetKey() == key {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}

func TestShutdownDoesNotWaitForAHangingReceiver(t *testing.T) {
	quiet(t)
	release := make(chan struct{})
	hang := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer hang.Close()
	defer close(release)
	tel, err := Setup(t.Context(), Options{Endpoint: hang.URL, LogWriter: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	tel.Logger.Info("never delivered")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := tel.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown returned %v, want the deadline", err)
	}
	if took := time.Since(began); took > 5*time.Second { // an export's own timeout is 10 s
		t.Errorf("Shutdown took %v after a deadline of 50ms", took)
	}
}

func TestRefusingReceiverIsReportedAndSurvived(t *testing.T) {
	quiet(t)
	refuse := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer refuse.Close()
	var local bytes.Buffer
	tel, err := Setup(t.Context(), Options{Endpoint: refuse.URL, LogWriter: &local})
	if err != nil {
		t.Fatal(err)
	}
	tel.Logger.Info("still here")
	if err := tel.Shutdown(t.Context()); err == nil {
		t.Error("Shutdown lost the last records without saying so")
	}
	if !strings.Contains(local.String(), "still here") {
		t.Errorf("local log %q", &local)
	}
}
