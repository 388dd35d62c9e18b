package xds

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/quadnine/quadnine/snapshot"
)

// TestUsers: whatever clusters do, the names that are wanted and the clusters that
// use one are those that looking at all of them finds.
func TestUsers(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	a := NewApplier(ApplierOptions{Plane: newPlane(), Log: quiet})
	settings := func(name string) *snapshot.ClusterSettings {
		switch n := random.IntN(8); n {
		case 0:
			return nil
		case 1:
			return &snapshot.ClusterSettings{Name: name}
		case 2:
			return &snapshot.ClusterSettings{Name: name, Discovery: snapshot.EDS}
		default:
			return &snapshot.ClusterSettings{Name: name, Discovery: snapshot.EDS, Service: fmt.Sprintf("s%d", n)}
		}
	}
	slots := make([]*clusterSlot, 12)
	for i := range slots {
		slots[i] = &clusterSlot{name: fmt.Sprintf("c%d", i)}
	}
	for step := range 2000 {
		c := slots[random.IntN(len(slots))]
		switch random.IntN(3) {
		case 0:
			a.turn(c, settings(c.name), c.cur)
		case 1:
			a.turn(c, c.next, c.next)
		default:
			a.turn(c, nil, c.cur)
		}
		if random.IntN(4) > 0 {
			continue
		}
		before := a.eds.names
		moved := a.eds.settle()
		want := make(map[string]map[string]bool)
		for _, c := range slots {
			for _, s := range []*snapshot.ClusterSettings{c.next, c.cur} {
				if s != nil && s.Discovery == snapshot.EDS {
					if want[service(s)] == nil {
						want[service(s)] = make(map[string]bool)
					}
					want[service(s)][c.name] = true
				}
			}
			if parted := a.parted[c.name] != nil; parted != (c.next != c.cur || c.next == nil) && (parted || c.cur != nil) {
				t.Fatalf("step %d: %s is among the parted: %v", step, c.name, parted)
			}
		}
		if names := sortedKeys(want); !slices.Equal(names, a.eds.names) {
			t.Fatalf("step %d: names are %q, want %q", step, a.eds.names, names)
		}
		for _, name := range append(difference(before, a.eds.names), difference(a.eds.names, before)...) {
			if !slices.Contains(moved, name) {
				t.Fatalf("step %d: %q came or went, and is not among %q", step, name, moved)
			}
		}
		for name, by := range want {
			got := make(map[string]bool)
			for _, c := range a.eds.of[name] {
				got[c.name] = true
			}
			if !slices.Equal(sortedKeys(got), sortedKeys(by)) {
				t.Fatalf("step %d: %q is used by %v, want %v", step, name, got, by)
			}
		}
		if len(a.eds.of) != len(want) {
			t.Fatalf("step %d: %d names are kept, want %d", step, len(a.eds.of), len(want))
		}
	}
}
