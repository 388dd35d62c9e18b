package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quadnine/quadnine/examples/statsapp"
	"github.com/quadnine/quadnine/proxy"
	"github.com/quadnine/quadnine/snapshot"
)

// stand is a sidecar before a real statsapp on loopback.
type stand struct {
	t           *testing.T
	app         *statsapp.App
	appAddr     string
	side        *sidecar
	transitions chan proxy.Transition
}

type standConfig struct {
	appProtocol statsapp.Protocol
	source      snapshot.Source // what is not set has a default for tests
	yaml        string
	logTo       io.Writer
	models      modelsConfig
	onRouted    func(version string, at int64)
	shards      int
	ceilings    ceilingFlags
}

func newStand(t *testing.T, c standConfig) *stand {
	t.Helper()
	s := &stand{t: t, transitions: make(chan proxy.Transition, 1024)}
	s.app, s.appAddr = startApp(t, statsapp.Options{Protocol: c.appProtocol}, "127.0.0.1:0")
	src := c.source
	if src.Upstreams == nil {
		src.Upstreams = []string{"http://" + s.appAddr}
	}
	s.side = startTestSidecar(t, src, c.yaml, c.logTo, "127.0.0.1:0", s.transitions, c)
	return s
}

func startApp(t *testing.T, o statsapp.Options, addr string) (*statsapp.App, string) {
	t.Helper()
	app, err := statsapp.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Seed(1, []string{"acme", "globex"}, 1000); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = app.Serve(ln) })
	t.Cleanup(func() {
		_ = app.Close()
		wg.Wait()
	})
	return app, ln.Addr().String()
}

func startTestSidecar(t *testing.T, src snapshot.Source, yaml string, logTo io.Writer, listen string, transitions chan proxy.Transition, c standConfig) *sidecar {
	t.Helper()
	if src.Role == "" {
		src.Role = "inbound"
	}
	if src.Degrade == nil {
		src.Degrade = []string{"/api/v2/metrics/query"}
	}
	if src.Timeout == 0 {
		src.Timeout = 10 * time.Second
	}
	src.Idle = time.Minute
	var err error
	if src.File, err = snapshot.Parse("test.yaml", []byte(yaml)); err != nil {
		t.Fatal(err)
	}
	snap, err := snapshot.Compile(src)
	if err != nil {
		t.Fatal(err)
	}
	if logTo == nil {
		logTo = t.Output()
	}
	side, err := startSidecar(t.Context(), sidecarConfig{
		snap: snap, listen: listen, admin: "127.0.0.1:0", logTo: logTo, level: slog.LevelWarn, models: c.models, onRouted: c.onRouted, shards: c.shards, ceilings: c.ceilings,
		onTransition: func(tr proxy.Transition) {
			select {
			case transitions <- tr:
			default:
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := side.stop(5 * time.Second); err != nil {
			t.Error(err)
		}
	})
	return side
}

// await waits until a breaker enters state.
func (s *stand) await(state string) proxy.Transition {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second) // a bound for a broken test, not a pace
	defer cancel()
	for {
		select {
		case tr := <-s.transitions:
			if tr.State == state {
				return tr
			}
		case <-ctx.Done():
			s.t.Fatalf("no breaker became %s", state)
		}
	}
}

// client speaks h2c or HTTP/1.1.
func (s *stand) client(h2 bool) *http.Client {
	p := new(http.Protocols)
	p.SetHTTP1(!h2)
	p.SetUnencryptedHTTP2(h2)
	tr := &http.Transport{Protocols: p, DisableCompression: true}
	s.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

type answer struct {
	status  int
	body    string
	header  http.Header
	trailer http.Header
}

func (s *stand) do(c *http.Client, method, url string, body io.Reader, headers ...string) answer {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, url, body)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer{resp.StatusCode, string(b), resp.Header, resp.Trailer}
}

func (s *stand) url(path string) string { return "http://" + s.side.Addr() + path }

// admin returns a page of the admin port.
func (s *stand) admin(path string) string {
	s.t.Helper()
	return s.do(http.DefaultClient, http.MethodGet, "http://"+s.side.AdminAddr()+path, nil).body
}

func (a answer) has(t *testing.T, status int, part string) answer {
	t.Helper()
	if a.status != status || !strings.Contains(a.body, part) {
		t.Fatalf("got %d %q %v, want %d with %q", a.status, a.body, a.header, status, part)
	}
	return a
}
