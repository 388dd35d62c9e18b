package main

import (
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/console"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/proxy/upstream"
	"github.com/quadnine/quadnine/snapshot"
)

// views shows the data plane to the console.
func (s *sidecar) views(snap *snapshot.Snapshot) console.Views {
	v := console.Views{
		Ready: func() console.State {
			if s.proxy.Draining() {
				return console.Draining
			}
			return console.Live
		},
		Clusters: s.clusters,
		Breakers: s.breakers,
		Explain:  func(k quadnine.Key) console.Explanation { return s.explain(snap, k) },
		Metrics:  s.tel.Registry.Handler(),
		Info: func() console.Info {
			i := console.Info{Version: version(), Role: snap.Listener.Role.String(), Listen: []string{s.Addr()}, Started: s.started}
			for _, e := range snap.Local.Endpoints {
				i.Upstream = append(i.Upstream, e.Protocol.String()+"://"+e.Address)
			}
			return i
		},
	}
	if s.models != nil {
		v.Models, v.Rollback = s.models.views, s.models.rollback
	}
	return v
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
			v := console.Cluster{Name: c.Name, Breaker: c.State()}
			for _, e := range c.Endpoints {
				n := e.Counts()
				v.Endpoints = append(v.Endpoints, console.Endpoint{
					Address: e.Address, Protocol: protocolName(e.Protocol()), Healthy: e.Healthy(s.proxy.Now()), Why: e.LastError(),
					Connections: int(e.Conns()), ActiveRequests: int(e.Active()),
					ConnectFailures: n.ConnectFailures, TotalConnects: n.Connects, Requests: n.Requests, Errors: n.Errors,
				})
			}
			if !yield(v) {
				return
			}
		}
	}
}

func (s *sidecar) breakers() iter.Seq[console.Breaker] {
	return func(yield func(console.Breaker) bool) {
		cfg := s.proxy.Config().Breaker
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
func (s *sidecar) explain(snap *snapshot.Snapshot, k quadnine.Key) console.Explanation {
	e := s.proxy.Explain(k)
	out := console.Explanation{Tenant: k.Tenant, Metric: k.Metric}
	step := func(stage, says, because string) {
		out.Steps = append(out.Steps, console.Step{Stage: stage, Says: says, Because: because})
	}
	key := "tenant from " + list(snap.Listener.Keys.Tenant) + "; metric from " + list(snap.Listener.Keys.Metric)
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
		if c.Name == "local" && c.State() != "open" {
			healthy = n
		}
		step("cluster "+c.Name, c.State(), fmt.Sprintf("%d of %d endpoints usable%s", n, len(c.Endpoints), why))
	}
	var prefixes []string
	for _, r := range snap.Routes {
		if r.Degrade {
			prefixes = append(prefixes, r.Prefix)
		}
	}
	degradeAt := " " + strings.Join(prefixes, " ")
	switch {
	case len(prefixes) == 0:
		step("cache", "off", "no --degrade prefix is configured")
	case stale:
		step("cache", fmt.Sprintf("%d stored replies", e.Stored), fmt.Sprintf("newest is %v old, told for up to %v, below%s", e.Newest.Round(time.Millisecond), snap.Cache.TTL, degradeAt))
	default:
		step("cache", "empty", "no usable reply of this key is stored, below"+degradeAt)
	}

	switch {
	case b.State == policy.StateClosed && healthy > 0:
		out.Verdict, out.Because = "would forward", "the breaker is closed and an endpoint is usable"
	case b.State == policy.StateHalfOpen && b.ProbesOut == 0 && healthy > 0, b.State == policy.StateOpen && b.RetryAfter == 0 && healthy > 0:
		out.Verdict, out.Because = "would forward as a probe", "the breaker's waiting time is over"
	case snap.Peers != nil:
		out.Verdict, out.Because = "would ask a peer", "the upstream is not to be asked now"
	case stale:
		out.Verdict = fmt.Sprintf("would answer stale, age %d s", int(e.Newest.Seconds()))
		out.Because = "the upstream is not to be asked now and a reply is stored (for a query that was asked before)"
	default:
		out.Verdict, out.Because = "would answer 503", "the upstream is not to be asked now and nothing is stored"
	}
	return out
}

func alive(c *upstream.Cluster, now int64) (n int, why string) {
	for _, e := range c.Endpoints {
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
