package h2

import (
	"testing"

	"pgregory.net/rapid"
)

// TestStreamTable compares the table with a map.
func TestStreamTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var table streamTable
		want := make(map[uint32]*Stream)
		ids := rapid.OneOf(rapid.Uint32Range(1, 40), rapid.Custom(func(t *rapid.T) uint32 {
			return rapid.Uint32Range(0, 60).Draw(t, "step")<<20 | 1
		}))
		for range rapid.IntRange(0, 300).Draw(t, "steps") {
			id := ids.Draw(t, "id")
			if want[id] == nil {
				want[id] = &Stream{id: id}
				table.put(want[id])
			} else {
				table.remove(id)
				delete(want, id)
			}
			if table.n != len(want) {
				t.Fatalf("%d streams, want %d", table.n, len(want))
			}
			if got := table.get(id); got != want[id] {
				t.Fatalf("stream %d: %v, want %v", id, got, want[id])
			}
		}
		for id, s := range want {
			if table.get(id) != s {
				t.Fatalf("stream %d is lost", id)
			}
			table.remove(id)
		}
		for _, s := range table.slots {
			if s != nil {
				t.Fatalf("stream %d is left behind", s.id)
			}
		}
	})
}

// A table that is filled and emptied again and again keeps its memory; one that is
// no longer filled lets go of it.
func TestStreamTableMemory(t *testing.T) {
	var table streamTable
	streams := make([]Stream, 300)
	id := uint32(1)
	fill := func(n int) {
		for i := range n {
			streams[i].id = id
			table.put(&streams[i])
			id += 2
		}
		for i := range n {
			table.remove(streams[i].id)
		}
	}
	fill(len(streams))
	if n := testing.AllocsPerRun(10, func() { fill(len(streams)) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	fill(3)
	if len(table.slots) > 0 {
		t.Errorf("%d slots are kept", len(table.slots))
	}
}

func BenchmarkStreamTable(b *testing.B) {
	var table streamTable
	streams := make([]*Stream, 32)
	id := uint32(1)
	for i := range streams {
		streams[i] = &Stream{id: id}
		table.put(streams[i])
		id += 2
	}
	for i := 0; b.Loop(); i++ {
		s := streams[i%len(streams)]
		table.remove(s.id)
		s.id = id
		table.put(s)
		if table.get(id) != s {
			b.Fatal("lost")
		}
		id += 2
	}
}
