package telemetry

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// scope names this package as the source of what it exports over OTLP.
const scope = "github.com/quadnine/quadnine/telemetry"

// Observe registers every counter and gauge of the catalog with m as
// observable instruments. The histogram has no observable form: Produce has it.
func (r *Registry) Observe(m metric.Meter) error {
	observers := make(map[*Instrument]metric.Observable, len(book.instruments))
	for _, in := range book.instruments {
		var o metric.Observable
		var err error
		switch in.Kind {
		case Counter:
			o, err = m.Int64ObservableCounter(in.Name, metric.WithUnit(in.Unit), metric.WithDescription(in.Help))
		case Gauge:
			o, err = m.Float64ObservableGauge(in.Name, metric.WithUnit(in.Unit), metric.WithDescription(in.Help))
		default:
			continue
		}
		if err != nil {
			return fmt.Errorf("telemetry: observe %s: %w", in.Name, err)
		}
		observers[in] = o
	}
	callback := func(_ context.Context, out metric.Observer) error {
		r.walk(func(in *Instrument, labels []string, value float64) {
			attrs := metric.WithAttributeSet(attributes(in, labels))
			switch o := observers[in].(type) {
			case metric.Int64Observable:
				out.ObserveInt64(o, int64(value), attrs)
			case metric.Float64Observable:
				out.ObserveFloat64(o, value, attrs)
			}
		})
		return nil
	}
	all := make([]metric.Observable, 0, len(observers))
	for _, o := range observers {
		all = append(all, o)
	}
	if _, err := m.RegisterCallback(callback, all...); err != nil {
		return fmt.Errorf("telemetry: observe the catalog: %w", err)
	}
	return nil
}

func attributes(in *Instrument, labels []string) attribute.Set {
	kvs := make([]attribute.KeyValue, len(labels))
	for i, l := range labels {
		kvs[i] = attribute.String(in.Labels[i], l)
	}
	return attribute.NewSet(kvs...)
}

// Produce returns the histogram of request durations, with the bounds that
// Prometheus gets. It makes Registry a metric producer of OpenTelemetry's SDK.
func (r *Registry) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	l := r.Latency()
	le := l.cumulative()
	counts := make([]uint64, 0, len(classicBounds)+1)
	var below uint64
	for _, bound := range classicBounds {
		counts = append(counts, le[bound]-below)
		below = le[bound]
	}
	counts = append(counts, l.count-below)
	return []metricdata.ScopeMetrics{{
		Scope: instrumentation.Scope{Name: scope},
		Metrics: []metricdata.Metrics{{
			Name: duration.Name, Description: duration.Help, Unit: duration.Unit,
			Data: metricdata.Histogram[float64]{
				Temporality: metricdata.CumulativeTemporality,
				DataPoints: []metricdata.HistogramDataPoint[float64]{{
					StartTime: r.start, Time: time.Now(),
					Count: l.count, Sum: l.Sum().Seconds(),
					Bounds: slices.Clone(classicBounds), BucketCounts: counts,
				}},
			},
		}},
	}}, nil
}
