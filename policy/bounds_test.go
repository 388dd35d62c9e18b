package policy

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/quadnine/quadnine"
)

func TestHealthyKeysCostNothing(t *testing.T) {
	b := newBreakers(t, nil)
	for i := range 10_000 {
		send(b, numbered("acme", i), Qualify([]int{200, 404, 400, 429, 501}[i%5]), 0)
	}
	if keys, tenants := b.Counts(); keys != 0 || tenants != 0 {
		t.Fatalf("%d keys and %d tenants after answers without a failure", keys, tenants)
	}
}

// A new table is a few kB, whatever its bounds.
func TestIdleTableIsSmall(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	b := newBreakers(t, func(c *BreakerConfig) { c.MaxKeys, c.MaxTenants = 1<<20, 1<<16 })
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 32<<10 {
		t.Fatalf("an empty table of 1 Mi keys takes %d bytes", got)
	}
	runtime.KeepAlive(b)
}

// isolationTenants are the tenants whose decisions must not change: each has a
// history in every state.
var isolationTenants = []string{"t0", "t1", "t2", "t3"}

func TestFloodOfOneTenantChangesNoOthersDecision(t *testing.T) {
	for _, rate := range []float64{0, 50} {
		t.Run(fmt.Sprintf("rate=%v", rate), func(t *testing.T) {
			change := func(c *BreakerConfig) { c.FailureRatePercent = rate; c.MinRequests = 4 }
			flooded, alone := newBreakers(t, change), newBreakers(t, change)
			r := rand.New(rand.NewPCG(1, 2))
			now, next := int64(0), 0
			for next < 65_536 {
				for range 64 {
					k := numbered("flood", next)
					for range 4 {
						send(flooded, k, Failure, now)
					}
					next++
				}
				k := numbered(isolationTenants[r.IntN(len(isolationTenants))], r.IntN(8))
				o := Outcome(r.IntN(2))
				df, ef := send(flooded, k, o, now)
				da, ea := send(alone, k, o, now)
				if df != da || ef != ea {
					t.Fatalf("after %d flood keys: %v gets %v, %v; alone %v, %v", next, k, df, ef, da, ea)
				}
				now += int64(r.IntN(200)) * int64(time.Millisecond)
			}
			keys, _ := flooded.Counts()
			if most := 4096 + 8*len(isolationTenants); keys > most {
				t.Fatalf("%d keys, want at most %d", keys, most)
			}
			for _, tenant := range isolationTenants {
				for i := range 8 {
					k := numbered(tenant, i)
					f, a := flooded.Explain(k, now), alone.Explain(k, now)
					f.Keys, a.Keys = 0, 0
					if f != a {
						t.Fatalf("%v: %+v, alone %+v", k, f, a)
					}
				}
			}
			fresh := quadnine.Key{Tenant: "newcomer", Metric: "uv"}
			trip(t, flooded, fresh, now)
			wantDecision(t, flooded, fresh, now, Reject)
		})
	}
}

// Past the quota a key is decided by its tenant's breaker, which opens, half-opens
// and closes like any other.
func TestKeysPastTheQuotaShareTheTenantsBreaker(t *testing.T) {
	b := newBreakers(t, func(c *BreakerConfig) { c.MaxKeysPerTenant = 2 })
	for i := range 2 {
		trip(t, b, numbered("acme", i), 0)
	}
	k, other := numbered("acme", 2), numbered("acme", 3)
	if v := b.Explain(k, 0); v.Level != LevelTenant || v.State != StateClosed || v.Keys != 2 {
		t.Fatalf("%+v", v)
	}
	_, begunClosed := b.Decide(k, 0)
	trip(t, b, k, 0)
	p := wantDecision(t, b, other, 0, Reject)
	if p.Level() != LevelTenant || b.RetryAfter(other, 0) != 30*time.Second {
		t.Fatalf("level %v, retry after %v", p.Level(), b.RetryAfter(other, 0))
	}
	wantDecision(t, b, numbered("acme", 0), 0, Reject)
	wantDecision(t, b, umbra, 0, Forward)

	probe := wantDecision(t, b, other, openFor, Probe)
	if probe.Event() != HalfOpened || probe.Level() != LevelTenant {
		t.Fatalf("%+v", probe)
	}
	wantDecision(t, b, k, openFor, Reject)
	for _, o := range []Outcome{Failure, Success} {
		if ev := b.Record(begunClosed, o, Upstream5xx, openFor); ev != None {
			t.Fatalf("a permit from before: %v", ev)
		}
	}
	if ev := b.Record(probe, Success, Unspecified, openFor); ev != Closed {
		t.Fatal(ev)
	}
	wantDecision(t, b, k, openFor, Forward)
}

func TestEvictionDropsOnlyWhatRemembersNoFailure(t *testing.T) {
	b := newBreakers(t, func(c *BreakerConfig) { c.MaxKeys, c.MaxKeysPerTenant = 3, 3 })
	open, half, recent := numbered("a", 0), numbered("a", 1), numbered("a", 2)
	trip(t, b, half, 0)
	wantDecision(t, b, half, openFor, Probe)
	trip(t, b, open, openFor)
	send(b, recent, Failure, openFor)
	send(b, numbered("a", 3), Failure, openFor) // no room: nothing may go
	send(b, umbra, Failure, openFor)            // nor for another tenant
	for _, k := range []quadnine.Key{open, half, recent} {
		if v := b.Explain(k, openFor); v.Level != LevelKey || v.Key != k {
			t.Fatalf("%v was dropped: %+v", k, v)
		}
	}
	later := openFor + int64(2*time.Minute) // recent's failure is forgotten
	send(b, umbra, Failure, later)
	if v := b.Explain(umbra, later); v.Level != LevelKey || v.Failures != 1 {
		t.Fatalf("no room was made: %+v", v)
	}
	wantState(t, b, open, later, StateOpen)
	wantState(t, b, half, later, StateHalfOpen)
	if keys, _ := b.Counts(); keys != 3 {
		t.Fatalf("%d keys, want 3", keys)
	}
}

func TestTenantsPastTheBoundShareOthers(t *testing.T) {
	b := newBreakers(t, func(c *BreakerConfig) { c.MaxTenants, c.MaxKeysPerTenant = 2, 2 })
	for i := range 2 {
		send(b, quadnine.Key{Tenant: fmt.Sprint("known", i), Metric: "pv"}, Failure, 0)
	}
	for i := range 2 { // their keys are their own as long as there is room
		trip(t, b, quadnine.Key{Tenant: fmt.Sprint("unknown", i), Metric: "pv"}, 0)
	}
	wantDecision(t, b, quadnine.Key{Tenant: "unknown2", Metric: "pv"}, 0, Forward)
	trip(t, b, quadnine.Key{Tenant: "unknown2", Metric: "pv"}, 0)
	wantDecision(t, b, quadnine.Key{Tenant: "unknown3", Metric: "uv"}, 0, Reject)
	wantDecision(t, b, quadnine.Key{Metric: "uv"}, 0, Reject) // no tenant is OtherTenant
	wantDecision(t, b, quadnine.Key{Tenant: "known0", Metric: "uv"}, 0, Forward)
	if v := b.Explain(quadnine.Key{Tenant: "unknown9"}, 0); v.Key.Tenant != quadnine.OtherTenant {
		t.Fatalf("%+v", v)
	}
	later := int64(10 * time.Minute) // the known ones have nothing to remember now, but their keys stand
	b.Sweep(1<<16, later)
	send(b, quadnine.Key{Tenant: "late", Metric: "pv"}, Failure, later)
	if v := b.Explain(quadnine.Key{Tenant: "late", Metric: "pv"}, later); v.Key.Tenant != "late" {
		t.Fatalf("%+v", v)
	}
}

func TestRateModeMakesBreakersAtFirstSight(t *testing.T) {
	b := newBreakers(t, func(c *BreakerConfig) {
		c.FailureRatePercent, c.MinRequests, c.MaxKeys, c.MaxKeysPerTenant = 50, 4, 8, 8
	})
	for i := range 100 {
		send(b, numbered("acme", i), Success, 0)
	}
	if keys, tenants := b.Counts(); keys != 8 || tenants != 1 {
		t.Fatalf("%d keys, %d tenants; want 8, 1", keys, tenants)
	}
	k := numbered("acme", 99)
	if v := b.Explain(k, 0); v.Requests != 1 || v.Level != LevelKey {
		t.Fatalf("%+v", v)
	}
}

// A permit may outlive its breaker.
func TestRecordAfterTheBreakerWasDropped(t *testing.T) {
	b := newBreakers(t, nil)
	send(b, acme, Failure, 0)
	_, p := b.Decide(acme, 0)
	later := int64(3 * time.Minute)
	b.Sweep(1<<16, later)
	if keys, tenants := b.Counts(); keys != 0 || tenants != 0 {
		t.Fatalf("%d keys, %d tenants after the sweep", keys, tenants)
	}
	b.Record(p, Success, Unspecified, later)
	if keys, _ := b.Counts(); keys != 0 {
		t.Fatal("a success made a breaker")
	}
	b.Record(p, Failure, Upstream5xx, later)
	if v := b.Explain(acme, later); v.Failures != 1 {
		t.Fatalf("the failure is lost: %+v", v)
	}

	trip(t, b, umbra, 0)
	probe := wantDecision(t, b, umbra, openFor, Probe)
	b.Sweep(1<<16, openFor+int64(time.Hour))
	if ev := b.Record(probe, Success, Unspecified, openFor+int64(time.Hour)); ev != None {
		t.Fatal(ev)
	}
}

// A result of an epoch that was over before its breaker was dropped is too late.
func TestRecordOfAnOldEpochAfterTheBreakerWasDropped(t *testing.T) {
	b := newBreakers(t, nil)
	send(b, acme, Failure, 0)
	_, old := b.Decide(acme, 0)
	for range 3 {
		send(b, acme, Failure, 0)
	}
	if _, ev := send(b, acme, Success, openFor); ev != Closed {
		t.Fatal(ev)
	}
	later := openFor + int64(3*time.Minute)
	b.Sweep(everything, later)
	b.Record(old, Failure, Upstream5xx, later)
	if keys, _ := b.Counts(); keys != 0 {
		t.Fatal("a failure from before the opening made a breaker")
	}
}

// The tenant's breaker that a permit saw may not be the one that gets its failure.
func TestRecordAfterTheTenantGotItsOwnBreaker(t *testing.T) {
	b := newBreakers(t, func(c *BreakerConfig) { c.MaxKeys, c.MaxKeysPerTenant, c.MaxTenants = 1, 1, 1 })
	late := quadnine.Key{Tenant: "late", Metric: "pv"}
	send(b, acme, Failure, 0) // takes the only key and the only tenant
	trip(t, b, umbra, 0)      // so this is OtherTenant's breaker
	if _, ev := send(b, umbra, Success, openFor); ev != Closed {
		t.Fatal(ev)
	}
	_, p := b.Decide(late, openFor)
	now := openFor + int64(3*time.Minute)
	b.Sweep(everything, now) // acme's place is free
	send(b, quadnine.Key{Metric: "x"}, Failure, now)
	b.Record(p, Failure, Upstream5xx, now)
	if v := b.Explain(late, now); v.Key.Tenant != "late" || v.Level != LevelTenant || v.Failures != 1 {
		t.Fatalf("the failure is lost: %+v", v)
	}
}

// Making room never takes the requests that another tenant's rate is made of.
func TestRateModeKeepsOtherTenantsCounts(t *testing.T) {
	b := newBreakers(t, func(c *BreakerConfig) { c.FailureRatePercent, c.MaxKeys, c.MaxKeysPerTenant = 50, 2, 2 })
	for i := range 2 {
		send(b, numbered("acme", i), Success, 0)
	}
	send(b, umbra, Success, 0)
	if v := b.Explain(umbra, 0); v.Level != LevelTenant {
		t.Fatalf("another tenant's counts were dropped: %+v", v)
	}
	later := int64(2 * time.Minute)
	send(b, umbra, Success, later)
	if v := b.Explain(umbra, later); v.Level != LevelKey {
		t.Fatalf("no room was made: %+v", v)
	}
}
