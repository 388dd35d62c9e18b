package conformance

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/receiver/receivertest"
)

// TestOTLPReceiverGetsEverything starts the sidecar with a real OTLP receiver as
// its endpoint and waits for traces, metrics and logs.
func TestOTLPReceiverGetsEverything(t *testing.T) {
	ctx := deadline(t, 2*within)
	endpoint := addrs(t, 1)[0]
	var traces consumertest.TracesSink
	var metrics consumertest.MetricsSink
	var logs consumertest.LogsSink
	receive(t, endpoint, &traces, &metrics, &logs)

	upstream := addrs(t, 1)[0]
	startStats(t, upstream, []string{"acme"})
	s := startSidecar(t, []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
		"OTEL_METRIC_EXPORT_INTERVAL=200", "OTEL_BSP_SCHEDULE_DELAY=100", "OTEL_BLRP_SCHEDULE_DELAY=100", // ms
	}, "--upstream", "http://"+upstream)

	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url(query), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Traceparent", "00-"+trace+"-00f067aa0ba902b7-01") // sampled (W3C Trace Context)
	res, err := client(t, true).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()

	if !until(ctx, func() bool { return hasTrace(&traces, trace) }) {
		t.Errorf("no span of trace %s arrived; %d spans did", trace, traces.SpanCount())
	}
	if !until(ctx, func() bool { return hasMetric(&metrics) }) {
		t.Errorf("no quadnine.* metric arrived; %d points did", metrics.DataPointCount())
	}
	if !until(ctx, func() bool { return logs.LogRecordCount() > 0 }) {
		t.Error("no log record arrived")
	}
}

// receive starts the collector's OTLP receiver at endpoint.
func receive(t *testing.T, endpoint string, traces *consumertest.TracesSink, metrics *consumertest.MetricsSink, logs *consumertest.LogsSink) {
	t.Helper()
	f := otlpreceiver.NewFactory()
	cfg := f.CreateDefaultConfig()
	conf := confmap.NewFromStringMap(map[string]any{"protocols": map[string]any{"http": map[string]any{"endpoint": endpoint}}})
	if err := conf.Unmarshal(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, set, host := t.Context(), receivertest.NewNopSettings(f.Type()), componenttest.NewNopHost()
	tr, err := f.CreateTraces(ctx, set, cfg, traces)
	if err != nil {
		t.Fatal(err)
	}
	mr, err := f.CreateMetrics(ctx, set, cfg, metrics)
	if err != nil {
		t.Fatal(err)
	}
	lr, err := f.CreateLogs(ctx, set, cfg, logs)
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Start(ctx, host); err != nil {
		t.Fatal(err)
	}
	if err := mr.Start(ctx, host); err != nil {
		t.Fatal(err)
	}
	if err := lr.Start(ctx, host); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, stop := range []func(context.Context) error{tr.Shutdown, mr.Shutdown, lr.Shutdown} {
			if err := stop(context.Background()); err != nil { // t.Context is over in a cleanup
				t.Error(err)
			}
		}
	})
}

// hasTrace reports whether a span of the trace arrived.
func hasTrace(sink *consumertest.TracesSink, id string) bool {
	for _, td := range sink.AllTraces() {
		for _, rs := range td.ResourceSpans().All() {
			for _, ss := range rs.ScopeSpans().All() {
				for _, span := range ss.Spans().All() {
					if span.TraceID().String() == id {
						return true
					}
				}
			}
		}
	}
	return false
}

// hasMetric reports whether a metric of ours arrived.
func hasMetric(sink *consumertest.MetricsSink) bool {
	for _, md := range sink.AllMetrics() {
		for _, rm := range md.ResourceMetrics().All() {
			for _, sm := range rm.ScopeMetrics().All() {
				for _, m := range sm.Metrics().All() {
					if strings.HasPrefix(m.Name(), "quadnine.") {
						return true
					}
				}
			}
		}
	}
	return false
}
