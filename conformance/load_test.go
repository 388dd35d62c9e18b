package conformance

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quadnine/quadnine/bench/load"
)

func TestH2LoadLosesNothing(t *testing.T) {
	s, _ := behind(t)
	for name, h2 := range protocols {
		t.Run(name, func(t *testing.T) {
			r := load.Run{Addr: s.addr, Paths: []string{query, "/api/v2/metrics/query?tenant=globex&metric=pv"}, Requests: soak(20_000, 2_000_000), Clients: 8, Streams: 32, HTTP1: !h2, CPU: -1}
			if !h2 {
				r.Streams = 1 // no pipelining: that is how clients use HTTP/1.1
			}
			res, err := r.Do(deadline(t, time.Duration(soak(1, 20))*time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d requests, %.0f a second, 0 failed", res.OK, res.PerSecond)
		})
	}
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

// TestNghttpSeesTrailersBehindALength sends a reply whose body has a length and
// trailers: the last frame is a header block, not the body.
func TestNghttpSeesTrailersBehindALength(t *testing.T) {
	s, _ := behind(t)
	file := filepath.Join(t.TempDir(), "four")
	if err := os.WriteFile(file, []byte("four"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := tool(t, "nghttp", "-v", "-n", "-H", "te: trailers", "-d", file, s.url("/api/v2/echo?trailers=1"))
	if err := p.Wait(deadline(t, within)); err != nil {
		t.Fatalf("nghttp: %v\n%s", err, p.Output())
	}
	out := p.Output()
	_, behindBody, ok := strings.Cut(out, "recv DATA frame")
	if !ok || !strings.Contains(behindBody, "x-echo-bytes: 4") {
		t.Errorf("no trailer x-echo-bytes: 4 behind the body in\n%s", out)
	}
}
