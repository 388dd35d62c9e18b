package telemetry

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// classicBounds are the histogram's upper bounds in seconds: those that the HTTP
// semantic conventions advise for http.server.request.duration (5 ms to 10 s),
// and finer ones below, where a sidecar's own share lies.
var classicBounds = []float64{
	0.0001, 0.00025, 0.0005, 0.001, 0.0025,
	0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10,
}

// nativeSchema gives 8 native buckets in each power of two, half as fine as what
// is recorded: finer ones would leave gaps where linear buckets are wider.
const nativeSchema = 3

// nativeZero is the zero bucket's width in seconds: what the first bucket holds.
const nativeZero = float64(1<<minExp) / 1e9

// Collector returns the one Prometheus collector of this registry. Its metrics
// are those of Catalog; counters without a request yet are exposed as 0.
func (r *Registry) Collector() prometheus.Collector {
	c := &collector{registry: r, descs: make(map[*Instrument]*prometheus.Desc, len(book.instruments))}
	for _, in := range book.instruments {
		labels := make([]string, len(in.Labels))
		for i, l := range in.Labels {
			labels[i] = PrometheusLabel(l)
		}
		c.descs[in] = prometheus.NewDesc(in.Prometheus(), in.Help, labels, nil)
	}
	return c
}

type collector struct {
	registry *Registry
	descs    map[*Instrument]*prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	c.registry.walk(func(in *Instrument, labels []string, value float64) {
		if in.Kind == Gauge {
			out <- prometheus.MustNewConstMetric(c.descs[in], prometheus.GaugeValue, value, labels...)
			return
		}
		out <- prometheus.MustNewConstMetricWithCreatedTimestamp(
			c.descs[in], prometheus.CounterValue, value, c.registry.start, labels...)
	})
	l := c.registry.Latency()
	out <- c.histogram(&l)
}

// histogram returns one metric with classic and native buckets.
func (c *collector) histogram(l *Latency) prometheus.Metric {
	desc, sum := c.descs[duration], l.Sum().Seconds()
	classic := prometheus.MustNewConstHistogramWithCreatedTimestamp(desc, l.count, sum, l.cumulative(), c.registry.start)
	zero, buckets := l.native()
	native, err := prometheus.NewConstNativeHistogram(desc, l.count, sum, buckets, nil, zero, nativeSchema, nativeZero, c.registry.start)
	if err != nil { // only if buckets and count disagree
		return prometheus.NewInvalidMetric(desc, err)
	}
	return both{classic, native}
}

// cumulative returns how many requests surely took at most each of
// classicBounds. A recorded bucket that a bound cuts counts above it, so a share
// within an objective is never overstated.
func (l *Latency) cumulative() map[float64]uint64 {
	le := make(map[float64]uint64, len(classicBounds))
	var seen uint64
	i := 0
	for _, bound := range classicBounds {
		for i < numBuckets-1 && float64(bucketLow(i+1)) <= bound*1e9 {
			seen += l.buckets[i]
			i++
		}
		le[bound] = seen
	}
	return le
}

// native returns the native histogram's zero bucket and its others by index: j
// holds (2^((j-1)/8), 2^(j/8)] seconds. Each recorded bucket goes where its
// middle lies.
func (l *Latency) native() (zero uint64, buckets map[int]int64) {
	buckets = make(map[int]int64)
	for i, n := range &l.buckets {
		switch {
		case n == 0:
		case i == 0:
			zero = n
		default:
			middle := float64(bucketLow(i)+bucketLow(i+1)) / 2e9
			j := int(math.Ceil(math.Log2(middle) * (1 << nativeSchema)))
			buckets[j] += int64(n)
		}
	}
	return zero, buckets
}

// both is one histogram in two forms; scrapers that know native histograms read
// those, the others the classic buckets.
type both struct{ classic, native prometheus.Metric }

// Desc implements prometheus.Metric.
func (b both) Desc() *prometheus.Desc { return b.classic.Desc() }

// Write implements prometheus.Metric.
func (b both) Write(out *dto.Metric) error {
	var native dto.Metric
	if err := b.native.Write(&native); err != nil {
		return err
	}
	if err := b.classic.Write(out); err != nil {
		return err
	}
	h, n := out.GetHistogram(), native.GetHistogram()
	h.Schema, h.ZeroThreshold, h.ZeroCount = n.Schema, n.ZeroThreshold, n.ZeroCount
	h.PositiveSpan, h.PositiveDelta = n.GetPositiveSpan(), n.GetPositiveDelta()
	return nil
}
