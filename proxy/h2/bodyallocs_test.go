//go:build !race

package h2

import (
	"testing"

	"github.com/quadnine/quadnine/internal/bufpool"
	"github.com/quadnine/quadnine/proxy/field"
)

// TestBodyAllocs: bodies that fill a window allocate nothing, although both sides'
// drivers keep no large output. The race detector has pools forget at random, so
// this is not for it.
func TestBodyAllocs(t *testing.T) {
	const size = 60_000
	for _, held := range []bool{false, true} {
		serve, ask := &exchanger{payload: make([]byte, size)}, &exchanger{}
		serve.reply.Add(":status", "200")
		cfg := DefaultConfig()
		if held { // most of the body waits in the stream
			cfg.OutputLimit = 1
		}
		client, server := NewClient(DefaultConfig(), ask), NewServer(cfg, serve)
		var head field.List
		head.Add(":method", "GET")
		head.Add(":scheme", "http")
		head.Add(":authority", "stats.test")
		head.Add(":path", "/")
		move := func(from, to *Conn) {
			for spare := bufpool.Get(0); ; spare = bufpool.Get(0) {
				p := from.TakeOutput(spare)
				if len(p) == 0 {
					bufpool.Free(from.TakeOutput(p))
					return
				}
				_ = to.Feed(0, p)
				bufpool.Free(p)
				from.Backlog(0)
			}
		}
		run := func() {
			if s, err := client.OpenStream(nil); err == nil {
				s.WriteHead(&head, true)
			}
			move(client, server)
			move(server, client)
			move(client, server)
		}
		for range 20 {
			run()
		}
		before := ask.ends
		if n := testing.AllocsPerRun(200, run); n > 0 {
			t.Errorf("held %v: %v allocations a reply of %d bytes", held, n, size)
		}
		if got := ask.ends - before; got != 201 {
			t.Errorf("held %v: %d replies ended, want 201", held, got)
		}
	}
}
