package conformance

import (
	"strings"
	"testing"
	"time"

	"github.com/quadnine/quadnine/bench/load"
)

func TestH2LoadLosesNothing(t *testing.T) {
	s, _ := behind(t)
	both(t, func(t *testing.T, h2 bool) {
		r := load.Run{Addr: s.addr, Paths: []string{query, "/api/v2/metrics/query?tenant=globex&metric=pv"}, Requests: soak(20_000, 2_000_000), Clients: 8, Streams: 32, HTTP1: !h2, CPU: -1}
		if !h2 {
			r.Streams = 1 // no pipelining: that is how clients use HTTP/1.1
		}
		res, err := r.Do(deadline(t, 20*time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d requests, %.0f a second, 0 failed", res.OK, res.PerSecond)
	})
}

func TestNghttpSeesCleanFrames(t *testing.T) {
	s, _ := behind(t)
	p := tool(t, "nghttp", "-v", "-n", "-m", "3", "-H", "te: trailers", s.url(query))
	if err := p.Wait(deadline(t, within)); err != nil {
		t.Fatalf("nghttp: %v\n%s", err, p.Output())
	}
	out := p.Output()
	if n := strings.Count(out, ":status: 200"); n != 3 {
		t.Errorf("%d replies with :status 200, want 3", n)
	}
	if n := strings.Count(out, "recv RST_STREAM"); n != 0 {
		t.Errorf("%d streams were reset", n)
	}
	if strings.Contains(out, "PROTOCOL_ERROR") {
		t.Error("nghttp found a protocol error")
	}
	if t.Failed() {
		t.Log(out)
	}
}
