package policy

import (
	"testing"

	"github.com/quadnine/quadnine"
)

func wantAllocs(t *testing.T, what string, f func()) {
	t.Helper()
	if n := testing.AllocsPerRun(200, f); n != 0 {
		t.Errorf("%s: %v allocations", what, n)
	}
}

func TestDecideAllocs(t *testing.T) {
	b := newBreakers(t, nil)
	wantAllocs(t, "healthy key", func() { send(b, acme, Success, 0) })
	open := quadnine.Key{Tenant: "open", Metric: "pv"}
	trip(t, b, open, 0)
	wantAllocs(t, "open key", func() { b.Decide(open, 1) })
	send(b, umbra, Failure, 0)
	now := int64(0)
	wantAllocs(t, "key with failures", func() {
		now += openFor // never 4 in a minute
		send(b, umbra, Failure, now)
		send(b, umbra, Success, now)
	})
	wantState(t, b, umbra, now, StateClosed)
	flap := quadnine.Key{Tenant: "flap", Metric: "pv"}
	trip(t, b, flap, now)
	wantAllocs(t, "probes, closing and opening", func() {
		now += openFor
		if _, ev := send(b, flap, Success, now); ev != Closed {
			t.Fatal(ev)
		}
		for range 4 {
			send(b, flap, Failure, now)
		}
		b.RetryAfter(flap, now)
		b.Explain(flap, now)
	})
	rate := newBreakers(t, func(c *BreakerConfig) { c.FailureRatePercent = 50 })
	send(rate, acme, Success, 0)
	wantAllocs(t, "rate", func() { send(rate, acme, Success, 0) })
}

func BenchmarkDecideHealthy(b *testing.B) {
	br := newBreakers(b, nil)
	b.ReportAllocs()
	for b.Loop() {
		_, p := br.Decide(acme, 1)
		br.Record(p, Success, Unspecified, 1)
	}
}

func BenchmarkDecideOpen(b *testing.B) {
	br := newBreakers(b, nil)
	trip(b, br, acme, 0)
	b.ReportAllocs()
	for b.Loop() {
		br.Decide(acme, 1)
	}
}

func BenchmarkDecideRate(b *testing.B) {
	br := newBreakers(b, func(c *BreakerConfig) { c.FailureRatePercent = 50 })
	b.ReportAllocs()
	for b.Loop() {
		_, p := br.Decide(acme, 1)
		br.Record(p, Success, Unspecified, 1)
	}
}

// The key has a breaker among 60,000 others.
func BenchmarkDecideFull(b *testing.B) {
	br := newBreakers(b, func(c *BreakerConfig) { c.MaxKeysPerTenant = 65_536 })
	keys := make([]quadnine.Key, 60_000)
	for i := range keys {
		keys[i] = numbered("acme", i)
		send(br, keys[i], Failure, 0)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		_, p := br.Decide(keys[i%len(keys)], 1)
		br.Record(p, Success, Unspecified, 1)
		i += 7919
	}
}

func BenchmarkDecideParallel(b *testing.B) {
	br := newBreakers(b, nil)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_, p := br.Decide(acme, 1)
			br.Record(p, Success, Unspecified, 1)
		}
	})
}
