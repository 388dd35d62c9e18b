package proxy

import (
	"bytes"
	"testing"

	"golang.org/x/net/http2"

	"github.com/quadnine/quadnine/telemetry"
)

// gentleRow is what a caller of good will does that looks like an attack.
type gentleRow struct {
	name, does string
	run        func(a *attacker)
}

var gentles = []gentleRow{
	{
		name: "grpc-bdp", does: "measures bandwidth as gRPC does: a PING and two WINDOW_UPDATEs for each DATA frame it reads",
		run: func(a *attacker) {
			id := uint32(1)
			a.each(20, func() {
				a.head(id, getHead("/big"), true)
				id += 2
				a.bdp = true
			}, func(n int) bool { return a.heads["200"] == n && a.data >= n<<20 })
		},
	},
	{
		name: "priorities", does: "sends PRIORITY trees before its requests, as nghttp does, and re-prioritizes each",
		run: func(a *attacker) {
			for i := range uint32(5) {
				_ = a.fr.WritePriority(3+2*i, http2.PriorityParam{Weight: uint8(i)})
			}
			id := uint32(101)
			a.each(200, func() {
				a.head(id, getHead("/"), true)
				for range 10 {
					_ = a.fr.WritePriority(id, http2.PriorityParam{Weight: 3})
				}
				id += 2
			}, func(n int) bool { return a.heads["200"] == n })
		},
	},
	{
		name: "h2load", does: "keeps 100 streams busy for 10,000 requests",
		run: func(a *attacker) {
			id := uint32(1)
			a.each(100, func() {
				for range 100 {
					a.head(id, getHead("/"), true)
					id += 2
				}
			}, func(n int) bool { return a.heads["200"] == 100*n && a.whole == 100*n })
		},
	},
	{
		name: "impatient", does: "gives up on every third request, 1,000 times",
		run: func(a *attacker) {
			id := uint32(1)
			a.each(500, func() {
				for i := range 6 {
					a.head(id, getHead("/"), true)
					if i%3 == 2 {
						_ = a.fr.WriteRSTStream(id, http2.ErrCodeCancel)
					}
					id += 2
				}
			}, func(n int) bool { return a.heads["200"] >= 4*n })
		},
	},
	{
		name: "long-head", does: "sends heads of 48 KiB in CONTINUATION frames of 1 KiB",
		run: func(a *attacker) {
			id := uint32(1)
			a.each(20, func() {
				p := getHead("/", "x", string(bytes.Repeat([]byte("v"), 48<<10)))
				_ = a.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p[:1024], EndStream: true})
				for p = p[1024:]; len(p) > 0; {
					n := min(len(p), 1024)
					_ = a.fr.WriteContinuation(id, n == len(p), p[:n])
					p = p[n:]
				}
				id += 2
			}, func(n int) bool { return a.heads["200"] == n })
		},
	},
	{
		name: "uploads", does: "sends 64 KiB bodies in DATA frames of 64 bytes, an empty one among them",
		run: func(a *attacker) {
			id := uint32(1)
			a.each(20, func() {
				a.head(id, postHead("/read"), false)
				for i := range 1000 {
					_ = a.fr.WriteData(id, false, mebibyte[:64])
					if i == 500 {
						_ = a.fr.WriteData(id, false, nil)
					}
				}
				_ = a.fr.WriteData(id, true, nil)
				id += 2
			}, func(n int) bool { return a.heads["200"] == n })
		},
	},
}

// each does do n times and waits each time until the connection has seen enough.
func (a *attacker) each(n int, do func(), seen func(n int) bool) {
	a.t.Helper()
	a.t.Cleanup(func() {
		if a.t.Failed() {
			a.t.Logf("heads %v, resets %v, %d bytes", a.heads, a.resets, a.data)
		}
	})
	for i := range n {
		a.mu.Lock() // the reader writes, too
		do()
		_ = a.w.Flush()
		a.mu.Unlock()
		a.until("it is answered", func() bool {
			if a.ended() {
				a.t.Fatalf("cut off after %d rounds: %v", i, a.goaway)
			}
			a.mu.Lock()
			defer a.mu.Unlock()
			return seen(i + 1)
		})
	}
}

// TestGentleCallers: no bound against attacks stops those who only use much.
func TestGentleCallers(t *testing.T) {
	for i := range gentles {
		row := &gentles[i]
		t.Run(row.name, func(t *testing.T) {
			f := newFort(t, nil)
			a := f.attack().h2()
			row.run(a)
			for _, id := range telemetry.DownstreamCut {
				if n := f.count(id); n > 0 {
					t.Errorf("%s counts %d", telemetry.CounterName(id), n)
				}
			}
		})
	}
}
