package compile

import (
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/quadnine/quadnine/snapshot"
)

// What a resource leaves out has Envoy's default.
func TestDefaultsAreEnvoys(t *testing.T) {
	l := listenerOf(t, withManager(""))
	want := snapshot.HTTP{
		Envoy: true, GenerateRequestID: true, ServerName: "envoy", ServerHeader: snapshot.ServerOverwrite,
		StreamIdleTimeout: 5 * time.Minute, IdleTimeout: time.Hour, DrainTimeout: 5 * time.Second, MaxHeadersKB: 60, MaxHeaders: 100,
	}
	if !reflect.DeepEqual(l.HTTP, want) {
		t.Errorf("listener has\n%+v, want\n%+v", l.HTTP, want)
	}
	if l.Role != snapshot.Outbound || l.RouteName != "r0" || l.RouteFetch != 15*time.Second || l.Address != "127.0.0.1:8080" || l.Breaker != nil || l.Cache != nil || l.Model != nil {
		t.Errorf("listener is %+v", l)
	}
	if !reflect.DeepEqual(l.Keys, snapshot.DefaultKeys()) {
		t.Errorf("keys are %+v", l.Keys)
	}
	c := clusterOf(t, `{"name":"c0"}`)
	settings := snapshot.ClusterSettings{
		Name: "c0", Protocol: snapshot.H1, ConnectTimeout: 5 * time.Second, IdleTimeout: time.Hour, DNSRefresh: 5 * time.Second,
		Static: &snapshot.Assignment{Overprovisioning: 140}, Balance: snapshot.Balance{Policy: snapshot.RoundRobin, Panic: 50},
		Thresholds: [2]snapshot.Thresholds{{MaxConnections: 1024, MaxPending: 1024, MaxRequests: 1024, MaxRetries: 3}, {MaxConnections: 1024, MaxPending: 1024, MaxRequests: 1024, MaxRetries: 3}},
	}
	if !reflect.DeepEqual(*c, settings) {
		t.Errorf("cluster is\n%+v, want\n%+v", *c, settings)
	}
	f := hostOf(t, `{"match":{"prefix":"/"},"route":{"cluster":"a"}}`).Routes[0].Forward
	if f.Timeout != 15*time.Second || f.HasIdle || f.NotFoundStatus != 503 || f.Priority != snapshot.PriorityDefault {
		t.Errorf("route is %+v", f)
	}
}

// Durations and thresholds at the end of their range do not overflow: a time plus
// a duration is still later than the time.
func TestGreatestValuesDoNotOverflow(t *testing.T) {
	f := hostOf(t, `{"match":{"prefix":"/"},"route":{"cluster":"a","timeout":"9223372035s","idleTimeout":"9223372035.999999999s"}}`).Routes[0].Forward
	now := time.Now()
	for _, d := range []time.Duration{f.Timeout, f.Idle} {
		if d < 99*365*24*time.Hour || now.UnixNano()+int64(d) < now.UnixNano() {
			t.Errorf("9223372035s became %v", d)
		}
	}
	c := clusterOf(t, `{"name":"c0","connectTimeout":"9223372035s","circuitBreakers":{"thresholds":[{"maxConnections":4294967295,"maxPendingRequests":4294967295,"maxRequests":4294967295,"maxRetries":4294967295}]},
		"upstreamConnectionOptions":{"tcpKeepalive":{"keepaliveTime":4294967295,"keepaliveInterval":4294967295,"keepaliveProbes":4294967295}}}`)
	if want := (snapshot.Thresholds{MaxConnections: math.MaxUint32, MaxPending: math.MaxUint32, MaxRequests: math.MaxUint32, MaxRetries: math.MaxUint32}); c.Thresholds[0] != want || c.Thresholds[1] != snapshot.DefaultThresholds {
		t.Errorf("thresholds are %+v", c.Thresholds)
	}
	if c.KeepAlive.Time <= 0 || c.KeepAlive.Interval <= 0 || c.KeepAlive.Probes <= 0 || c.ConnectTimeout <= 0 {
		t.Errorf("cluster is %+v", c)
	}
}

// Zero says none where Envoy says so, and is not the default.
func TestZeroTimeoutIsNone(t *testing.T) {
	f := hostOf(t, `{"match":{"prefix":"/"},"route":{"cluster":"a","timeout":"0s","idleTimeout":"0s"}}`).Routes[0].Forward
	if f.Timeout != 0 || f.Idle != 0 || !f.HasIdle {
		t.Errorf("route is %+v", f)
	}
	l := listenerOf(t, withManager(`"streamIdleTimeout":"0s","commonHttpProtocolOptions":{"idleTimeout":"0s"},"rds":{"configSource":{"ads":{},"initialFetchTimeout":"0s"},"routeConfigName":"x"}`))
	if l.HTTP.StreamIdleTimeout != 0 || l.HTTP.IdleTimeout != 0 || l.RouteFetch != 0 {
		t.Errorf("listener is %+v", l)
	}
}
