package proxy

import (
	"log/slog"
	"testing"
	"time"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// constant is a Models that always leases one version and counts nothing.
type constant struct {
	model Model
	lease Lease
}

func (c *constant) Release() {}

func (c *constant) For(quadnine.Key) *Model { return &c.model }

func (c *constant) Acquire(*Model, uint64) (Lease, bool) { return c.lease, true }

func (c *constant) AcquireShare(*Model, uint64, float64) (Lease, bool) { return c.lease, true }

func (c *constant) Named(string) *Model { return &c.model }

func (c *constant) Pin(*Model, uint64) (Lease, PinResult) { return Lease{}, PinUnknown }

func (c *constant) Other(*Model, uint64) (Lease, bool) { return Lease{}, false }

func (c *constant) TakeBack(*Model, uint64, policy.Evidence) (uint64, error) { return 0, nil }

// versionBench returns the stage and an exchange for it.
func versionBench(tb testing.TB, m Models) (version, *Exchange) {
	tb.Helper()
	snap, err := snapshot.Compile(snapshot.Source{Role: "inbound", Upstreams: []string{"h2c://127.0.0.1:1"}, Timeout: time.Second, Idle: time.Second})
	if err != nil {
		tb.Fatal(err)
	}
	s, err := New(Options{Snapshot: snap, Registry: telemetry.NewRegistry(), Log: slog.New(slog.DiscardHandler), Models: m})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	x := &Exchange{loop: s.loops[0]}
	x.reset()
	x.site, x.Key = s.current.Load().sites["main"], quadnine.Key{Tenant: "tenant-17", Metric: "score"}
	return version{s.loops[0]}, x
}

// step runs the stage on x with a request as it comes.
func (v version) step(x *Exchange) {
	x.req.Reset()
	x.req.Add(":path", "/api/v2/metrics/query?metric=score")
	x.req.Add("x-user-id", "user-4711")
	v.Step(x)
	x.lease.drop()
}

func oneVersion() *constant {
	c := &constant{model: Model{Name: "score"}}
	c.lease = Lease{Version: routedVersion(2), Hold: c}
	return c
}

func TestVersionStageAllocatesNothing(t *testing.T) {
	for name, m := range map[string]Models{"no models": nil, "routed": oneVersion()} {
		v, x := versionBench(t, m)
		v.step(x)
		if n := testing.AllocsPerRun(100, func() { v.step(x) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkVersion(b *testing.B) {
	b.Run("none", func(b *testing.B) { // the stage alone
		v, x := versionBench(b, nil)
		for b.Loop() {
			v.Step(x)
		}
	})
	b.Run("request", func(b *testing.B) { // what the next one's request costs without the stage
		v, x := versionBench(b, nil)
		for b.Loop() {
			v.step(x)
		}
	})
	b.Run("routed", func(b *testing.B) {
		v, x := versionBench(b, oneVersion())
		for b.Loop() {
			v.step(x)
		}
	})
}
