package statsapp

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// naive answers a query by looking at every event in the plainest way.
func naive(events []Event, q Query) (value float64, count int64) {
	var in []Event
	for _, e := range events {
		if e.Tenant == q.Tenant && e.At >= q.From && e.At < q.To && (q.Event == "" || e.Name == q.Event) {
			in = append(in, e)
		}
	}
	users := map[string]bool{}
	var custom, timed, total int64
	for _, e := range in {
		users[e.User] = true
		if e.Metric == q.Metric {
			custom++
		}
		if e.Timed {
			timed++
			total += e.Duration
		}
	}
	switch n := int64(len(in)); q.Metric {
	case "pv":
		return float64(n), n
	case "uv":
		return float64(len(users)), n
	case "ratio":
		if n == 0 {
			return 0, 0
		}
		return float64(len(users)) / float64(n), n
	case "avg_duration":
		if timed == 0 {
			return 0, 0
		}
		return float64(total) / float64(timed), timed
	case "funnel":
		return naiveFunnel(in, q.Steps), -1
	default:
		return float64(custom), custom
	}
}

// naiveFunnel tries every triple of events.
func naiveFunnel(events []Event, steps []string) float64 {
	users := map[string]bool{}
	for _, a := range events {
		if a.Name != steps[0] || users[a.User] {
			continue
		}
		for _, b := range events {
			if b.Name != steps[1] || b.User != a.User || b.At <= a.At {
				continue
			}
			for _, c := range events {
				if c.Name == steps[2] && c.User == a.User && c.At > b.At {
					users[a.User] = true
				}
			}
		}
	}
	return float64(len(users))
}

// randomEvents makes events dense enough for ties, repeats and funnels, over six
// buckets.
func randomEvents(rnd *rand.Rand, n int) []Event {
	events := make([]Event, n)
	for i := range events {
		e := Event{
			Tenant: fmt.Sprintf("t%d", rnd.IntN(2)),
			Name:   string(rune('a' + rnd.IntN(4))),
			User:   fmt.Sprintf("user-%d", rnd.IntN(n/10+1)),
			At:     SeedStart + rnd.Int64N(60)*bucketMS/10,
			Timed:  rnd.IntN(3) > 0,
		}
		if e.Timed {
			e.Duration = rnd.Int64N(10_000)
		}
		if rnd.IntN(5) == 0 {
			e.Metric = "signup"
		}
		events[i] = e
	}
	return events
}

func TestQueryEqualsNaive(t *testing.T) {
	for seed := range uint64(8) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		app := newApp(t, Options{})
		events := randomEvents(rnd, 400)
		for _, e := range events {
			if err := app.Add(e); err != nil {
				t.Fatal(err)
			}
		}
		for range 150 {
			q := Query{
				Tenant: fmt.Sprintf("t%d", rnd.IntN(2)),
				Metric: []string{"pv", "uv", "ratio", "avg_duration", "funnel", "signup"}[rnd.IntN(6)],
				From:   SeedStart + rnd.Int64N(70)*bucketMS/10 - bucketMS,
			}
			q.To = q.From + 1 + rnd.Int64N(6*bucketMS)
			if rnd.IntN(4) == 0 {
				q.From, q.To = 0, MaxTime
			}
			if q.Metric == "funnel" {
				for range 3 {
					q.Steps = append(q.Steps, string(rune('a'+rnd.IntN(5)))) // 'e' never happened
				}
			} else if rnd.IntN(2) == 0 {
				q.Event = string(rune('a' + rnd.IntN(5)))
			}
			got, err := app.Query(q)
			if err != nil {
				t.Fatalf("seed %d: %+v: %v", seed, q, err)
			}
			value, count := naive(events, q)
			if got.Value != value || !got.Exact || count >= 0 && got.Events != count {
				t.Fatalf("seed %d: %+v:\n got %v of %d events, exact %v\nwant %v of %d", seed, q, got.Value, got.Events, got.Exact, value, count)
			}
		}
	}
}

// The standard error of HyperLogLog with 2^14 registers is 1.04/√16384 = 0.81 %
// (Flajolet et al. 2007); 4 % is five of those.
func TestApproxIsNearAndSaysSo(t *testing.T) {
	app := newApp(t, Options{})
	for i := range 30_000 {
		e := Event{Tenant: "t", Name: "view", User: fmt.Sprintf("user-%d", i%20_000), At: SeedStart + int64(i)*997}
		if err := app.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct{ from, to int64 }{
		{0, MaxTime},
		{SeedStart + 1234, SeedStart + 5*bucketMS + 4321}, // begins and ends inside of buckets
	} {
		q := Query{Tenant: "t", Metric: "uv", From: tc.from, To: tc.to}
		exact, err := app.Query(q)
		if err != nil {
			t.Fatal(err)
		}
		q.Approx = true
		approx, err := app.Query(q)
		if err != nil {
			t.Fatal(err)
		}
		if !exact.Exact || exact.Method != "roaring" || approx.Exact || approx.Method != "hyperloglog" {
			t.Errorf("exact: %+v, approx: %+v", exact, approx)
		}
		if off := math.Abs(approx.Value-exact.Value) / exact.Value; off > 0.04 {
			t.Errorf("approx %v is %.1f %% off %v", approx.Value, 100*off, exact.Value)
		}
	}
}

func TestFunnelStepsCountEachStep(t *testing.T) {
	app := newApp(t, Options{})
	for i, e := range []struct {
		user, name string
		at         int64
	}{
		{"all", "c", 9},
		{"all", "a", 1},
		{"all", "b", 5},
		{"backwards", "c", 1},
		{"backwards", "b", 2},
		{"backwards", "a", 3},
		{"tied", "a", 4},
		{"tied", "b", 4},
		{"tied", "c", 4},
		{"two", "b", 1},
		{"two", "a", 2},
		{"two", "b", 3},
		{"two", "c", 3},
	} {
		if err := app.Add(Event{Tenant: "t", Name: e.name, User: e.user, At: SeedStart + e.at}); err != nil {
			t.Fatalf("event %d: %v", i, err)
		}
	}
	got, err := app.Query(Query{Tenant: "t", Metric: "funnel", To: MaxTime, Steps: []string{"a", "b", "c"}})
	if err != nil {
		t.Fatal(err)
	}
	want := []Step{{"a", 4}, {"b", 2}, {"c", 1}}
	if len(got.Steps) != 3 || got.Steps[0] != want[0] || got.Steps[1] != want[1] || got.Steps[2] != want[2] || got.Value != 1 {
		t.Errorf("steps %v, value %v; want %v, 1", got.Steps, got.Value, want)
	}
}
