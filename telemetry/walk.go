package telemetry

import (
	"iter"
	"runtime/debug"
	"strings"
	"unicode/utf8"
)

// walk calls emit with every counter's and gauge's present value; both exporters
// are fed by it, so that they cannot disagree. labels is only valid during the
// call. The histogram is not part of it.
func (r *Registry) walk(emit func(in *Instrument, labels []string, value float64)) {
	labels := make([]string, 2)
	for tenant, all := range r.Tenants() {
		labels[0] = tenant
		for o, n := range all.Outcomes {
			labels[1] = Outcome(o).String()
			emit(requests, labels, float64(n))
		}
		for s := StepNone + 1; s < numSteps; s++ {
			labels[1] = s.String()
			emit(fallbacks, labels, float64(all.Steps[s]))
		}
	}
	dropped := r.walkGauges(emit)
	r.Count(SamplesDropped, dropped) // before the counters are read, so that this collection shows it
	for _, in := range book.instruments {
		for _, f := range in.series {
			emit(in, f.values, float64(r.Total(f.id)))
		}
	}
}

// walkGauges runs the callbacks and returns how many samples it left out.
func (r *Registry) walkGauges(emit func(in *Instrument, labels []string, value float64)) (dropped uint64) {
	for id, in := range book.instruments {
		r.mu.RLock()
		read := r.gauges[GaugesID(id)]
		r.mu.RUnlock() // not held during the callback, which may take locks of its own
		if read != nil {
			dropped += r.walkGauge(in, read, emit)
		}
	}
	return dropped
}

// walkGauge runs one callback. A panic in it ends that gauge's samples and
// nothing else: collections run on goroutines where it would end the process.
func (r *Registry) walkGauge(in *Instrument, read iter.Seq[Sample], emit func(in *Instrument, labels []string, value float64)) (dropped uint64) {
	defer func() {
		if p := recover(); p != nil {
			dropped++
			r.log().Error("a gauge's callback panicked; the gauge is left out", "gauge", in.Name, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	seen := make(map[string]struct{})
	for s := range read {
		if key, ok := sampleKey(in, s.Labels); !ok || !add(seen, key) {
			dropped++
			continue
		}
		emit(in, s.Labels, s.Value)
	}
	return dropped
}

// sampleKey returns what makes a sample's labels unique, or false when they
// could not be exposed: one such sample would make the whole scrape fail.
func sampleKey(in *Instrument, labels []string) (string, bool) {
	if len(labels) != len(in.Labels) {
		return "", false
	}
	for _, l := range labels {
		if !utf8.ValidString(l) {
			return "", false
		}
	}
	return strings.Join(labels, "\xff"), true // 0xff is in no UTF-8 string
}

// add puts key into set and reports whether it was new.
func add(set map[string]struct{}, key string) bool {
	n := len(set)
	set[key] = struct{}{}
	return len(set) > n
}
