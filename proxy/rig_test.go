package proxy

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// rig is a sidecar on an in-memory network, with Go's own client in front and
// Go's own server behind.
type rig struct {
	t      *testing.T
	net    *testkit.Net
	server *Server
	reg    *telemetry.Registry
	client *http.Client
}

// newRig starts a sidecar at "sidecar:80" from src; what src leaves out is a
// sensible default for tests.
func newRig(t *testing.T, src snapshot.Source, change ...func(*Options)) *rig {
	t.Helper()
	r := &rig{t: t, net: testkit.NewNet()}
	r.server, r.reg = r.sidecar("sidecar:80", src, change...)
	r.client = r.newClient(testkit.H2)
	return r
}

func (r *rig) sidecar(address string, src snapshot.Source, change ...func(*Options)) (*Server, *telemetry.Registry) {
	r.t.Helper()
	if src.Role == "" {
		src.Role = "inbound"
	}
	if src.Upstreams == nil {
		src.Upstreams = []string{"h2c://app:80"}
	}
	if src.Timeout == 0 {
		src.Timeout = 5 * time.Second
	}
	if src.Idle == 0 {
		src.Idle = time.Minute
	}
	snap, err := snapshot.Compile(src)
	if err != nil {
		r.t.Fatal(err)
	}
	reg := telemetry.NewRegistry()
	o := Options{Snapshot: snap, Registry: reg, Log: slog.New(slog.NewTextHandler(r.t.Output(), nil)), Dial: r.net.Dial}
	for _, f := range change {
		f(&o)
	}
	s, err := New(o)
	if err != nil {
		r.t.Fatal(err)
	}
	ln := r.net.Listen(address)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ln)
	}()
	r.t.Cleanup(func() {
		s.Close()
		<-done
	})
	return s, reg
}

func (r *rig) newClient(p testkit.Protocol) *http.Client {
	c, closeIdle := testkit.Client(r.net, p)
	r.t.Cleanup(closeIdle)
	return c
}

// app starts an upstream at address, killed at the end of the test.
func (r *rig) app(address string, h http.HandlerFunc, ps ...testkit.Protocol) testkit.Listener {
	if len(ps) == 0 {
		ps = []testkit.Protocol{testkit.H2}
	}
	l := testkit.Serve(r.net, address, h, ps...)
	r.t.Cleanup(func() {
		l.Kill()
		time.Sleep(time.Second) // net/http's server lingers half a second on some closes
	})
	return l
}

// reply is a response with its body read.
type reply struct {
	*http.Response
	body string
	err  error // of reading the body
}

func (r *rig) do(req *http.Request) reply {
	r.t.Helper()
	resp, err := r.client.Do(req)
	if err != nil {
		r.t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	return reply{resp, string(b), err}
}

func (r *rig) get(path string, headers ...string) reply {
	r.t.Helper()
	return r.do(r.request(http.MethodGet, path, nil, headers...))
}

func (r *rig) request(method, path string, body io.Reader, headers ...string) *http.Request {
	r.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, "http://sidecar:80"+path, body)
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	return req
}

// want checks status and, where it is not empty, a part of the body.
func (r reply) want(t *testing.T, status int, part string) reply {
	t.Helper()
	if r.StatusCode != status || !strings.Contains(r.body, part) {
		t.Fatalf("got %d %q, want %d with %q (headers %v)", r.StatusCode, r.body, status, part, r.Header)
	}
	return r
}

func (r reply) header(t *testing.T, name, want string) reply {
	t.Helper()
	if got := r.Header.Get(name); got != want {
		t.Fatalf("%s: %q, want %q", name, got, want)
	}
	return r
}

// settled asserts that nothing is left of any exchange.
func (r *rig) settled() {
	r.t.Helper()
	synctest.Wait()
	if n := r.server.Active(); n != 0 {
		r.t.Fatalf("%d exchanges still active", n)
	}
	if n := r.server.budget.used.Load(); n != 0 {
		r.t.Fatalf("%d bytes of the buffer budget not given back", n)
	}
	for _, c := range r.server.Clusters() {
		for _, p := range []snapshot.Priority{snapshot.PriorityDefault, snapshot.PriorityHigh} {
			if u := c.Usage(p); u.Retries != 0 || u.Requests != 0 || u.Pending != 0 {
				r.t.Fatalf("cluster %s still counts %d retries, %d requests, %d that wait", c.Name, u.Retries, u.Requests, u.Pending)
			}
		}
		for _, e := range c.Endpoints() {
			if e.Active() != 0 {
				r.t.Fatalf("endpoint %s: %d exchanges still counted", e.Address, e.Active())
			}
		}
	}
}

const query = "/api/v2/metrics/query"

// place returns where connections are served that nobody has accepted.
func (r *rig) place() *place {
	k := new(place)
	k.site.Store(r.server.current.Load().sites["main"])
	return k
}

// quiet is a log that the test prints when it fails.
func quiet(t *testing.T) *slog.Logger {
	t.Helper()
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}
