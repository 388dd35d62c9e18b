package conformance

import (
	"context"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quadnine/quadnine/bench/proc"
)

// within bounds every start and every single exchange. It is generous because
// the machine may be busy; nothing waits for it to pass.
const within = 30 * time.Second

// sidecar is a running quadnine process.
type sidecar struct {
	*proc.Proc

	addr, admin string
}

// url returns the sidecar's URL for a path.
func (s *sidecar) url(path string) string { return "http://" + s.addr + path }

// deadline returns a context that ends with the test or after d.
func deadline(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// start starts a program that ends with the test.
func start(t *testing.T, path string, args []string, opts ...proc.Option) *proc.Proc {
	t.Helper()
	p, err := proc.Start(path, args, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Logf("output of %s:\n%s", filepath.Base(p.Name), p.Output())
		}
	})
	return p
}

// tool starts an installed tool by its name.
func tool(t *testing.T, name string, args ...string) *proc.Proc {
	t.Helper()
	path, err := proc.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	return start(t, path, args)
}

// addrs returns n free loopback addresses.
func addrs(t *testing.T, n int) []string {
	t.Helper()
	a, err := proc.Addrs(n)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// listening waits until p accepts connections at addr.
func listening(t *testing.T, p *proc.Proc, addr string) {
	t.Helper()
	if err := p.AwaitTCP(deadline(t, within), addr); err != nil {
		t.Fatal(err)
	}
}

// startSidecar starts quadnine and waits until /ready says 200.
func startSidecar(t *testing.T, env []string, args ...string) *sidecar {
	t.Helper()
	a := addrs(t, 2)
	args = append([]string{"run", "--listen", a[0], "--admin", a[1]}, args...)
	s := &sidecar{Proc: start(t, bin.quadnine, args, proc.Env(env...)), addr: a[0], admin: a[1]}
	err := s.Await(deadline(t, within), "answer /ready with 200", func(ctx context.Context) bool {
		status, _, err := get(ctx, http.DefaultClient, "http://"+s.admin+"/ready")
		return err == nil && status == http.StatusOK
	})
	if err != nil {
		t.Fatal(err)
	}
	listening(t, s.Proc, s.addr)
	return s
}

// startStats starts the example statistics service at addr, with data for the
// tenants.
func startStats(t *testing.T, addr string, tenants []string, more ...string) *proc.Proc {
	t.Helper()
	args := append([]string{"--listen", addr, "--seed-tenants", strings.Join(tenants, ","), "--seed-events", "500"}, more...)
	p := start(t, bin.statsapp, args)
	listening(t, p, addr)
	return p
}

// behind starts a statistics service and a sidecar in front of it.
func behind(t *testing.T, args ...string) (s *sidecar, upstream string) {
	t.Helper()
	upstream = addrs(t, 1)[0]
	startStats(t, upstream, []string{"acme", "globex"})
	return startSidecar(t, nil, append([]string{"--upstream", "http://" + upstream}, args...)...), upstream
}

// get fetches url once and returns status and body.
func get(ctx context.Context, c *http.Client, url string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	res, err := c.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	body, err = io.ReadAll(res.Body)
	return res.StatusCode, body, err
}

// mustGet is get that fails the test unless the answer is a 200.
func mustGet(t *testing.T, c *http.Client, url string) []byte {
	t.Helper()
	status, body, err := get(deadline(t, within), c, url)
	if err != nil || status != http.StatusOK {
		t.Fatalf("GET %s: %d, %v: %s", url, status, err, body)
	}
	return body
}

// client returns an HTTP client that speaks HTTP/2 with prior knowledge, or
// HTTP/1.1 only.
func client(t *testing.T, h2 bool) *http.Client {
	t.Helper()
	tr := &http.Transport{Protocols: new(http.Protocols), MaxIdleConnsPerHost: 256}
	tr.Protocols.SetUnencryptedHTTP2(h2)
	tr.Protocols.SetHTTP1(!h2)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// protocols yields the protocols a client may speak: name, and whether it is
// HTTP/2.
func protocols(yield func(name string, h2 bool) bool) {
	_ = yield("h2c", true) && yield("h1", false)
}
