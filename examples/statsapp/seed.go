package statsapp

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"time"
)

// SeedStart is the first instant of seeded data: 2026-01-01T00:00:00Z in Unix
// milliseconds. Seeded events lie in the day from it on.
const SeedStart int64 = 1_767_225_600_000

const dayMS = int64(24 * time.Hour / time.Millisecond)

// Seed adds events to each of the tenants: views, some of which lead to a cart
// and a purchase within the hour. The same seed gives a tenant the same events
// whatever the other tenants are. It fails as Add does.
func (a *App) Seed(seed uint64, tenants []string, events int) error {
	for _, tenant := range tenants {
		for _, e := range seeded(seed, tenant, events) {
			if err := a.Add(e); err != nil {
				return fmt.Errorf("statsapp: seed: %w", err)
			}
		}
	}
	return nil
}

func seeded(seed uint64, tenant string, n int) []Event {
	h := fnv.New64a()
	_, _ = h.Write([]byte(tenant)) // a hash never fails
	rnd := rand.New(rand.NewPCG(seed, h.Sum64()))
	users := rand.NewZipf(rnd, 1.2, 20, uint64(max(n/4, 1)))
	events := make([]Event, 0, n)
	add := func(name, user, metric string, at int64) bool {
		if len(events) == n {
			return false
		}
		events = append(events, Event{
			Tenant: tenant, Metric: metric, Name: name, User: user, At: min(at, SeedStart+dayMS-1),
			Timed: true, Duration: 50 + rnd.Int64N(5000),
		})
		return true
	}
	for {
		user := fmt.Sprintf("u%d", users.Uint64())
		at := SeedStart + rnd.Int64N(dayMS)
		if !add("view", user, "", at) {
			return events
		}
		if rnd.IntN(4) > 0 {
			continue
		}
		at += 1 + rnd.Int64N(bucketMS/2)
		if !add("cart", user, "", at) || rnd.IntN(2) > 0 {
			continue
		}
		add("buy", user, "orders", at+1+rnd.Int64N(bucketMS/2))
	}
}
