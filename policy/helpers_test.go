package policy

import (
	"strconv"
	"testing"
	"time"

	"github.com/quadnine/quadnine"
)

var (
	acme  = quadnine.Key{Tenant: "acme", Metric: "pv"}
	umbra = quadnine.Key{Tenant: "umbra", Metric: "pv"}
)

// clock is the bubble's time as policy takes it.
func clock() int64 { return time.Now().UnixNano() }

func newBreakers(tb testing.TB, change func(*BreakerConfig)) *Breakers {
	tb.Helper()
	cfg := DefaultBreakerConfig()
	if change != nil {
		change(&cfg)
	}
	b, err := NewBreakers(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// send decides for k at now and records o unless it is rejected.
func send(b *Breakers, k quadnine.Key, o Outcome, now int64) (Decision, Event) {
	d, p := b.Decide(k, now)
	if d == Reject {
		return d, p.Event()
	}
	ev := b.Record(p, o, Upstream5xx, now)
	if ev == None {
		ev = p.Event()
	}
	return d, ev
}

// trip opens k's breaker by as many failures as the defaults ask for.
func trip(tb testing.TB, b *Breakers, k quadnine.Key, now int64) {
	tb.Helper()
	for i := range b.Config().FailureThreshold {
		d, ev := send(b, k, Failure, now)
		want := None
		if i == b.Config().FailureThreshold-1 {
			want = Opened
		}
		if d != Forward || ev != want {
			tb.Fatalf("failure %d of %v: %v, %v; want forward, %v", i+1, k, d, ev, want)
		}
	}
}

func wantDecision(tb testing.TB, b *Breakers, k quadnine.Key, now int64, want Decision) Permit {
	tb.Helper()
	d, p := b.Decide(k, now)
	if d != want {
		tb.Fatalf("Decide(%v) = %v, want %v; breaker: %+v", k, d, want, b.Explain(k, now))
	}
	return p
}

func wantState(tb testing.TB, b *Breakers, k quadnine.Key, now int64, want State) BreakerView {
	tb.Helper()
	v := b.Explain(k, now)
	if v.State != want {
		tb.Fatalf("Explain(%v) = %+v, want %v", k, v, want)
	}
	return v
}

func numbered(tenant string, i int) quadnine.Key {
	return quadnine.Key{Tenant: tenant, Metric: "m" + strconv.Itoa(i)}
}
