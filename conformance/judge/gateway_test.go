package judge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/quadnine/quadnine/bench/proc"
)

// envoyVersion is the version of Envoy that Envoy Gateway is told to run, and in
// whose folder it looks for the program.
const envoyVersion = "1.40.0"

// fixed are the ports of Envoy Gateway 1.9.1 that no configuration moves: its
// servers for xDS and Wasm, its health probe, and the proxy's readiness listener.
var fixed = []int{18000, 18002, 8081, 19003}

// gateway is Envoy Gateway with the proxy that it started.
type gateway struct {
	*proc.Proc

	dir      string // everything that both write
	port     int    // where the Gateway resource listens
	second   int    // where it also does, at times
	admin    string // the proxy's admin address
	backends map[string]*backend
	now      resources // what was written last
}

// startGateway starts Envoy Gateway with resources, and waits until the proxy
// that it started answers on the Gateway's port.
func startGateway(t *testing.T, r resources) *gateway {
	t.Helper()
	for _, p := range fixed {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", ":"+strconv.Itoa(p))
		if err != nil {
			t.Fatalf("Envoy Gateway takes port %d, and no other will do: %v", p, err)
		}
		l.Close()
	}
	addrs, err := proc.Addrs(3)
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{dir: t.TempDir(), port: proc.Port(addrs[0]), second: proc.Port(addrs[2]), backends: make(map[string]*backend)}
	home := filepath.Join(g.dir, "data", "envoy-versions", envoyVersion, "bin")
	for _, d := range []string{home, g.path("config"), g.path("state"), g.path("run"), g.path("resources"), g.path("cache")} {
		if err := os.MkdirAll(d, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(bin.proxy, filepath.Join(home, "envoy")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"stable", "canary", "late"} {
		g.backends[name] = startBackend(t, name)
	}
	g.write(t, "gateway.yaml", gatewayYAML([]int{g.port}, 0, g.backends))
	g.route(t, r)
	config := filepath.Join(g.dir, "envoy-gateway.yaml")
	if err := os.WriteFile(config, []byte(serverYAML(g.dir, proc.Port(addrs[1]))), 0o600); err != nil {
		t.Fatal(err)
	}
	env := proc.Env("HOME="+g.dir, "XDG_CACHE_HOME="+g.path("cache"), "XDG_CONFIG_HOME="+g.path("config"))
	certs := g.run(t, env, "certgen", "--local", "--config-home", g.path("config"))
	if err := certs.Wait(deadline(t)); err != nil {
		t.Fatalf("certgen: %v\n%s", err, certs.Output())
	}
	g.Proc = g.run(t, env, "server", "--config-path", config)
	if err := g.await(deadline(t), "have the proxy answer", g.answers); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *gateway) path(name string) string { return filepath.Join(g.dir, name) }

func (g *gateway) run(t *testing.T, env proc.Option, args ...string) *proc.Proc {
	t.Helper()
	p, err := proc.Start(bin.gateway, args, env)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Logf("output of envoy-gateway %s:\n%s\nand of the proxy:\n%s", args[0], withoutAccessLog(p.Output()), g.proxyLog())
		}
	})
	return p
}

// await waits until ok says yes; the programs' output is told elsewhere.
func (g *gateway) await(ctx context.Context, what string, ok func(context.Context) bool) error {
	if err := g.Await(ctx, what, ok); err != nil {
		line, _, _ := strings.Cut(err.Error(), "\n")
		return errors.New(line)
	}
	return nil
}

// write replaces a file of resources in one step. Envoy Gateway does not look at
// names with a dot in front.
func (g *gateway) write(t *testing.T, name, content string) {
	t.Helper()
	draft := filepath.Join(g.path("resources"), "."+name)
	if err := os.WriteFile(draft, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(draft, filepath.Join(g.path("resources"), name)); err != nil {
		t.Fatal(err)
	}
}

// route replaces the HTTPRoutes.
func (g *gateway) route(t *testing.T, r resources) {
	t.Helper()
	g.write(t, "route.yaml", r.yaml())
	g.now = r
}

// answers reports whether the proxy serves, and notes its admin address.
func (g *gateway) answers(ctx context.Context) bool {
	if g.admin == "" {
		found, _ := filepath.Glob(g.path("run/*/admin-address.txt"))
		if len(found) == 0 {
			return false
		}
		b, err := os.ReadFile(found[0])
		if err != nil || len(b) == 0 {
			return false
		}
		g.admin = strings.TrimSpace(string(b))
	}
	a := g.get(ctx, http.DefaultClient, "/live")
	return a.status == http.StatusOK
}

// proxyLog returns what the proxy wrote.
func (g *gateway) proxyLog() string {
	var b strings.Builder
	found, _ := filepath.Glob(g.path("state/envoy-runs/*/std*.log"))
	for _, f := range found {
		if text, err := os.ReadFile(f); err == nil {
			b.Write(text)
		}
	}
	return withoutAccessLog(b.String())
}

// withoutAccessLog leaves out the lines that Envoy Gateway has the proxy write for
// each request.
func withoutAccessLog(text string) string {
	return strings.Join(slices.DeleteFunc(strings.SplitAfter(text, "\n"), func(line string) bool { return strings.HasPrefix(line, "{") }), "")
}

// answer is what came back for a request.
type answer struct {
	echo

	status int
	header http.Header
	err    error
}

// String is what a failed request is counted under.
func (a answer) String() string {
	if a.err != nil {
		return a.err.Error()
	}
	return strconv.Itoa(a.status)
}

// get asks the Gateway for a path, with header fields as name, value, name, value.
func (g *gateway) get(ctx context.Context, c *http.Client, path string, fields ...string) answer {
	return ask(ctx, c, g.port, path, fields...)
}

func ask(ctx context.Context, c *http.Client, port int, path string, fields ...string) (a answer) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", port, path), http.NoBody)
	if err != nil {
		return answer{err: err}
	}
	req.Host = host
	for i := 0; i < len(fields); i += 2 {
		req.Header.Add(fields[i], fields[i+1])
	}
	res, err := c.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer res.Body.Close()
	a.status, a.header = res.StatusCode, res.Header
	body, err := io.ReadAll(res.Body)
	if err != nil {
		a.err = err
		return a
	}
	if a.status == http.StatusOK {
		a.err = json.Unmarshal(body, &a.echo)
	}
	return a
}

// client returns a client that follows no redirection and speaks HTTP/2 with prior
// knowledge, or HTTP/1.1 only. dialed is called for each new connection.
func client(t *testing.T, h2 bool, dialed func()) *http.Client {
	t.Helper()
	tr := &http.Transport{
		Protocols: new(http.Protocols),
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dialed()
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	}
	tr.Protocols.SetUnencryptedHTTP2(h2)
	tr.Protocols.SetHTTP1(!h2)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}
