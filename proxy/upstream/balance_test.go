package upstream

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/quadnine/quadnine/proxy/shard"
	"github.com/quadnine/quadnine/snapshot"
)

// pools are some shards' pools that balance over one cluster. They do not run:
// only picks are made.
func pools(n int) (out []*Pool) {
	for i := range n {
		out = append(out, NewPool(shard.New(i, time.Now()), nil, Events{}))
	}
	return out
}

func picks(t *testing.T, c *Cluster, ps []*Pool, n int) map[string]int {
	t.Helper()
	seen := make(map[string]int)
	for i := range n {
		var r Request
		e, err := ps[i%len(ps)].lane(c).pick(0, &r)
		if err != nil {
			t.Fatal(err)
		}
		seen[e.Address]++
	}
	return seen
}

// chiSquared is the chi-squared distribution's upper 0.1 % by degrees of freedom.
var chiSquared = []float64{0, 10.828, 13.816, 16.266, 18.467, 20.515, 22.458, 24.322}

// fits wants what draw picks to be a sample of want's shares, by χ² at p > 0.001:
// where chance has it otherwise, another sample decides.
func fits(t *testing.T, draw func() map[string]int, want map[string]float64) {
	t.Helper()
	limit := chiSquared[len(want)-1]
	seen := draw()
	if distance(t, seen, want) <= limit {
		return
	}
	seen = draw()
	if d := distance(t, seen, want); d > limit {
		t.Fatalf("picked %v, want shares %v: χ² = %.1f > %.1f", seen, want, d, limit)
	}
}

// distance is χ².
func distance(t *testing.T, seen map[string]int, want map[string]float64) (d float64) {
	t.Helper()
	n, total := 0, 0.0
	for _, v := range seen {
		n += v
	}
	for _, w := range want {
		total += w
	}
	for a := range seen {
		if want[a] == 0 {
			t.Fatalf("%s was picked %d times, want never", a, seen[a])
		}
	}
	for a, w := range want {
		expected := float64(n) * w / total
		d += math.Pow(float64(seen[a])-expected, 2) / expected
	}
	return d
}

// sample returns a function that makes n picks of c on this many shards, counted
// by the first letters of the address.
func sample(t *testing.T, c *snapshot.Cluster, shards, n, letters int) func() map[string]int {
	t.Helper()
	cl, ps := NewCluster(c, nil, nil), pools(shards)
	return func() map[string]int {
		seen := make(map[string]int)
		for a, n := range picks(t, cl, ps, n) {
			seen[a[:letters]] += n
		}
		return seen
	}
}

func balancing(p snapshot.BalancePolicy, c *snapshot.Cluster) *snapshot.Cluster {
	c.Balance.Policy = p
	return c
}

func TestSharesByWeight(t *testing.T) {
	weighted := func() []snapshot.Endpoint {
		return []snapshot.Endpoint{{Address: "a", Weight: 1}, {Address: "b", Weight: 2}, {Address: "c", Weight: 7}}
	}
	alike := map[string]float64{"a": 1, "b": 1, "c": 1}
	for _, c := range []struct {
		name      string
		policy    snapshot.BalancePolicy
		endpoints []snapshot.Endpoint
		want      map[string]float64
	}{
		{"round robin", snapshot.RoundRobin, to("a", "b", "c"), alike},
		{"round robin, weighted", snapshot.RoundRobin, weighted(), map[string]float64{"a": 1, "b": 2, "c": 7}},
		{"least request", snapshot.LeastRequest, to("a", "b", "c"), alike},
		{"least request, weighted", snapshot.LeastRequest, weighted(), map[string]float64{"a": 1, "b": 2, "c": 7}},
		{"random", snapshot.Random, to("a", "b", "c"), alike},
		{"random knows no weights", snapshot.Random, weighted(), alike},
	} {
		for _, shards := range []int{1, 4} {
			t.Run(fmt.Sprintf("%s/%d", c.name, shards), func(t *testing.T) {
				fits(t, sample(t, balancing(c.policy, managed(c.endpoints...)), shards, 10_000, 1), c.want)
			})
		}
	}
}

// TestTurnsAreSpread: by deadlines, not in runs of one endpoint.
func TestTurnsAreSpread(t *testing.T) {
	cl := NewCluster(managed(snapshot.Endpoint{Address: "a", Weight: 1}, snapshot.Endpoint{Address: "b", Weight: 4}), nil, nil)
	p := pools(1)[0]
	last := 0
	for i := range 100 {
		var r Request
		e, _ := p.lane(cl).pick(0, &r)
		if e.Address == "a" {
			if gap := i - last; last > 0 && gap != 5 {
				t.Fatalf("the endpoint with a fifth of the weight came again after %d picks", gap)
			}
			last = i
		}
	}
	if last == 0 {
		t.Fatal("it never came")
	}
}

func TestRoundRobinIsInTurn(t *testing.T) {
	cl := NewCluster(managed(to("a", "b", "c")...), nil, nil)
	p := pools(1)[0]
	var order []string
	for range 9 {
		var r Request
		e, _ := p.lane(cl).pick(0, &r)
		order = append(order, e.Address)
	}
	if !slices.Equal(order[:3], order[3:6]) || !slices.Equal(order[:3], order[6:]) || order[0] == order[1] {
		t.Fatalf("picked %v", order)
	}
}

func TestLeastRequestAvoidsTheBusy(t *testing.T) {
	t.Run("choices", func(t *testing.T) {
		c := balancing(snapshot.LeastRequest, managed(to("slow", "a", "b", "c")...))
		c.Balance.Choices = 3
		cl := NewCluster(c, nil, nil)
		cl.Endpoints()[0].active.Add(100)
		// It is picked only when all three choices fall on it.
		seen := picks(t, cl, pools(1), 64_000)
		if n := seen["slow"]; n < 800 || n > 1200 {
			t.Fatalf("the busy one was picked %d times of 64,000, want about 1 in 64", n)
		}
	})
	t.Run("weighted", func(t *testing.T) {
		cl := NewCluster(balancing(snapshot.LeastRequest, managed(snapshot.Endpoint{Address: "slow", Weight: 2}, snapshot.Endpoint{Address: "a", Weight: 1})), nil, nil)
		cl.Endpoints()[0].active.Add(7) // 2/8 to 1
		fits(t, func() map[string]int { return picks(t, cl, pools(1), 10_000) }, map[string]float64{"slow": 1, "a": 4})
	})
}

// leveled is a cluster of one locality a priority, given as healths: h, d and u.
// Endpoints are called by priority and health.
func leveled(panicBelow float64, tiers ...string) *snapshot.Cluster {
	c := managed()
	c.Balance.Panic = panicBelow
	c.Assignment.Localities = nil
	for p, healths := range tiers {
		c.Assignment.Localities = append(c.Assignment.Localities, snapshot.Locality{Priority: uint32(p), Weight: 1})
		for i, h := range healths {
			health := map[rune]snapshot.Health{'h': snapshot.Healthy, 'd': snapshot.Degraded, 'u': snapshot.Unhealthy}[h]
			c.Assignment.Endpoints = append(c.Assignment.Endpoints, snapshot.Endpoint{
				Address: fmt.Sprintf("%d%c%d", p, h, i), Weight: 1, Health: health, Locality: p,
			})
		}
	}
	return c
}

// TestPrioritiesAsDocumented has the examples of the load balancing pages of
// Envoy's documentation.
func TestPrioritiesAsDocumented(t *testing.T) {
	const tens = "hhhhhhhhhhuuuuuuuuuuuuuuuuuuuu"
	of := func(healthy, all int) string { return tens[10-healthy : 10-healthy+all] }
	for _, c := range []struct {
		name  string
		below float64
		tiers []string
		want  map[string]float64 // by priority and health
	}{
		{"all healthy", 50, []string{"hhhh", "hhhh"}, map[string]float64{"0h": 100}},
		{"72 % healthy suffice", 50, []string{of(8, 11), "hhhh"}, map[string]float64{"0h": 100}},
		{"five of seven just suffice", 50, []string{"hhhhhuu", "hhhh"}, map[string]float64{"0h": 100}},
		{"70 % do not", 50, []string{of(7, 10), "hhhh"}, map[string]float64{"0h": 98, "1h": 2}},
		{"half of it", 50, []string{"hu", "hh"}, map[string]float64{"0h": 70, "1h": 30}},
		{"25 % healthy", 0, []string{"huuu", "hh"}, map[string]float64{"0h": 35, "1h": 65}},
		{"none healthy", 50, []string{"uu", "hh"}, map[string]float64{"1h": 100}},
		{"25 % and 25 %: scaled up", 0, []string{"huuu", "huuu"}, map[string]float64{"0h": 50, "1h": 50}},
		{"a gap", 50, []string{"uu", "", "hh"}, map[string]float64{"2h": 100}},
		{"degraded when the healthy do not suffice", 50, []string{"hdd"}, map[string]float64{"0h": 46, "0d": 54}},
		{"healthy below before degraded above", 50, []string{"hdd", "hh"}, map[string]float64{"0h": 46, "1h": 54}},
		{"degraded alone", 50, []string{"ddd"}, map[string]float64{"0d": 100}},
		{"panic", 50, []string{"huuu"}, map[string]float64{"0h": 25, "0u": 75}},
		{"no panic", 0, []string{"huuu"}, map[string]float64{"0h": 100}},
		{"nobody panics who is not needed", 50, []string{"huuu", "hu"}, map[string]float64{"0h": 35, "1h": 65}},
		{"total panic goes by size", 50, []string{"uu", "uuuu", "uu"}, map[string]float64{"0u": 25, "1u": 50, "2u": 25}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fits(t, sample(t, leveled(c.below, c.tiers...), 2, 20_000, 2), c.want)
		})
	}
}

// TestSharesThatRoundToNothing: 1 % of three in five is no whole percent.
func TestSharesThatRoundToNothing(t *testing.T) {
	for name, c := range map[string]struct {
		below float64
		tiers []string
		want  string // priority and health
	}{
		"most healthy":      {50, []string{"hhhuu"}, "0h"},
		"panic off":         {0, []string{"huu"}, "0h"},
		"the next priority": {50, []string{"uu", "hhhuu"}, "1h"},
		"degraded":          {50, []string{"dddu"}, "0d"},
		"healthy first":     {50, []string{"dddu", "hhu"}, "1h"},
		"no number":         {math.NaN(), []string{"hhhuu"}, "0h"},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := leveled(c.below, c.tiers...)
			cluster.Assignment.Overprovisioning = 1
			fits(t, sample(t, cluster, 1, 100, 2), map[string]float64{c.want: 1})
		})
	}
}

func TestPanicOfOnePriority(t *testing.T) {
	// 14 % and 70 %: together 84 %, so the first, below 50 %, panics.
	c := leveled(50, "huuuuuuuuu", "hu")
	// 14×100/84 = 16, 70×100/84 = 83, and 1 is left over for the first.
	fits(t, sample(t, c, 1, 20_000, 2), map[string]float64{"0h": 1.7, "0u": 15.3, "1h": 83})
}

func TestNobodyToAsk(t *testing.T) {
	cold := managed()
	cold.Assignment = nil
	flags := managed()
	flags.Balance.Policy = snapshot.LeastOfTwo
	for name, c := range map[string]*snapshot.Cluster{
		"cold": cold, "empty": managed(), "empty, from flags": flags,
		"unhealthy, and no panic": leveled(0, "uu", "u"), "unhealthy, and no number": leveled(math.NaN(), "uu", "u"),
	} {
		t.Run(name, func(t *testing.T) {
			var r Request
			if e, err := pools(1)[0].lane(NewCluster(c, nil, nil)).pick(0, &r); !errors.Is(err, ErrNone) {
				t.Fatalf("picked %v, error %v; want %v", e, err, ErrNone)
			}
		})
	}
}

func TestMembers(t *testing.T) {
	if all, healthy, degraded := NewCluster(leveled(50, "hhdu", "h"), nil, nil).Members(); all != 5 || healthy != 3 || degraded != 1 {
		t.Fatalf("%d members, %d healthy, %d degraded; want 5, 3, 1", all, healthy, degraded)
	}
}

func TestLocalitiesByWeight(t *testing.T) {
	c := managed(to("a1", "a2", "b1", "b2", "b3", "b4", "c1")...)
	c.Balance.ByLocality = true
	c.Assignment.Localities = []snapshot.Locality{{Zone: "a", Weight: 1}, {Zone: "b", Weight: 3}, {Zone: "c"}}
	for i, l := range []int{0, 0, 1, 1, 1, 1, 2} {
		c.Assignment.Endpoints[i].Locality = l
	}
	share := func(want map[string]float64) {
		t.Helper()
		fits(t, sample(t, c, 3, 20_000, 1), want)
	}
	share(map[string]float64{"a": 1, "b": 3}) // a locality without weight gets nothing
	for i := 3; i < 6; i++ {
		c.Assignment.Endpoints[i].Health = snapshot.Unhealthy
	}
	share(map[string]float64{"a": 1, "b": 3 * 0.25 * 1.4}) // a quarter of b is healthy
	c.Balance.ByLocality = false
	share(map[string]float64{"a": 2, "b": 1, "c": 1})
}

func TestEndpointNamedTwiceIsOne(t *testing.T) {
	fits(t, sample(t, managed(to("a", "a", "b")...), 1, 1000, 1), map[string]float64{"a": 1, "b": 1})
	c := leveled(50, "u", "h")
	c.Assignment.Endpoints[0].Address, c.Assignment.Endpoints[1].Address = "a", "a"
	if n := len(NewCluster(c, nil, nil).Endpoints()); n != 2 {
		t.Fatalf("%d endpoints, want one in each priority", n)
	}
}

// TestManyEndpoints: 10,000, all of which take part.
func TestManyEndpoints(t *testing.T) {
	const n = 10_000
	c := managed()
	for i := range n {
		c.Assignment.Endpoints = append(c.Assignment.Endpoints, snapshot.Endpoint{Address: strconv.Itoa(i), Weight: uint32(i%3 + 1)})
	}
	for _, p := range []snapshot.BalancePolicy{snapshot.RoundRobin, snapshot.LeastRequest} {
		c.Balance.Policy = p
		cl := NewCluster(c, nil, nil)
		seen := picks(t, cl, pools(1), 2*n)
		for i := range n {
			if v := seen[strconv.Itoa(i)]; v < i%3 || v > i%3+2 {
				t.Fatalf("endpoint %d of weight %d was picked %d times in one round", i, i%3+1, v)
			}
		}
	}
}

func TestPickAllocatesNothing(t *testing.T) {
	for _, p := range []snapshot.BalancePolicy{snapshot.LeastOfTwo, snapshot.RoundRobin, snapshot.LeastRequest, snapshot.Random} {
		for _, weight := range []uint32{1, 2} {
			c := balancing(p, managed(snapshot.Endpoint{Address: "a", Weight: 1}, snapshot.Endpoint{Address: "b", Weight: weight}))
			c.Balance.ByLocality = true
			c.Assignment.Localities[0].Weight = 1
			l := pools(1)[0].lane(NewCluster(c, nil, nil))
			var r Request
			if n := testing.AllocsPerRun(1000, func() {
				r.Tried = 0
				e, _ := l.pick(0, &r)
				r.note(e)
			}); n != 0 {
				t.Errorf("policy %d, weight %d: %v allocations a pick", p, weight, n)
			}
		}
	}
}

func BenchmarkPick(b *testing.B) {
	c := managed()
	for i := range 10_000 {
		c.Assignment.Endpoints = append(c.Assignment.Endpoints, snapshot.Endpoint{Address: strconv.Itoa(i), Weight: uint32(i%3 + 1)})
	}
	l := pools(1)[0].lane(NewCluster(c, nil, nil))
	b.ReportAllocs()
	for b.Loop() {
		var r Request
		if _, err := l.pick(0, &r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUpdate(b *testing.B) {
	c := managed()
	for i := range 10_000 {
		c.Assignment.Endpoints = append(c.Assignment.Endpoints, snapshot.Endpoint{Address: strconv.Itoa(i), Weight: 1})
	}
	cl := NewCluster(c, nil, nil)
	b.ReportAllocs()
	for b.Loop() {
		cl.Update(c)
	}
}
