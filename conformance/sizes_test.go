package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/quadnine/quadnine/bench/load"
	"github.com/quadnine/quadnine/bench/proc"
)

// TestBodiesOfEverySizeThroughEveryWindow moves bodies around the sizes where
// flow control turns (a byte, a frame, the default window of RFC 9113 section
// 6.9.2 and one more, several windows) through clients' windows from 1 KiB up:
// each body whole, nothing stuck, whether replies are held for storing or not.
func TestBodiesOfEverySizeThroughEveryWindow(t *testing.T) {
	dir := t.TempDir()
	sizes := []int{1, 16_384, 65_535, 65_536, 200_000, 1_500_000}
	for _, n := range sizes {
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(n)), make([]byte, n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a := addrs(t, 2)
	h2, h1 := a[0], a[1]
	listening(t, tool(t, "nghttpd", "--no-tls", "-a", "127.0.0.1", "-m", "1024", "-d", dir, strconv.Itoa(proc.Port(h2))), h2)
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf("daemon off; master_process off; pid %[1]s/pid; error_log stderr error; events {}\nhttp { access_log off; server { listen %[2]s; root %[1]s; } }\n", dir, h1)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	listening(t, tool(t, "nginx", "-e", "stderr", "-p", dir, "-c", conf), h1)

	for _, upstream := range []string{"h2c://" + h2, "h1://" + h1} {
		for name, more := range map[string][]string{"streamed": nil, "stored": {"--degrade", "/"}} {
			t.Run(upstream[:3]+" "+name, func(t *testing.T) {
				s := startSidecar(t, nil, append([]string{"--upstream", upstream}, more...)...)
				for _, n := range sizes {
					for _, bits := range []int{10, 16, 30} {
						r := load.Run{
							Addr: s.addr, Paths: []string{"/" + strconv.Itoa(n)}, Requests: requests(n),
							Clients: 4, Streams: 16, WindowBits: bits, CPU: -1,
						}
						if _, err := r.Do(deadline(t, time.Minute)); err != nil {
							t.Fatalf("%d bytes, windows of 2^%d: %v", n, bits, err)
						}
					}
				}
			})
		}
	}
}

// requests returns how often a body of n bytes is asked for: 20 MB in all, at
// least one request a stream.
func requests(n int) int {
	return min(max(20_000_000/n, 64), 400) * soak(1, 100)
}
