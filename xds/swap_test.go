package xds

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quadnine/quadnine/snapshot"
)

// TestSwapsLoseNothing changes cluster, endpoints and routes at once, 57 times,
// with what a server sends arriving in any order and late: each snapshot that the
// data plane gets has endpoints for every route.
func TestSwapsLoseNothing(t *testing.T) {
	for _, variant := range []string{VariantSotw, VariantDelta} {
		for seed := range uint64(25) {
			t.Run(fmt.Sprintf("%s/%d", variant, seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { newSwapper(t, variant, seed).run() })
			})
		}
	}
}

// swapper is a server whose snapshot n has one cluster cN with its endpoints, and
// one table with its routes.
type swapper struct {
	*rig
	*rand.Rand

	variant string
	now     int
	sent    map[Kind]int // the snapshot that was sent last, 0 for none
	told    map[string]int
}

func newSwapper(t *testing.T, variant string, seed uint64) *swapper {
	t.Helper()
	s := &swapper{rig: newRig(t, nil), Rand: rand.New(rand.NewPCG(seed, 57)), variant: variant, now: 1, sent: make(map[Kind]int), told: make(map[string]int)}
	s.plane.set(func(p *plane) {
		p.check = func(snap *snapshot.Snapshot) {
			for _, l := range snap.Listeners {
				table := snap.Table(l)
				if table == nil {
					t.Fatalf("listener %s has no routes", l.Name)
				}
				for _, name := range table.Clusters {
					c := snap.Clusters[name]
					if c == nil || c.Assignment == nil || len(c.Assignment.Endpoints) == 0 {
						t.Errorf("snapshot of server's %d: route to %s without endpoints: %+v", s.now, name, c)
					}
				}
			}
		}
	})
	return s
}

func (s *swapper) run() {
	defer func() { must(s.T, s.Close()) }()
	kinds := []Kind{KindCluster, KindEndpoints, KindListener, KindRoutes}
	for s.now < 58 {
		switch s.IntN(8) {
		case 0:
			if len(s.plane.now().Listeners) > 0 { // begin whole
				s.now++
			}
		case 1:
			time.Sleep(time.Duration(s.IntN(400)) * time.Millisecond)
		default:
			s.send(kinds[s.IntN(len(kinds))])
		}
	}
	for _, k := range []Kind{KindRoutes, KindCluster, KindListener, KindEndpoints} {
		s.send(k)
	}
	time.Sleep(2 * time.Second)
	want := fmt.Sprintf("l:80→c%d c%d(10.0.0.%d:80)", s.now, s.now, s.now)
	if got := s.plane.served(); got != want {
		s.Errorf("in the end %s\nwant %s", got, want)
	}
	if got := s.Wanted(KindEndpoints); !slices.Equal(got, []string{fmt.Sprintf("c%d", s.now)}) {
		s.Errorf("in the end subscribed to %v", got)
	}
}

// send delivers the server's newest of a kind.
func (s *swapper) send(k Kind) {
	u := Update{Kind: k, Variant: s.variant, Version: strconv.Itoa(s.now)}
	add := func(name, body string) {
		u.Resources = append(u.Resources, Resource{Name: name, Version: u.Version, Body: []byte(body)})
	}
	before := s.sent[k]
	switch k {
	case KindCluster:
		if before == s.now {
			return
		}
		add(fmt.Sprintf("c%d", s.now), fmt.Sprintf("c%d=eds", s.now))
		if before > 0 {
			u.Removed = []string{fmt.Sprintf("c%d", before)}
		}
	case KindEndpoints: // what is subscribed to and not told yet
		for _, name := range s.Wanted(k) {
			var n int
			_, err := fmt.Sscanf(name, "c%d", &n)
			must(s.T, err)
			switch {
			case n == s.now && s.told[name] != s.now:
				add(name, fmt.Sprintf("%s=10.0.0.%d:80", name, n))
			case n != s.now && s.told[name] != -s.now:
				u.Removed = append(u.Removed, name)
			default:
				continue
			}
			s.told[name] = s.now
			if n != s.now {
				s.told[name] = -s.now
			}
		}
	case KindListener:
		add("l", "l=:80/rds:r")
	case KindRoutes:
		if before == s.now || !slices.Contains(s.Wanted(k), "r") {
			return
		}
		add("r", fmt.Sprintf("r=c%d", s.now))
	case KindRuntime, kinds:
	}
	if u.Variant == VariantSotw {
		u.Removed = nil
	}
	if len(u.Resources)+len(u.Removed) == 0 {
		return
	}
	s.sent[k] = s.now
	if why := s.Update(u); why != nil {
		s.Errorf("rejected: %+v", why)
	}
}
