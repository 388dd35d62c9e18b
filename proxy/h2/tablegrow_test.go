package h2

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestTableGrowsWithItsFields beside a list of them: a table starts small, and
// what is live is never overwritten, whatever the sizes.
func TestTableGrowsWithItsFields(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		table := dynamicTable{maxSize: defaultTableSize}
		type pair struct{ name, value []byte }
		var live []pair // oldest first
		size := 0
		evict := func(limit int) {
			for len(live) > 0 && size > limit {
				size -= len(live[0].name) + len(live[0].value) + entryOverhead
				live = live[1:]
			}
		}
		most := 1 << r.IntN(12) // some see small fields only
		for range 300 {
			if r.IntN(50) == 0 {
				table.resize(r.IntN(defaultTableSize + 1))
				evict(table.maxSize)
			}
			p := pair{bytes.Repeat([]byte{byte(r.Uint32())}, r.IntN(most)), bytes.Repeat([]byte{byte(r.Uint32())}, r.IntN(most))}
			name := p.name
			if table.len() > 0 && r.IntN(3) == 0 { // by index: a part of the table itself
				name, _ = table.entry(table.first + r.Uint64N(table.len()))
				p.name = bytes.Clone(name)
			}
			n := len(p.name) + len(p.value) + entryOverhead
			evict(table.maxSize - n)
			if n <= table.maxSize {
				live, size = append(live, p), size+n
			}
			table.insert(name, p.value, tableEntry{id: uint64(n)})
			if table.len() != uint64(len(live)) || table.size != size {
				t.Fatalf("seed %d: %d entries of %d bytes, want %d of %d", seed, table.len(), table.size, len(live), size)
			}
			for i, want := range live {
				number := table.first + uint64(i)
				if name, value := table.entry(number); !bytes.Equal(name, want.name) || !bytes.Equal(value, want.value) {
					t.Fatalf("seed %d: entry %d is %q: %q, want %q: %q", seed, i, name, value, want.name, want.value)
				}
				if e := table.slot(number); e.id != uint64(len(want.name)+len(want.value)+entryOverhead) {
					t.Fatalf("seed %d: entry %d has another's marks", seed, i)
				}
			}
		}
		if len(table.ring) > 2*defaultTableSize || len(table.entries) > tableSlots {
			t.Fatalf("seed %d: grown to %d bytes and %d entries", seed, len(table.ring), len(table.entries))
		}
	}
}

func TestTableStartsSmall(t *testing.T) {
	table := dynamicTable{maxSize: defaultTableSize}
	table.insert([]byte("user-agent"), []byte("h2load"), tableEntry{})
	if n := cap(table.ring) + 32*len(table.entries); n > 2<<10 {
		t.Errorf("a table with one field takes %d bytes, want at most 2 KiB", n)
	}
}
