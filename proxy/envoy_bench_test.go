package proxy

import (
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// envoyBench is one exchange that goes through the stages that change heads, up
// to where a stream would be asked for, and back.
func envoyBench(tb testing.TB) func() {
	tb.Helper()
	l := listener("in", "sidecar:80", "a")
	h := l.Inline.Hosts[0]
	h.AttemptCount, h.AttemptCountResponse = true, true
	value, err := snapshot.ParseFormat("%PROTOCOL% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%")
	if err != nil {
		tb.Fatal(err)
	}
	h.Request = []snapshot.HeaderMutation{{Name: "x-from", Value: value}}
	h.Response = []snapshot.HeaderMutation{{Name: "x-from", Value: value, Action: snapshot.OverwriteOrAdd}}
	h.Routes[0].Forward.PrefixRewrite = "/v3/"
	h.Routes[0].Forward.Host.Literal = "stats.internal"
	l.HTTP = snapshot.HTTP{
		Envoy: true, UseRemoteAddress: true, NormalizePath: true, MergeSlashes: true, GenerateRequestID: true,
		ServerHeader: snapshot.ServerOverwrite, ServerName: "envoy", StreamIdleTimeout: time.Minute,
	}
	h.Routes[0].Match.Path = "/api/"
	fresh := &snapshot.VirtualHost{Name: h.Name, Domains: h.Domains, Routes: h.Routes, Mutations: h.Mutations, AttemptCount: true, AttemptCountResponse: true}
	l.Inline = &snapshot.RouteTable{Name: "in", Hosts: []*snapshot.VirtualHost{fresh}}
	if err := l.Inline.Finish(nil); err != nil {
		tb.Fatal(err)
	}
	s, err := New(Options{Snapshot: snapshotOf([]*snapshot.Listener{l}, cluster("a", "a:80")), Registry: telemetry.NewRegistry(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	lp := s.loops[0]
	x := &Exchange{loop: lp}
	x.reset()
	c := &downConn{loop: lp, h2: true, remote: netip.MustParseAddrPort("10.0.0.7:4000")}
	return func() {
		x.conn, x.site, x.reqEnded, x.wholeAt, x.finished = c, s.current.Load().sites["in"], true, 1, true // no timer: the shard runs
		for _, f := range [...][2]string{
			{":method", "GET"},
			{":scheme", "http"},
			{":authority", "stats"},
			{":path", "/api/metrics/query?tenant=a&metric=m"},
			{"user-agent", "bench"},
			{"x-tenant-id", "a"},
			{"x-envoy-retry-on", "5xx"},
		} {
			x.req.Add(f[0], f[1])
		}
		for _, stage := range lp.stages[:4] {
			if stage.Step(x) != Continue {
				tb.Fatalf("refused: %v", x.err)
			}
		}
		if !x.dispatch() {
			tb.Fatal(x.err)
		}
		x.headSeen, x.status, x.headAt = true, 200, 2
		x.resp.Add(":status", "200")
		x.serve()
		x.mutateResponse()
		x.decorate()
		x.reset()
	}
}

func TestEnvoyListenerAllocatesNothing(t *testing.T) {
	request := envoyBench(t)
	request()
	if n := testing.AllocsPerRun(100, request); n != 0 {
		t.Errorf("%v allocations a request", n)
	}
}

// BenchmarkEnvoyListener is what the heads of one request cost on a listener of
// a management server that rewrites host and path and mutates fields.
func BenchmarkEnvoyListener(b *testing.B) {
	request := envoyBench(b)
	b.ReportAllocs()
	for b.Loop() {
		request()
	}
}
