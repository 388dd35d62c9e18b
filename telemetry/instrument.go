package telemetry

import (
	"slices"
	"strings"
)

// Kind is what an instrument measures.
type Kind uint8

// The kinds.
const (
	Counter   Kind = iota // only grows, from the process's start
	Gauge                 // goes up and down; read by callback
	Histogram             // a distribution
)

// String returns the kind as Prometheus calls it.
func (k Kind) String() string { return [...]string{"counter", "gauge", "histogram"}[k] }

// CounterID names one counter of the catalog, its label values included.
type CounterID uint16

// GaugeID names one gauge of the catalog that has no labels.
type GaugeID uint16

// GaugesID names one gauge of the catalog that has labels.
type GaugesID uint16

// Instrument is one entry of the catalog. Name and Labels are OpenTelemetry's
// spelling, Unit is UCUM.
type Instrument struct {
	Name   string
	Unit   string
	Help   string
	Kind   Kind
	Labels []string

	series []fixed // the counters of this name that shards keep by number
}

// fixed is a counter whose label values are known beforehand.
type fixed struct {
	id     CounterID
	values []string
}

// Prometheus returns the name under which the instrument is scraped, by the
// rules of the OpenTelemetry specification ("Prometheus and OpenMetrics
// Compatibility"): dots become underscores, the unit is spelt out and appended,
// and a counter ends in "_total".
func (in *Instrument) Prometheus() string {
	name := PrometheusLabel(in.Name)
	switch in.Unit {
	case "s":
		name += "_seconds"
	case "By":
		name += "_bytes"
	}
	if in.Kind == Counter {
		name += "_total"
	}
	return name
}

// CounterName returns a counter's name with its label values, for pages and tests:
// "quadnine.requests.refused{flood}".
func CounterName(id CounterID) string {
	for _, in := range book.instruments {
		for _, s := range in.series {
			if s.id == id && len(s.values) > 0 {
				return in.Name + "{" + strings.Join(s.values, ",") + "}"
			}
			if s.id == id {
				return in.Name
			}
		}
	}
	return ""
}

// PrometheusLabel returns an attribute's name as Prometheus spells it.
func PrometheusLabel(name string) string { return strings.ReplaceAll(name, ".", "_") }

// Catalog returns a copy of every instrument, in the order of declaration.
func Catalog() []Instrument {
	all := make([]Instrument, len(book.instruments))
	for i, in := range book.instruments {
		all[i] = *in
		all[i].Labels = slices.Clone(in.Labels)
	}
	return all
}

// catalog collects the declarations of catalog.go while the package's
// variables are set up, and is read-only afterwards.
type catalog struct {
	instruments []*Instrument
	counters    int // how many CounterIDs were given out
}

var book catalog

func declare(k Kind, name, unit, help string, labels ...string) *Instrument {
	in := &Instrument{Name: name, Unit: unit, Help: help, Kind: k, Labels: labels}
	book.instruments = append(book.instruments, in)
	return in
}

// counters declares a counter with labels; with adds its series.
func counters(name, unit, help string, labels ...string) *Instrument {
	return declare(Counter, name, unit, help, labels...)
}

// counter declares a counter without labels.
func counter(name, unit, help string) CounterID {
	return declare(Counter, name, unit, help).with()
}

// with adds the series that has these label values.
func (in *Instrument) with(values ...string) CounterID {
	id := CounterID(book.counters)
	book.counters++
	in.series = append(in.series, fixed{id, values})
	return id
}

// gauge declares a gauge without labels.
func gauge(name, unit, help string) GaugeID { return GaugeID(gauges(name, unit, help)) }

// gauges declares a gauge with labels.
func gauges(name, unit, help string, labels ...string) GaugesID {
	declare(Gauge, name, unit, help, labels...)
	return GaugesID(len(book.instruments) - 1)
}
