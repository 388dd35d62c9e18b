package policy

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestClosedOpensAtTheFourthFailureWithinAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreakers(t, nil)
		for range 3 {
			send(b, acme, Failure, clock())
			send(b, acme, Success, clock())
		}
		wantState(t, b, acme, clock(), StateClosed)
		if _, ev := send(b, acme, Failure, clock()); ev != Opened {
			t.Fatalf("fourth failure: %v, want opened", ev)
		}
		v := wantState(t, b, acme, clock(), StateOpen)
		if v.LastReason != Upstream5xx || v.RetryAfter != 30*time.Second || v.Level != LevelKey {
			t.Fatalf("view %+v", v)
		}
		wantDecision(t, b, umbra, clock(), Forward)
	})
}

func TestClosedForgetsFailuresOlderThanTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreakers(t, nil)
		for range 20 { // one every 20 s: never more than 3 in a minute
			if _, ev := send(b, acme, Failure, clock()); ev != None {
				t.Fatalf("at %v: %v", time.Now(), ev)
			}
			time.Sleep(20 * time.Second)
		}
	})
}

func TestClosedIgnoresNeutral(t *testing.T) {
	b := newBreakers(t, nil)
	for range 100 {
		send(b, acme, Neutral, 0)
	}
	if keys, tenants := b.Counts(); keys != 0 || tenants != 0 {
		t.Fatalf("%d keys, %d tenants", keys, tenants)
	}
}

func TestClosedByRate(t *testing.T) {
	b := newBreakers(t, func(c *BreakerConfig) { c.FailureRatePercent, c.MinRequests = 50, 10 })
	for range 5 {
		send(b, acme, Failure, 0)
	}
	for i := range 5 {
		_, ev := send(b, acme, Success, 0)
		if want := map[bool]Event{false: None, true: Opened}[i == 4]; ev != want {
			t.Fatalf("success %d after 5 failures: %v, want %v", i+1, ev, want)
		}
	}
	// A rate is exact: 2.9 % and 3.1 % lie on either side of 3 %.
	for _, c := range []struct {
		failures int
		want     State
	}{{29, StateClosed}, {31, StateOpen}} {
		b := newBreakers(t, func(c *BreakerConfig) { c.FailureRatePercent, c.MinRequests = 3, 1000 })
		for i := range 1000 {
			o := Success
			if i < c.failures {
				o = Failure
			}
			send(b, acme, o, 0)
		}
		wantState(t, b, acme, 0, c.want)
	}
}

// A busy slice of a window is halved rather than let run over, and keeps its rate.
func TestWindowHalvesWhenASliceIsFull(t *testing.T) {
	var w window
	for range 60_000 {
		w.add(7, 1, true)
		w.add(7, 1, false)
		w.add(7, 1, false)
		w.add(7, 1, false)
	}
	f, n := w.sum(7, 1)
	if n < maxMinReqs || f*100/n != 25 && f*100/n != 24 {
		t.Fatalf("%d failures of %d requests, want about 25 %% of at least %d", f, n, maxMinReqs)
	}
}

func TestWindowSlidesBySlices(t *testing.T) {
	var w window
	for tick := range int64(25) {
		w.add(tick, 3, tick%2 == 0)
		f, n := w.sum(tick, 3)
		wantN := int(min(tick+1, sliceCount))
		wantF := 0
		for i := tick; i > tick-int64(wantN); i-- {
			if i%2 == 0 {
				wantF++
			}
		}
		if f != wantF || n != wantN {
			t.Fatalf("tick %d: %d of %d, want %d of %d", tick, f, n, wantF, wantN)
		}
	}
	var once window
	once.add(0, 3, true)
	if f, _ := once.sum(sliceCount-1, 3); f != 1 {
		t.Fatal("forgotten within the window")
	}
	if f, _ := once.sum(sliceCount, 3); f != 0 {
		t.Fatal("remembered past the window")
	}
	if f, n := w.sum(24, 4); f != 0 || n != 0 {
		t.Fatalf("another salt sees %d of %d", f, n)
	}
	if f, n := w.sum(24, 3); f != 0 || n != 0 {
		t.Fatalf("sum left %d of %d of another salt's", f, n)
	}
}

func TestWindowTickWraps(t *testing.T) {
	var w window
	const wrap = tickMask + 1
	w.add(wrap-1, 1, true)
	w.add(wrap+3, 1, true)
	if f, _ := w.sum(wrap+3, 1); f != 2 {
		t.Fatalf("across the wrap: %d failures, want 2", f)
	}
	if f, _ := w.sum(2*wrap+30, 1); f != 0 {
		t.Fatalf("one wrap later: %d failures, want 0", f)
	}
}
