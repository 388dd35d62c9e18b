package main

import (
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/console"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/proxy/upstream"
	"github.com/quadnine/quadnine/snapshot"
)

// views shows the data plane to the console.
func (s *sidecar) views() console.Views {
	v := console.Views{
		Ready: func() console.State {
			switch {
			case s.proxy.Draining(), s.proxy.HealthFailed():
				return console.Draining
			case s.managed != nil && !s.managed.applier.Ready().Live:
				return console.PreInitializing
			default:
				return console.Live
			}
		},
		Clusters:  s.clusters,
		Breakers:  s.breakers,
		Explain:   s.explain,
		Metrics:   s.tel.Registry.Handler(),
		Listeners: s.listeners, Certificates: s.certificates,
		Control: console.Control{
			FailHealth: s.proxy.FailHealth, DrainListeners: s.drainListeners, Quit: sync.OnceFunc(func() { close(s.quit) }),
		},
		Info: func() console.Info {
			snap := s.proxy.Config()
			i := console.Info{Version: version(), Started: s.started}
			for _, l := range snap.Listeners {
				i.Role = l.Role.String()
				for _, a := range s.proxy.Addrs(l.Name) {
					i.Listen = append(i.Listen, a.String())
				}
			}
			if c := snap.Clusters[snapshot.LocalCluster]; c != nil && s.managed == nil {
				for _, e := range c.Assignment.Endpoints {
					scheme := e.Protocol.String()
					if c.TLS != nil {
						scheme = "https"
					}
					i.Upstream = append(i.Upstream, scheme+"://"+e.Address)
				}
			}
			if s.managed != nil {
				i.Node = s.managed.boot.Node.GetId()
			}
			return i
		},
	}
	v.Note, v.Memory = s.note, s.memory
	if s.managed != nil {
		v.XDS = s.managed.views()
	}
	if s.models != nil {
		v.Models, v.Rollback, v.Activate = s.models.views, s.models.rollback, s.models.activate
		v.GC = s.models.gc
		v.Shadow, v.StartExperiment, v.StopExperiment = s.models.shadow, s.models.startExperiment, s.models.stopExperiment
	}
	return v
}

// note says what is not as it should be, for /ready.
func (s *sidecar) note() string {
	var notes []string
	if s.managed != nil {
		if n := s.managed.note(); n != "" {
			notes = append(notes, n)
		}
	}
	if s.proxy.Shedding() {
		notes = append(notes, "overloaded: "+strings.Join(s.proxy.Overload().Actions, ", "))
	}
	return strings.Join(notes, "\n")
}

func (s *sidecar) memory() console.Memory {
	o := s.proxy.Overload()
	return console.Memory{
		Used: o.Used, Max: o.Max, Resident: o.Resident, Connections: o.Connections, MaxConnections: o.MaxConnections, Actions: o.Actions,
	}
}

// drainListeners is what the console asks for.
func (s *sidecar) drainListeners(graceful, stay bool) {
	if graceful {
		s.proxy.Leave(s.drain, !stay)
	} else {
		s.proxy.DrainListeners()
	}
}

func (s *sidecar) listeners() iter.Seq[console.Listener] {
	return func(yield func(console.Listener) bool) {
		for _, l := range s.proxy.Config().Listeners {
			for _, a := range s.proxy.Addrs(l.Name) {
				if !yield(console.Listener{Name: l.Name, Address: a.String()}) {
					return
				}
			}
		}
	}
}

func protocolName(p snapshot.Protocol) string {
	switch p {
	case snapshot.H2C:
		return "h2"
	case snapshot.H1:
		return "http/1.1"
	default:
		return "unknown"
	}
}

func (s *sidecar) clusters() iter.Seq[console.Cluster] {
	return func(yield func(console.Cluster) bool) {
		for _, c := range s.proxy.Clusters() {
			v := console.Cluster{
				Name: c.Name, Breaker: c.State(), Default: limits(c.Usage(snapshot.PriorityDefault)), High: limits(c.Usage(snapshot.PriorityHigh)),
				ViaAPI: s.managed != nil && s.managed.viaAPI(c.Name),
			}
			for _, e := range c.Endpoints() {
				n, info := e.Counts(), e.Info()
				v.Endpoints = append(v.Endpoints, console.Endpoint{
					Address: e.Address, Protocol: protocolName(e.Protocol()), Healthy: e.Healthy(s.proxy.Now()), Why: e.LastError(),
					Connections: int(e.Conns()), ActiveRequests: int(e.Active()),
					ConnectFailures: n.ConnectFailures, TotalConnects: n.Connects, Requests: n.Requests, Errors: n.Errors, Successes: n.Successes, Timeouts: n.Timeouts,
					Hostname: info.Hostname, Weight: int(info.Weight), Region: info.Region, Zone: info.Zone, SubZone: info.SubZone, Priority: info.Priority, Flags: s.flags(e),
				})
			}
			if !yield(v) {
				return
			}
		}
	}
}

// flags are an endpoint's health as Envoy writes it; clusters from flags say why a
// dial failed instead.
func (s *sidecar) flags(e *upstream.Endpoint) string {
	if s.managed == nil {
		return ""
	}
	return e.HealthFlags(s.proxy.Now())
}

func limits(u upstream.Usage) *console.Limits {
	return &console.Limits{
		MaxConnections: u.MaxConnections, MaxPending: u.MaxPending, MaxRequests: u.MaxRequests, MaxRetries: u.MaxRetries,
		Connections: u.Connections, Pending: u.Pending, Requests: u.Requests,
		Overflows: u.ConnectionOverflows + u.PendingOverflows + u.RequestOverflows,
	}
}

func (s *sidecar) breakers() iter.Seq[console.Breaker] {
	return func(yield func(console.Breaker) bool) {
		var cfg policy.BreakerConfig
		if l := s.keyed(); l != nil {
			cfg = l.Breaker.Config
		}
		for v := range s.proxy.Breakers() {
			b := console.Breaker{
				Tenant: v.Key.Tenant, Metric: v.Key.Metric, State: v.State.String(), Failures: v.Failures,
				Threshold: cfg.FailureThreshold, Window: console.Seconds(cfg.Window), RetryAfter: console.Seconds(v.RetryAfter),
			}
			if v.LastReason != policy.Unspecified {
				b.Reason = v.LastReason.String()
			}
			if v.Level == policy.LevelTenant {
				b.Metric = "*"
			}
			if !yield(b) {
				return
			}
		}
	}
}

// explain walks the stages as a request of k would meet them now.
func (s *sidecar) explain(k quadnine.Key) console.Explanation {
	snap := s.proxy.Config()
	e := s.proxy.Explain(k)
	out := console.Explanation{Tenant: k.Tenant, Metric: k.Metric}
	step := func(stage, says, because string) {
		out.Steps = append(out.Steps, console.Step{Stage: stage, Says: says, Because: because})
	}
	l := s.keyed()
	if l == nil {
		out.Verdict, out.Because = "would be forwarded as its route says", "no listener has a quadnine.policy.v1.TenantBreaker: keys have no breaker of their own"
		return out
	}
	key := "tenant from " + list(l.Keys.Tenant) + "; metric from " + list(l.Keys.Metric)
	step("key", k.String(), key)
	if m := e.Model; m != nil {
		because := "no canary is on trial"
		if m.Trial != nil {
			because = m.Trial.String() + "; " + m.Trial.Expect()
		} else if n, evidence, ok := s.models.lastPromoted(m.Model); ok {
			because = fmt.Sprintf("%s@%d was promoted: %s", m.Model, n, evidence)
		}
		if n, r, ok := s.models.lastRefused(m.Model); ok {
			because += fmt.Sprintf("; %s@%d was taken back: %s", m.Model, n, r)
		}
		step("model", m.String(), because)
	}

	stale := e.Stored > 0
	b := e.Breaker
	says := b.State.String()
	because := fmt.Sprintf("%d of %d failures in the last %v", b.Failures, e.Threshold.FailureThreshold, e.Threshold.Window)
	if e.Threshold.FailureRatePercent > 0 {
		because = fmt.Sprintf("%d of %d requests failed in the last %v, opens at %v %%", b.Failures, b.Requests, e.Threshold.Window, e.Threshold.FailureRatePercent)
	}
	switch b.State {
	case policy.StateOpen:
		because = fmt.Sprintf("opened %v ago, last failure: %v; next probe in %v", b.OpenedAgo.Round(time.Millisecond), b.LastReason, b.RetryAfter.Round(time.Millisecond))
	case policy.StateHalfOpen:
		because = fmt.Sprintf("%d probe out; its result closes or opens it", b.ProbesOut)
	}
	if b.Level == policy.LevelTenant {
		because += " (its tenant's breaker: the table or the tenant's quota is full)"
	}
	step("breaker", says, because)

	healthy := 0
	for _, c := range e.Clusters {
		n, why := alive(c, s.proxy.Now())
		if c.Name == snapshot.LocalCluster && c.State() != "open" {
			healthy = n
		}
		step("cluster "+c.Name, c.State(), fmt.Sprintf("%d of %d endpoints usable%s", n, len(c.Endpoints()), why))
	}
	var prefixes []string
	var ttl time.Duration
	if t := snap.Table(l); t != nil {
		for _, h := range t.Hosts {
			for _, r := range h.Routes {
				if c := r.Over(h.Policies).Over(l.Policies).Cache; c != nil && !c.Disabled {
					prefixes, ttl = append(prefixes, r.Match.Path), c.Config.TTL
				}
			}
		}
	}
	degradeAt := " " + strings.Join(prefixes, " ")
	switch {
	case len(prefixes) == 0:
		step("cache", "off", "no --degrade prefix is configured")
	case stale:
		step("cache", fmt.Sprintf("%d stored replies", e.Stored), fmt.Sprintf("newest is %v old, told for up to %v, below%s", e.Newest.Round(time.Millisecond), ttl, degradeAt))
	default:
		step("cache", "empty", "no usable reply of this key is stored, below"+degradeAt)
	}

	switch {
	case b.State == policy.StateClosed && healthy > 0:
		out.Verdict, out.Because = "would forward", "the breaker is closed and an endpoint is usable"
	case b.State == policy.StateHalfOpen && b.ProbesOut == 0 && healthy > 0, b.State == policy.StateOpen && b.RetryAfter == 0 && healthy > 0:
		out.Verdict, out.Because = "would forward as a probe", "the breaker's waiting time is over"
	case l.Peers != "":
		out.Verdict, out.Because = "would ask a peer", "the upstream is not to be asked now"
	case stale:
		out.Verdict = fmt.Sprintf("would answer stale, age %d s", int(e.Newest.Seconds()))
		out.Because = "the upstream is not to be asked now and a reply is stored (for a query that was asked before)"
	default:
		out.Verdict, out.Because = "would answer 503", "the upstream is not to be asked now and nothing is stored"
	}
	return out
}

// keyed returns the first listener with a breaker per key, or nil.
func (s *sidecar) keyed() *snapshot.Listener {
	for _, l := range s.proxy.Config().Listeners {
		for face := range l.Faces {
			if face.Breaker != nil && !face.Breaker.Disabled {
				return face
			}
		}
	}
	return nil
}

func alive(c *upstream.Cluster, now int64) (n int, why string) {
	for _, e := range c.Endpoints() {
		if e.Healthy(now) && e.LastError() == "" {
			n++
		} else if why == "" {
			why = "; " + e.LastError()
		}
	}
	return n, why
}

func list(sources []snapshot.KeySource) string {
	names := make([]string, len(sources))
	for i, s := range sources {
		names[i] = s.String()
	}
	return strings.Join(names, ", then ")
}
