package console

import (
	"fmt"
	"io"
	"iter"
	"net/http"
)

func (v *Views) clusters(w http.ResponseWriter, r *http.Request) {
	if f, ok := formatOf(w, r, asText, asJSON, asLines); ok {
		stream(w, f, "clusters", withArrays(v.Clusters()), clusterLines)
	}
}

// withArrays keeps "endpoints" an array in JSON where a cluster has none.
func withArrays(all iter.Seq[Cluster]) iter.Seq[Cluster] {
	return func(yield func(Cluster) bool) {
		for c := range all {
			if c.Endpoints == nil {
				c.Endpoints = []Endpoint{}
			}
			if !yield(c) {
				return
			}
		}
	}
}

// clusterLines writes c as Envoy's /clusters does, cluster::address::key::value,
// with Envoy's keys for the numbers that Envoy has too.
func clusterLines(w io.Writer, c Cluster) {
	name := printable(c.Name)
	_, _ = fmt.Fprintf(w, "%s::breaker::%s\n", name, c.Breaker)
	limitLines(w, name+"::default_priority", c.Default)
	limitLines(w, name+"::high_priority", c.High)
	if c.Default != nil {
		_, _ = fmt.Fprintf(w, "%s::added_via_api::%t\n", name, c.ViaAPI)
	}
	for _, e := range c.Endpoints {
		for _, kv := range []struct {
			key   string
			value any
		}{
			{"cx_active", e.Connections},
			{"cx_connect_fail", e.ConnectFailures},
			{"cx_total", e.TotalConnects},
			{"rq_active", e.ActiveRequests},
			{"rq_error", e.Errors},
			{"rq_success", e.Successes},
			{"rq_timeout", e.Timeouts},
			{"rq_total", e.Requests},
			{"hostname", printable(e.Hostname)},
			{"health_flags", healthFlags(e)},
			{"weight", e.Weight},
			{"region", printable(e.Region)},
			{"zone", printable(e.Zone)},
			{"sub_zone", printable(e.SubZone)},
			{"priority", e.Priority},
			{"protocol", e.Protocol},
		} {
			_, _ = fmt.Fprintf(w, "%s::%s::%s::%v\n", name, e.Address, kv.key, kv.value)
		}
	}
}

// limitLines writes a priority's thresholds as Envoy does, and what is taken.
func limitLines(w io.Writer, at string, l *Limits) {
	if l == nil {
		return
	}
	for _, kv := range []struct {
		key   string
		value any
	}{
		{"max_connections", l.MaxConnections},
		{"max_pending_requests", l.MaxPending},
		{"max_requests", l.MaxRequests},
		{"max_retries", l.MaxRetries},
		{"cx_open", l.Connections},
		{"rq_pending", l.Pending},
		{"rq_open", l.Requests},
		{"rq_overflow", l.Overflows},
	} {
		_, _ = fmt.Fprintf(w, "%s::%s::%v\n", at, kv.key, kv.value)
	}
}

// healthFlags is Envoy's form: "healthy", or each reason after a slash.
func healthFlags(e Endpoint) string {
	switch {
	case e.Flags != "":
		return printable(e.Flags)
	case e.Healthy:
		return "healthy"
	case e.Why == "":
		return "/failed"
	default:
		return "/" + printable(e.Why)
	}
}
