package main

import (
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/quadnine/quadnine/loader/delta"
)

func TestReloadsArriveOverOTLP(t *testing.T) {
	var mu sync.Mutex
	var got coltrace.ExportTraceServiceRequest
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if err != nil || (proto.UnmarshalOptions{Merge: true}).Unmarshal(body, &got) != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	mux.HandleFunc("/", func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	sink := httptest.NewServer(mux)
	t.Cleanup(sink.Close)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.URL)

	dir := t.TempDir()
	s := newStand(t, standConfig{models: modelsConfig{dir: dir, store: t.TempDir()}})
	began := time.Now()
	dropVersion(t, dir, 1, weights{2, 1}, delta.Canary{Weight: 50, PromoteAfter: time.Hour, MinRequests: 20})
	spans, limit := 0, time.Now().Add(30*time.Second) // a bound for a broken test, not a pace
	for spans == 0 && time.Now().Before(limit) {
		if err := s.side.tel.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		for _, rs := range got.GetResourceSpans() {
			for _, ss := range rs.GetScopeSpans() {
				for _, sp := range ss.GetSpans() {
					spans++
					took := time.Duration(sp.GetEndTimeUnixNano() - sp.GetStartTimeUnixNano())
					if sp.GetName() != "module.reload" || len(sp.GetParentSpanId()) != 0 || len(sp.GetTraceId()) != 16 || took <= 0 || took > time.Since(began) {
						t.Errorf("%v, want a root span no longer than the test", sp)
					}
				}
			}
		}
		mu.Unlock()
	}
	if spans != 1 {
		t.Errorf("%d spans, want 1", spans)
	}
	if v := sample(t, s.admin("/stats/prometheus"), `quadnine_model_version{model="score",state="active"}`); math.IsNaN(v) {
		t.Error("no gauge on the admin port")
	}
}
