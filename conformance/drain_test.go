package conformance

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/quadnine/quadnine/bench/proc"
	"github.com/quadnine/quadnine/bench/rivals"
)

// The requests that are in flight when a proxy is told to end.
const (
	heldConns   = 8
	heldStreams = 8 // on each, over HTTP/2; over HTTP/1.1 each request has a connection
	held        = heldConns * heldStreams
)

// holder is an upstream that answers held requests when it is told to.
type holder struct {
	addr    string
	body    string
	arrived atomic.Int64
	all     chan struct{} // closed once all have arrived
	release chan struct{}
}

// hold starts one.
func hold(t *testing.T) *holder {
	t.Helper()
	h := &holder{body: strings.Repeat("whole ", 1000), all: make(chan struct{}), release: make(chan struct{})}
	h.addr = serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/held" {
			if h.arrived.Add(1) == held {
				close(h.all)
			}
			select {
			case <-h.release:
			case <-r.Context().Done():
			}
		}
		_, _ = w.Write([]byte(h.body)) // a lost caller is counted on its own side
	})
	return h
}

// lost tells a proxy to end while all are in flight through it, lets the upstream
// answer once the proxy takes no new caller or is gone, and returns how many
// requests did not get their whole answer, and what the callers' connections heard.
func (h *holder) lost(t *testing.T, p *proc.Proc, addr string, h2 bool, signal syscall.Signal) (lost int64, conns []*wire) {
	t.Helper()
	ctx := deadline(t, 2*within)
	var wg sync.WaitGroup
	var missing atomic.Int64
	if h2 {
		for range heldConns {
			c := dialWire(t, addr)
			conns = append(conns, c)
			for range heldStreams {
				c.ask("/held")
			}
			wg.Go(func() { missing.Add(int64(heldStreams - c.whole(ctx, h.body))) })
		}
	} else {
		c := client(t, false)
		for range held {
			wg.Go(func() {
				status, got, err := get(ctx, c, "http://"+addr+"/held")
				if err != nil || status != http.StatusOK || string(got) != h.body {
					missing.Add(1)
				}
			})
		}
	}
	select {
	case <-h.all:
	case <-ctx.Done():
		t.Fatalf("%d of %d requests reached the upstream", h.arrived.Load(), held)
	}
	if err := p.Signal(signal); err != nil {
		t.Fatal(err)
	}
	until(ctx, func() bool {
		select {
		case <-p.Done():
			return true
		default:
			return refused(ctx, addr)
		}
	})
	close(h.release)
	wg.Wait()
	return missing.Load(), conns
}

// TestDrainLosesNothing sends SIGTERM while 64 requests are in flight: all of them
// get their whole answer, HTTP/2 callers are told to go in two steps (RFC 9113
// section 6.8), and the process ends with status 0.
func TestDrainLosesNothing(t *testing.T) {
	for name, h2 := range protocols {
		t.Run(name, func(t *testing.T) {
			for range soak(1, 20) {
				h := hold(t)
				s := startSidecar(t, nil, "--upstream", "h2c://"+h.addr, "--drain-time", "20s")
				n, conns := h.lost(t, s.Proc, s.addr, h2, syscall.SIGTERM)
				if n != 0 {
					t.Errorf("%d of %d requests in flight were lost", n, held)
				}
				for _, c := range conns {
					c.end(deadline(t, within))
					want := fmt.Sprintf("[2147483647 NO_ERROR %d NO_ERROR]", 2*heldStreams-1)
					if got := fmt.Sprint(c.goAways()); got != want {
						t.Errorf("a caller heard GOAWAY %s, want %s", got, want)
					}
				}
				if err := s.Wait(deadline(t, within)); err != nil {
					t.Errorf("a drained process ends with 0, got %v", err)
				}
			}
		})
	}
}

// TestDrainOfRivals prints what others lose in the same way: by SIGTERM, and by the
// signal that they are drained with. Nothing is asserted of them.
func TestDrainOfRivals(t *testing.T) {
	table := fmt.Sprintf("%-8s %-8s %s\n", "", "signal", "lost of 64")
	row := func(name string, signal syscall.Signal, start func(t *testing.T, h *holder) (*proc.Proc, string)) {
		h := hold(t)
		p, addr := start(t, h)
		n, _ := h.lost(t, p, addr, true, signal)
		table += fmt.Sprintf("%-8s %-8s %d\n", name, map[syscall.Signal]string{syscall.SIGTERM: "SIGTERM", syscall.SIGUSR1: "SIGUSR1", syscall.SIGQUIT: "SIGQUIT"}[signal], n)
	}
	rival := func(name string) func(t *testing.T, h *holder) (*proc.Proc, string) {
		return func(t *testing.T, h *holder) (*proc.Proc, string) {
			t.Helper()
			for _, r := range rivals.All() {
				if r.Name != name {
					continue
				}
				run, err := r.Start(deadline(t, within), rivals.Place{
					Mode: rivals.Plain, Dir: t.TempDir(), CPU: -1, To: &rivals.Backend{H2: h.addr, H1: h.addr, Body: []byte(h.body)},
				})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(run.Stop)
				return run.Proc, run.Addr
			}
			t.Fatalf("no rival is called %s", name)
			return nil, ""
		}
	}
	row("quadnine", syscall.SIGTERM, func(t *testing.T, h *holder) (*proc.Proc, string) {
		t.Helper()
		s := startSidecar(t, nil, "--upstream", "h2c://"+h.addr, "--drain-time", "20s")
		return s.Proc, s.addr
	})
	row("HAProxy", syscall.SIGTERM, rival(rivals.NameHAProxy))
	row("HAProxy", syscall.SIGUSR1, rival(rivals.NameHAProxy))
	row("nginx", syscall.SIGTERM, startNginx)
	row("nginx", syscall.SIGQUIT, startNginx)
	row("Envoy", syscall.SIGTERM, rival(rivals.NameEnvoy))
	t.Logf("requests in flight that were lost, %d connections × %d streams\n%s", heldConns, heldStreams, table)
}

// startNginx starts nginx as it is run in production: with a master, which drains
// its worker. (The bench measures one process without.)
func startNginx(t *testing.T, h *holder) (p *proc.Proc, addr string) {
	t.Helper()
	dir, addr := t.TempDir(), addrs(t, 1)[0]
	path := filepath.Join(dir, "nginx.conf")
	config := fmt.Sprintf(`daemon off; worker_processes 1; user root; pid %[1]s/pid; error_log stderr error; events {}
http { access_log off; client_body_temp_path %[1]s/1; proxy_temp_path %[1]s/2; fastcgi_temp_path %[1]s/3; uwsgi_temp_path %[1]s/4; scgi_temp_path %[1]s/5;
server { listen %[2]s http2; location / { proxy_pass http://%[3]s; proxy_http_version 1.1; proxy_set_header Connection ""; } } }`, dir, addr, h.addr)
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p = start(t, mustFind(t, "nginx"), []string{"-e", "stderr", "-p", dir, "-c", path})
	listening(t, p, addr)
	return p, addr
}

// refused reports whether addr takes no new connection, or takes it only to
// close it.
func refused(ctx context.Context, addr string) bool {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return ctx.Err() == nil
	}
	return c.Close() != nil
}
