package policy

import (
	"testing"
	"testing/synctest"
	"time"
)

const openFor = int64(30 * time.Second)

func TestHalfOpenClosesOnSuccessAndStartsCountingAnew(t *testing.T) {
	b := newBreakers(t, nil)
	trip(t, b, acme, 0)
	if d, ev := send(b, acme, Success, openFor); d != Probe || ev != Closed {
		t.Fatalf("probe: %v, %v; want probe, closed", d, ev)
	}
	for range 3 { // the 4 failures of 30 s ago belong to an earlier epoch
		if _, ev := send(b, acme, Failure, openFor); ev != None {
			t.Fatalf("opened on an old count")
		}
	}
	if _, ev := send(b, acme, Failure, openFor); ev != Opened {
		t.Fatal("not opened on the fourth new failure")
	}
}

func TestHalfOpenOpensOnFailure(t *testing.T) {
	b := newBreakers(t, nil)
	trip(t, b, acme, 0)
	if d, ev := send(b, acme, Failure, openFor+5); d != Probe || ev != Opened {
		t.Fatalf("probe: %v, %v; want probe, opened", d, ev)
	}
	if got := b.RetryAfter(acme, openFor+5); got != 30*time.Second {
		t.Fatalf("RetryAfter = %v: the wait starts anew", got)
	}
}

func TestHalfOpenNeutralReleasesTheLease(t *testing.T) {
	b := newBreakers(t, nil)
	trip(t, b, acme, 0)
	p := wantDecision(t, b, acme, openFor, Probe)
	wantDecision(t, b, acme, openFor, Reject)
	if ev := b.Record(p, Neutral, Unspecified, openFor); ev != None {
		t.Fatal(ev)
	}
	wantState(t, b, acme, openFor, StateHalfOpen)
	wantDecision(t, b, acme, openFor, Probe)
	if ev := b.Record(p, Neutral, Unspecified, openFor+1); ev != None {
		t.Fatalf("recorded twice: %v", ev)
	}
}

func TestHalfOpenLeaseExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreakers(t, nil)
		trip(t, b, acme, clock())
		time.Sleep(30 * time.Second)
		lost := wantDecision(t, b, acme, clock(), Probe)
		time.Sleep(10*time.Second - time.Millisecond)
		wantDecision(t, b, acme, clock(), Reject)
		time.Sleep(2 * time.Millisecond)
		if v := b.Explain(acme, clock()); v.ProbesOut != 0 {
			t.Fatalf("%+v", v)
		}
		second := wantDecision(t, b, acme, clock(), Probe)
		for _, o := range []Outcome{Success, Failure, Neutral} {
			if ev := b.Record(lost, o, Upstream5xx, clock()); ev != None {
				t.Fatalf("late %v: %v", o, ev)
			}
		}
		if v := wantState(t, b, acme, clock(), StateHalfOpen); v.ProbesOut != 1 {
			t.Fatalf("%+v", v)
		}
		if ev := b.Record(second, Success, Unspecified, clock()); ev != Closed {
			t.Fatalf("the second probe: %v", ev)
		}
	})
}

// A lease that ran out but went to nobody still counts: its result is the newest
// there is.
func TestHalfOpenTakesALateResultThatNobodyReplaced(t *testing.T) {
	b := newBreakers(t, nil)
	trip(t, b, acme, 0)
	p := wantDecision(t, b, acme, openFor, Probe)
	if ev := b.Record(p, Success, Unspecified, 4*openFor); ev != Closed {
		t.Fatal(ev)
	}
}

func TestHalfOpenIgnoresResultsOfTheClosedEpoch(t *testing.T) {
	b := newBreakers(t, nil)
	send(b, acme, Failure, 0)
	_, old := b.Decide(acme, 0)
	for range 3 {
		send(b, acme, Failure, 0)
	}
	p := wantDecision(t, b, acme, openFor, Probe)
	for _, o := range []Outcome{Success, Failure} {
		if ev := b.Record(old, o, Upstream5xx, openFor); ev != None {
			t.Fatalf("%v begun while closed: %v", o, ev)
		}
	}
	wantState(t, b, acme, openFor, StateHalfOpen)
	if ev := b.Record(p, Success, Unspecified, openFor); ev != Closed {
		t.Fatal(ev)
	}
	if ev := b.Record(old, Failure, Upstream5xx, openFor); ev != None || b.Explain(acme, openFor).Failures != 0 {
		t.Fatal("a failure two epochs old was counted")
	}
}

func TestHalfOpenNeedsEverySuccess(t *testing.T) {
	b := newBreakers(t, func(c *BreakerConfig) { c.SuccessThreshold = 3 })
	trip(t, b, acme, 0)
	var out []Permit
	for range 3 {
		out = append(out, wantDecision(t, b, acme, openFor, Probe))
	}
	wantDecision(t, b, acme, openFor, Reject)
	for i, want := range []Event{None, None, Closed} {
		if ev := b.Record(out[i], Success, Unspecified, openFor); ev != want {
			t.Fatalf("success %d: %v, want %v", i+1, ev, want)
		}
	}
	trip(t, b, acme, openFor)
	now := 2 * openFor
	p, q := wantDecision(t, b, acme, now, Probe), wantDecision(t, b, acme, now, Probe)
	if ev := b.Record(p, Success, Unspecified, now); ev != None {
		t.Fatal(ev)
	}
	if ev := b.Record(q, Failure, UpstreamTimeout, now); ev != Opened {
		t.Fatal(ev)
	}
	if v := b.Explain(acme, now); v.LastReason != UpstreamTimeout {
		t.Fatalf("%+v", v)
	}
}
