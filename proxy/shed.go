package proxy

import (
	"errors"
	"net"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/proxy/h1"
	"github.com/quadnine/quadnine/proxy/h2"
	"github.com/quadnine/quadnine/proxy/shard"
	"github.com/quadnine/quadnine/proxy/upstream"
	"github.com/quadnine/quadnine/telemetry"
)

// Overload is what is done against overload now, for admin pages.
type Overload struct {
	Connections    int64 // of callers
	MaxConnections int64 // 0: no bound
	Used, Max      int64 // bytes: HeapUsed, and the heap's ceiling or 0
	Resident       int64 // bytes; 0 where the system does not tell
	Actions        []string
}

// Overload looks at the bounds. It is safe for concurrent use.
func (s *Server) Overload() Overload {
	o := Overload{
		Connections: s.overload.open.Load(), MaxConnections: s.overload.limits.Connections,
		Used: HeapUsed(), Max: s.overload.ceiling(), Resident: resident(),
	}
	for a := range Actions {
		if s.overload.share[a].Load() > 0 {
			o.Actions = append(o.Actions, a.String())
		}
	}
	return o
}

// Shedding reports whether new requests or connections are refused now.
func (s *Server) Shedding() bool {
	for a := RefuseConnections; a < Actions; a++ {
		if s.overload.share[a].Load() > 0 {
			return true
		}
	}
	return false
}

// ceiling is the lowest limit of the runtime's memory, 0 without one.
func (o *overload) ceiling() (n int64) {
	for _, m := range o.limits.Memory {
		if m.heap && (n == 0 || m.Max < n) {
			n = m.Max
		}
	}
	return n
}

// admit lets a new connection in, or closes it.
func (s *Server) admit(nc net.Conn) bool {
	ok, full := s.overload.admit()
	if ok {
		return true
	}
	id := telemetry.TurnedAwayMemory
	if full {
		id = telemetry.TurnedAwayFull
	}
	s.registry.Count(id, 1)
	_ = nc.Close() // nothing is left to do about a failed close
	return false
}

// tookAction logs that an action against overload begins or ends.
func (s *Server) tookAction(a Action, taken bool, limit MemoryLimit, used int64) {
	if !taken {
		s.log.Info("overload is over", "action", a.String())
		return
	}
	s.log.Warn("overload", "action", a.String(), "limit", limit.Name, "used", used, "max", limit.Max,
		"hint", "callers need more than this process may hold: give it more memory, or fewer callers")
}

// shed answers a request that comes while there is no memory for it. Neither a
// peer nor a stored reply is tried: both need memory.
func (l *loop) shed(x *Exchange) Verdict {
	l.tel.Count(telemetry.RefusedOverload, 1)
	x.asked = true
	if x.site.HTTP.Envoy {
		x.fail(quadnine.Unavailable, quadnine.Local, "head", policy.Overload, errPlainOverloaded)
	} else {
		x.fail(quadnine.Unavailable, quadnine.Local, "head", policy.Overload, errOverloaded)
	}
	return Reply
}

// upstreamFailed counts how a try ended that has no whole reply.
func (l *loop) upstreamFailed(f *upstream.Failure) {
	id := telemetry.UpstreamStreamsMalformed
	switch {
	case f.ConnLost:
		id = telemetry.UpstreamStreamsLost
	case f.Remote:
		id = telemetry.UpstreamStreamsReset
	}
	l.tel.Count(id, 1)
}

// upstreamCut counts why a connection to an endpoint ended.
func (l *loop) upstreamCut(err error) {
	if e, ok := errors.AsType[*h2.ConnError](err); ok {
		l.tel.Count(telemetry.UpstreamCut[e.Flood], 1)
	} else if _, ok := errors.AsType[*h1.Error](err); ok {
		l.tel.Count(telemetry.UpstreamCut[h2.NoFlood], 1)
	} else if errors.Is(err, shard.ErrStalled) {
		l.tel.Count(telemetry.UpstreamStalled, 1)
	}
}

func (s *Server) overloadGauges() {
	r := s.registry
	r.Gauge(telemetry.MaxConnections, func() float64 { return float64(s.overload.limits.Connections) })
	r.Gauge(telemetry.MemoryUsed, func() float64 { return float64(HeapUsed()) })
	r.Gauge(telemetry.MemoryMax, func() float64 { return float64(s.overload.ceiling()) })
	r.Gauge(telemetry.MemoryResident, func() float64 { return float64(resident()) })
	r.Gauges(telemetry.OverloadActions, func(yield func(telemetry.Sample) bool) {
		for a := range Actions {
			if !yield(telemetry.Sample{Labels: []string{a.String()}, Value: float64(s.overload.share[a].Load()) / always}) {
				return
			}
		}
	})
}
