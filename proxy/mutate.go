package proxy

import (
	"github.com/quadnine/quadnine/proxy/field"
	"github.com/quadnine/quadnine/snapshot"
)

// value is where in the loop's scratch buffer a mutation's value stands.
type value struct{ from, to int }

// mutate changes l as ms say, in Envoy's order: removals, then what overwrites,
// then what is added. All values are those of before any of it.
func (x *Exchange) mutate(l *field.List, ms []snapshot.HeaderMutation) {
	if len(ms) == 0 {
		return
	}
	for i := range ms {
		if ms[i].Remove {
			l.Del(ms[i].Name)
		}
	}
	lp := x.loop
	lp.scratch, lp.values = lp.scratch[:0], lp.values[:0]
	for i := range ms {
		m, v := &ms[i], value{from: -1}
		if !m.Remove && applies(m, l) {
			from := len(lp.scratch)
			lp.scratch = x.appendFormat(lp.scratch, m.Value, "")
			if len(lp.scratch) > from || m.KeepEmpty {
				v = value{from, len(lp.scratch)}
			}
		}
		lp.values = append(lp.values, v)
	}
	for pass := range 2 {
		for i := range ms {
			m, v := &ms[i], lp.values[i]
			if v.from < 0 || (pass == 0) != overwrites(m.Action) {
				continue
			}
			if text := lp.scratch[v.from:v.to]; pass == 0 {
				l.Del(m.Name)
				l.AddValue(m.Name, text)
			} else {
				x.appendValue(l, m.Name, text)
			}
		}
	}
}

func overwrites(a snapshot.AppendAction) bool {
	return a == snapshot.OverwriteOrAdd || a == snapshot.OverwriteIfExists
}

// appendValue adds a field. Those that Envoy keeps once it joins with a comma.
func (x *Exchange) appendValue(l *field.List, name string, v []byte) {
	i := -1
	if single(name) {
		i = l.Index(name)
	}
	if i < 0 {
		l.AddValue(name, v)
		return
	}
	lp := x.loop
	lp.joined = append(append(append(lp.joined[:0], l.Value(i)...), ','), v...)
	l.SetValue(name, lp.joined)
}

// single tells the fields of which Envoy keeps one line: its inline headers
// (envoy/http/header_map.h) that are neither framing nor pseudo-header fields.
func single(name string) bool {
	switch name {
	case "user-agent", "content-type", "date", "server", "location", "via", "x-request-id",
		"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port", "x-forwarded-client-cert",
		"x-client-trace-id", "grpc-status", "grpc-message", "grpc-timeout", "expect", "te", "proxy-status",
		"x-envoy-attempt-count", "x-envoy-expected-rq-timeout-ms", "x-envoy-external-address", "x-envoy-internal",
		"x-envoy-original-path", "x-envoy-original-host", "x-envoy-upstream-service-time", "x-envoy-decorator-operation",
		"x-envoy-downstream-service-cluster", "x-envoy-downstream-service-node":
		return true
	}
	return false
}

// mutateRequest applies what the weighted cluster, the route, the virtual host
// and the table say of requests.
func (x *Exchange) mutateRequest() {
	if x.weighted != nil {
		x.mutate(&x.req, x.weighted.Request)
	}
	t := x.site.table
	levels := [3]*snapshot.Mutations{&x.Route.Mutations, &x.host.Mutations, &t.Mutations}
	if t.SpecificWins {
		levels[0], levels[2] = levels[2], levels[0]
	}
	for _, m := range levels {
		if len(m.Request) > 0 {
			x.mutate(&x.req, m.Request)
		}
	}
}

// mutateResponse applies what they say of responses.
func (x *Exchange) mutateResponse() {
	if x.Route == nil || x.input != nil {
		return
	}
	if x.weighted != nil {
		x.mutate(&x.resp, x.weighted.Response)
	}
	t := x.site.table
	levels := [3]*snapshot.Mutations{&x.Route.Mutations, &x.host.Mutations, &t.Mutations}
	if t.SpecificWins {
		levels[0], levels[2] = levels[2], levels[0]
	}
	for _, m := range levels {
		if len(m.Response) > 0 {
			x.mutate(&x.resp, m.Response)
		}
	}
	if x.host.AttemptCountResponse && x.dispatched {
		x.resp.Del("x-envoy-attempt-count")
		x.resp.AddInt("x-envoy-attempt-count", x.attempts())
	}
}

// applies reports whether m's condition holds for l.
func applies(m *snapshot.HeaderMutation, l *field.List) bool {
	switch m.Action {
	case snapshot.AddIfAbsent:
		return !l.Has(m.Name)
	case snapshot.OverwriteIfExists:
		return l.Has(m.Name)
	default:
		return true
	}
}
