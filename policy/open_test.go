package policy

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestOpenRejectsUntilOpenForHasPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreakers(t, nil)
		trip(t, b, acme, clock())
		time.Sleep(30*time.Second - 1)
		wantDecision(t, b, acme, clock(), Reject)
		if got := b.RetryAfter(acme, clock()); got != 1 {
			t.Fatalf("RetryAfter = %v, want 1ns", got)
		}
		time.Sleep(1)
		p := wantDecision(t, b, acme, clock(), Probe)
		if p.Event() != HalfOpened || !p.IsProbe() || p.Level() != LevelKey || p.Key() != acme {
			t.Fatalf("permit %+v", p)
		}
		if got := b.RetryAfter(acme, clock()); got != 0 {
			t.Fatalf("RetryAfter when half-open = %v", got)
		}
		if q := wantDecision(t, b, acme, clock(), Reject); q.Event() != None {
			t.Fatalf("half-opened twice")
		}
	})
}

func TestOpenIgnoresResultsOfTheClosedEpoch(t *testing.T) {
	b := newBreakers(t, nil)
	_, before := b.Decide(acme, 0) // issued when the key had no breaker
	send(b, acme, Failure, 0)
	_, after := b.Decide(acme, 0) // issued by its closed breaker
	for range 3 {
		send(b, acme, Failure, 0)
	}
	wantState(t, b, acme, 0, StateOpen)
	for _, p := range []Permit{before, after} {
		if ev := b.Record(p, Failure, Upstream5xx, 5); ev != None {
			t.Fatalf("late failure: %v", ev)
		}
	}
	if v := wantState(t, b, acme, 10, StateOpen); v.OpenedAgo != 10 {
		t.Fatalf("a late failure moved the opening: %+v", v)
	}
}

func TestRetuneAppliesToAnOpenBreaker(t *testing.T) {
	b := newBreakers(t, nil)
	trip(t, b, acme, 0)
	cfg := b.Config()
	cfg.OpenFor = time.Second
	if err := b.Retune(cfg); err != nil {
		t.Fatal(err)
	}
	wantDecision(t, b, acme, int64(time.Second), Probe)
}

func TestRetuneWindowStartsCountingAnew(t *testing.T) {
	b := newBreakers(t, nil)
	for range 3 {
		send(b, acme, Failure, 0)
	}
	cfg := b.Config()
	cfg.Window = 10 * time.Second
	if err := b.Retune(cfg); err != nil {
		t.Fatal(err)
	}
	if v := b.Explain(acme, 0); v.Failures != 0 {
		t.Fatalf("%+v", v)
	}
	cfg.FailureThreshold = 1
	if err := b.Retune(cfg); err != nil {
		t.Fatal(err)
	}
	if _, ev := send(b, acme, Failure, 0); ev != Opened {
		t.Fatalf("with threshold 1: %v", ev)
	}
}

func TestRetuneRefusesSizesAndBadValues(t *testing.T) {
	b := newBreakers(t, nil)
	for _, change := range []func(*BreakerConfig){
		func(c *BreakerConfig) { c.MaxKeys++ },
		func(c *BreakerConfig) { c.MaxKeysPerTenant-- },
		func(c *BreakerConfig) { c.MaxTenants-- },
		func(c *BreakerConfig) { c.Window = 0 },
	} {
		cfg := b.Config()
		change(&cfg)
		if err := b.Retune(cfg); err == nil {
			t.Fatalf("%+v accepted", cfg)
		}
		if b.Config() != DefaultBreakerConfig() {
			t.Fatal("a refused Retune changed something")
		}
	}
}
