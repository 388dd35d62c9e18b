package policy

import (
	"slices"
	"testing"
	"time"

	"github.com/quadnine/quadnine"
)

const (
	everything = 1 << 16
	decayAfter = int64(10 * time.Minute)
)

func TestSweepDecaysWhatNobodyAsksFor(t *testing.T) {
	b := newBreakers(t, nil)
	asked, idle, half := numbered("acme", 0), numbered("acme", 1), numbered("acme", 2)
	for _, k := range []quadnine.Key{asked, idle, half} {
		trip(t, b, k, 0)
	}
	wantDecision(t, b, half, openFor, Probe)
	cfg := b.Config()
	cfg.OpenFor = time.Hour
	if err := b.Retune(cfg); err != nil {
		t.Fatal(err)
	}
	for now := int64(0); now < decayAfter; now += int64(time.Minute) {
		wantDecision(t, b, asked, now, Reject)
		if got := b.Sweep(everything, now); got != nil {
			t.Fatalf("at %v: %v", time.Duration(now), got)
		}
	}
	got := b.Sweep(everything, decayAfter+openFor+1)
	slices.SortFunc(got, func(x, y Transition) int {
		return len(x.Key.Metric) - len(y.Key.Metric) + int(x.Key.Metric[1]) - int(y.Key.Metric[1])
	})
	want := []Transition{{idle, LevelKey, Decayed}, {half, LevelKey, Decayed}}
	if !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for v := range b.All(decayAfter + openFor + 1) {
		switch v.Level {
		case LevelTenant:
			if v.Failures != 2 || v.LastReason != KeyDecayed || v.Keys != 1 {
				t.Errorf("tenant %+v, want 2 failures", v)
			}
		case LevelKey:
			if v.Key != asked {
				t.Errorf("%v is still there", v.Key)
			}
		}
	}
}

// Decays may open the tenant's breaker; that is told, and still changes no
// decision as long as keys have room for breakers of their own.
func TestSweepMayOpenTheTenantsBreaker(t *testing.T) {
	b := newBreakers(t, nil)
	for i := range 4 {
		trip(t, b, numbered("acme", i), 0)
	}
	now := decayAfter + int64(time.Minute)
	got := b.Sweep(everything, now)
	if want := (Transition{quadnine.Key{Tenant: "acme"}, LevelTenant, Opened}); !slices.Contains(got, want) || len(got) != 5 {
		t.Fatalf("got %v, want four decays and %v", got, want)
	}
	wantDecision(t, b, numbered("acme", 0), now, Forward)
	wantDecision(t, b, numbered("acme", 9), now, Forward)

	got = b.Sweep(everything, 3*now)
	if want := []Transition{{quadnine.Key{Tenant: "acme"}, LevelTenant, Decayed}}; !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	if keys, tenants := b.Counts(); keys != 0 || tenants != 0 {
		t.Fatalf("%d keys, %d tenants", keys, tenants)
	}
}

// Small sweeps reach every bucket.
func TestSweepGoesRound(t *testing.T) {
	b := newBreakers(t, func(c *BreakerConfig) { c.MaxKeysPerTenant = 65_536 })
	for i := range 2000 {
		send(b, numbered("acme", i), Failure, 0)
	}
	now := int64(5 * time.Minute)
	for range 2 * 65_536 / perBucket / 100 {
		b.Sweep(100, now)
	}
	if keys, tenants := b.Counts(); keys != 0 || tenants != 0 {
		t.Fatalf("%d keys, %d tenants are left", keys, tenants)
	}
}

func TestAllShowsEveryBreaker(t *testing.T) {
	b := newBreakers(t, nil)
	if got := slices.Collect(b.All(0)); len(got) != 0 {
		t.Fatalf("an empty table shows %+v", got)
	}
	trip(t, b, acme, 0)
	send(b, umbra, Failure, 0)
	send(b, umbra, Success, 0)
	send(b, quadnine.Key{Metric: "uv"}, Failure, 0)
	seen := map[string]BreakerView{}
	for v := range b.All(7) {
		seen[v.Level.String()+" "+v.Key.String()] = v
	}
	for _, want := range []BreakerView{
		{Key: acme, State: StateOpen, OpenedAgo: 7, RetryAfter: 30*time.Second - 7, LastReason: Upstream5xx},
		{Key: umbra, State: StateClosed, Failures: 1, Requests: 2, LastReason: Upstream5xx},
		{Key: quadnine.Key{Tenant: quadnine.OtherTenant, Metric: "uv"}, Failures: 1, Requests: 1, LastReason: Upstream5xx},
		{Key: quadnine.Key{Tenant: "acme"}, Level: LevelTenant, Keys: 1},
		{Key: quadnine.Key{Tenant: "umbra"}, Level: LevelTenant, Keys: 1},
		{Key: quadnine.Key{Tenant: quadnine.OtherTenant}, Level: LevelTenant, Keys: 1},
	} {
		name := want.Level.String() + " " + want.Key.String()
		if seen[name] != want {
			t.Errorf("%s: %+v, want %+v", name, seen[name], want)
		}
		delete(seen, name)
	}
	if len(seen) > 0 {
		t.Errorf("unexpected: %+v", seen)
	}
	for range b.All(7) {
		break // stopping early is fine
	}
}
