package telemetry

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quadnine/quadnine"
)

func TestShardCountsByTenantOutcomeAndStep(t *testing.T) {
	r := NewRegistry()
	a, b := r.NewShard(), r.NewShard()
	a.Request("t-1", OK, StepNone, 1000)
	b.Request("t-1", OK, StepNone, 2000)
	b.Request("t-1", Degraded, StepStale, 3000)
	a.Request("t-2", Degraded, StepPeer, 4000)
	a.Request("t-2", Outcome(200), DegradeStep(200), 5000) // out of range: counted, never a crash
	a.Count(CacheHits, 2)
	b.Count(CacheHits, 3)
	r.Count(CacheHits, 5)

	tenants := r.Tenants()
	want := map[string]Totals{
		"t-1":                {Outcomes: [numOutcomes]uint64{OK: 2, Degraded: 1}, Steps: [numSteps]uint64{StepStale: 1}},
		"t-2":                {Outcomes: [numOutcomes]uint64{Degraded: 1, LocalError: 1}, Steps: [numSteps]uint64{StepPeer: 1}},
		quadnine.OtherTenant: {},
	}
	if len(tenants) != len(want) {
		t.Fatalf("tenants %v, want %v", tenants, want)
	}
	for name, totals := range want {
		if tenants[name] != totals {
			t.Errorf("tenant %s: %+v, want %+v", name, tenants[name], totals)
		}
	}
	one := tenants["t-1"]
	if got := one.Requests(); got != 3 {
		t.Errorf("t-1 made %d requests, want 3", got)
	}
	if got := r.Total(CacheHits); got != 10 {
		t.Errorf("cache hits %d, want 10", got)
	}
	if got := r.Total(CacheMisses); got != 0 {
		t.Errorf("cache misses %d, want 0", got)
	}
	l := r.Latency()
	if l.Count() != 5 || l.Sum() != 15000 {
		t.Errorf("latency count %d sum %v, want 5 and 15µs", l.Count(), l.Sum())
	}
}

func TestTenantsAreBoundedOverAllShards(t *testing.T) {
	r := NewRegistry()
	a, b := r.NewShard(), r.NewShard()
	const asked = MaxTenants + 100
	for i := range asked {
		a.Request(fmt.Sprintf("a-%d", i), OK, StepNone, 1000)
		b.Request(fmt.Sprintf("b-%d", i), OK, StepNone, 1000)
	}
	b.Request("a-0", OK, StepNone, 1000) // admitted by the other shard, new to this one
	tenants := r.Tenants()
	if len(tenants) != MaxTenants+1 {
		t.Fatalf("%d tenants are counted by name or as _other, want %d", len(tenants), MaxTenants+1)
	}
	known := tenants["a-0"]
	if got := known.Requests(); got != 2 {
		t.Errorf("a-0 counts %d, want 2 over both shards", got)
	}
	other := tenants[quadnine.OtherTenant]
	if got, want := other.Requests(), uint64(2*asked-MaxTenants); got != want {
		t.Errorf("_other counts %d, want %d", got, want)
	}
}

func TestUnusableTenantsAreOther(t *testing.T) {
	r := NewRegistry()
	s := r.NewShard()
	for _, tenant := range []string{"", quadnine.OtherTenant, "\xff\xfe", strings.Repeat("x", maxTenantLen+1)} {
		s.Request(tenant, OK, StepNone, 1000)
	}
	s.Request(strings.Repeat("x", maxTenantLen), OK, StepNone, 1000)
	tenants := r.Tenants()
	other := tenants[quadnine.OtherTenant]
	if len(tenants) != 2 || other.Requests() != 4 {
		t.Fatalf("%d tenants, _other %d requests; want 2 and 4", len(tenants), other.Requests())
	}
}

func TestShardsWriteWhileOthersRead(t *testing.T) {
	r := NewRegistry()
	const shards, each = 3, 3000
	var writers, readers sync.WaitGroup
	stop := make(chan struct{})
	readers.Go(func() {
		var before uint64
		for {
			l := r.Latency()
			if n := l.Count(); n < before {
				t.Errorf("latency count fell from %d to %d", before, n)
			} else {
				before = n
			}
			r.Tenants()
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	for range shards {
		s := r.NewShard()
		writers.Go(func() {
			for i := range each {
				s.Request(fmt.Sprintf("t-%d", i%300), OK, StepNone, int64(i))
				s.Count(UpstreamConnects, 1)
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	var sum uint64
	for _, totals := range r.Tenants() {
		sum += totals.Requests()
	}
	l := r.Latency()
	if sum != shards*each || l.Count() != sum || r.Total(UpstreamConnects) != sum {
		t.Fatalf("requests %d, latencies %d, connects %d; want %d each", sum, l.Count(), r.Total(UpstreamConnects), shards*each)
	}
}

func TestRequestAllocs(t *testing.T) {
	s := full(t)
	for _, tenant := range []string{"t-0", "t-255", "stranger"} {
		if n := testing.AllocsPerRun(100, func() {
			s.Request(tenant, Degraded, StepStale, 123_456)
			s.Count(CacheHits, 1)
		}); n != 0 {
			t.Errorf("tenant %s: %v allocs a request, want 0", tenant, n)
		}
	}
}

// TestRequestTakesNoLock holds the only lock that a shard knows: past the bound a
// flood of new tenants must not make shards wait for one another.
func TestRequestTakesNoLock(t *testing.T) {
	s := full(t)
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Request("t-0", OK, StepNone, 1000)
		s.Request("stranger", OK, StepNone, 1000)
		s.Count(CacheHits, 1)
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("a shard waits for the tenants' lock")
	}
}

// full returns a shard that counts MaxTenants tenants, t-0 and up.
func full(tb testing.TB) *Shard {
	tb.Helper()
	s := NewRegistry().NewShard()
	for i := range MaxTenants {
		s.Request(fmt.Sprintf("t-%d", i), OK, StepNone, 1000)
	}
	return s
}

func BenchmarkRequest(b *testing.B) {
	for _, tenant := range []string{"t-17", "stranger"} {
		b.Run(tenant, func(b *testing.B) {
			s := full(b)
			b.ReportAllocs()
			for b.Loop() {
				s.Request(tenant, OK, StepNone, 123_456)
			}
		})
	}
}

func BenchmarkCount(b *testing.B) {
	s := NewRegistry().NewShard()
	for b.Loop() {
		s.Count(CacheHits, 1)
	}
}
