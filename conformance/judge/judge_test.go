package judge

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestEnvoyGateway has Envoy Gateway start the proxy and serve an HTTPRoute.
func TestEnvoyGateway(t *testing.T) {
	g := startGateway(t, resources{generation: 1, live: "stable", weights: [2]int{90, 10}})
	t.Run("matches", g.testMatches)
	t.Run("rewrites", g.testRewrites)
	t.Run("split", g.testSplit)
	t.Run("upgrade", g.testUpgrade)
	t.Run("changes", g.testChanges)
	t.Run("split changed", g.testSplit)
	t.Run("listeners", g.testListeners)
	t.Run("tls", g.testTLS)
	if !envoy {
		t.Run("status", g.testStatus)
		t.Run("refusal", g.testRefusal)
	}
}

// testMatches asks for every kind of match, on both protocols.
func (g *gateway) testMatches(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		c := client(t, h2, func() {})
		for _, x := range []struct {
			path   string
			fields []string
			want   string // the backend, or a status
		}{
			{"/live", nil, "stable"},
			{"/live/below?q=1", nil, "stable"},
			{"/lively", nil, "404"},
			{"/team", nil, "stable"},
			{"/team", []string{"x-team", "canary"}, "canary"},
			{"/team", []string{"x-team", "canary2"}, "stable"},
			{"/team", []string{"x-team", "late-12"}, "late"},
			{"/team", []string{"x-team", "late-12b"}, "stable"},
			{"/team?team=canary", nil, "canary"},
			{"/team?team=other", nil, "stable"},
			{"/exact", nil, "canary"},
			{"/exact/", nil, "404"},
			{"/re/abc", nil, "canary"},
			{"/re/abc1", nil, "404"},
			{"/none", nil, "404"},
			{"/live", []string{"x_under", "1"}, "400"},
		} {
			a := g.get(deadline(t), c, x.path, x.fields...)
			got := a.Backend
			if a.status != http.StatusOK {
				got = a.String()
			}
			if x.want == "400" && h2 && a.err != nil {
				continue // there the stream is reset
			}
			if got != x.want {
				t.Errorf("%s %v, HTTP/2 %v: %s, want %s", x.path, x.fields, h2, got, x.want)
			}
		}
	}
}

// testRewrites watches what reaches the backend, and what comes back.
func (g *gateway) testRewrites(t *testing.T) {
	c := client(t, true, func() {})
	for path, want := range map[string]string{
		"/old/api":       judged("/new"),
		"/old/api/v1/x":  judged("/new/v1/x"),
		"/old/api/":      judged("/new/"),
		"/root/a":        judged("/a"),
		"/root":          judged("/"),
		"/full/whatever": "rewritten.example/whole",
	} {
		if a := g.get(deadline(t), c, path); a.status != http.StatusOK || a.Host+a.Path != want {
			t.Errorf("%s came to the backend as %s%s (%v), want %s", path, a.Host, a.Path, a, want)
		}
	}
	a := g.get(deadline(t), c, "/gone/a?b=c")
	if where := a.header.Get("Location"); a.status != http.StatusMovedPermanently || where != "https://other.example/there/a?b=c" {
		t.Errorf("/gone/a?b=c: %v to %q, want 301 to https://other.example/there/a?b=c", a, where)
	}
	a = g.get(deadline(t), c, "/fields", "x-set", "old", "x-add", "one", "x-gone", "1")
	for name, want := range map[string][]string{"X-Set": {"new"}, "X-Add": {"one", "more"}, "X-Gone": nil} {
		if got := a.Header.Values(name); strings.Join(got, ",") != strings.Join(want, ",") {
			t.Errorf("/fields: the backend saw %s: %q, want %q", name, got, want)
		}
	}
	if a := g.get(deadline(t), c, "/live"); a.header.Get("X-Generation") != "1" {
		t.Errorf("/live: x-generation is %q, want 1", a.header.Get("X-Generation"))
	}
}

func judged(path string) string { return host + path }

// testSplit counts who answers: where the parts are one cluster's endpoints, and
// where they are clusters of their own because their filters differ.
func (g *gateway) testSplit(t *testing.T) {
	const n = 3000
	c := client(t, true, func() {})
	for _, path := range []string{"/split", "/parts"} {
		got := make(map[string]int)
		for range n {
			a := g.get(deadline(t), c, path)
			got[a.Backend+a.Header.Get("X-Part")]++
			if a.status != http.StatusOK {
				t.Fatalf("%s: %v", path, a)
			}
		}
		part := map[string]string{"/parts": "b"}[path]
		p := float64(g.now.weights[1]) / float64(g.now.weights[0]+g.now.weights[1])
		// Four standard deviations: by chance once in 15,000 runs.
		want, bound := p*n, 4*math.Sqrt(n*p*(1-p))
		if x := float64(got["canary"+part]); math.Abs(x-want) > bound || len(got) != 2 {
			t.Errorf("%s: %v, want canary %.0f ± %.0f", path, got, want, bound)
		}
		t.Logf("%s: %v of %d", path, got, n)
	}
}

// testUpgrade goes through the proxy as a websocket does: Envoy Gateway allows it
// on every route.
func (g *gateway) testUpgrade(t *testing.T) {
	c, err := new(net.Dialer).DialContext(deadline(t), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(g.port)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "GET /live HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", host)
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the upgrade: %v, %v", res, err)
	}
	defer res.Body.Close()
	for i := range 3 {
		if _, err := fmt.Fprintf(c, "message %d\n", i); err != nil {
			t.Fatal(err)
		}
		if line, err := r.ReadString('\n'); err != nil || line != fmt.Sprintf("stable message %d\n", i) {
			t.Fatalf("through the tunnel came %q, %v", line, err)
		}
	}
}

// testChanges edits the HTTPRoute under load, time and again: another backend,
// other weights, one rule with its cluster gone and another there. No request
// fails and no connection ends.
func (g *gateway) testChanges(t *testing.T) {
	const edits, workers = 20, 4
	l := startLoad(t, g, workers, "/live")
	c := client(t, true, func() {})
	var took []time.Duration
	early := 0
	for i := range edits {
		r := g.now
		r.generation++
		r.live = []string{"canary", "late", "stable"}[i%3]
		r.weights = [2]int{50 + 10*(i%4), 50}
		begun := time.Now()
		g.route(t, r)
		ctx := deadline(t)
		if err := g.await(ctx, fmt.Sprintf("bring generation %d", r.generation), func(ctx context.Context) bool {
			a := g.get(ctx, c, "/live")
			return a.header.Get("X-Generation") == strconv.Itoa(r.generation) && a.Backend == r.live
		}); err != nil {
			t.Error(err)
			break
		}
		took = append(took, time.Since(begun))
		if a := g.get(ctx, c, fmt.Sprintf("/generation/%d", r.generation)); a.Backend != "late" {
			early++
			if !envoy { // whose new routes answer 503 until their cluster is there too
				t.Errorf("the new rule of generation %d: %v from %q", r.generation, a, a.Backend)
			}
		}
		if a := g.get(ctx, c, fmt.Sprintf("/generation/%d", r.generation-1)); a.status != http.StatusNotFound {
			t.Errorf("the rule of generation %d after its end: %v", r.generation-1, a)
		}
	}
	l.unharmed(t, workers)
	slices.Sort(took)
	if n := len(took); n > 0 {
		t.Logf("%d edits; file written → first answer (10 ms steps): p50 %v, p90 %v; new rules that did not answer at first: %d",
			n, took[n/2].Round(time.Millisecond), took[n*9/10].Round(time.Millisecond), early)
	}
}

// testListeners gives the Gateway a second port and takes it away again, while
// the first is under load.
func (g *gateway) testListeners(t *testing.T) {
	const workers = 4
	l := startLoad(t, g, workers, "/live")
	c := client(t, false, func() {})
	g.write(t, "gateway.yaml", gatewayYAML([]int{g.port, g.second}, 0, g.backends))
	if err := g.await(deadline(t), "serve the second port", func(ctx context.Context) bool {
		return ask(ctx, c, g.second, "/live").Backend != ""
	}); err != nil {
		t.Error(err)
	}
	g.write(t, "gateway.yaml", gatewayYAML([]int{g.port}, 0, g.backends))
	if err := g.await(deadline(t), "close the second port", func(ctx context.Context) bool {
		return ask(ctx, client(t, false, func() {}), g.second, "/live").err != nil
	}); err != nil {
		t.Error(err)
	}
	l.unharmed(t, workers)
}

// testRefusal asks for what is not supported: it is refused once, by name, the
// server is told, and everything goes on as before. Taking it back heals it.
func (g *gateway) testRefusal(t *testing.T) {
	const workers = 4
	l := startLoad(t, g, workers, "/live")
	before, err := g.status(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	g.write(t, "lua.yaml", luaYAML)
	var s status
	if err := g.await(deadline(t), "refuse the script", func(ctx context.Context) bool {
		s, err = g.status(ctx)
		return err == nil && strings.Contains(s.unsettled(), "lua")
	}); err != nil {
		t.Fatal(err)
	}
	t.Logf("refused:\n%s", s.unsettled())
	if err := g.await(deadline(t), "tell the management server", func(context.Context) bool {
		return strings.Contains(g.Output(), "rejected the last update")
	}); err != nil {
		t.Error(err)
	}
	if err := os.Remove(filepath.Join(g.path("resources"), "lua.yaml")); err != nil {
		t.Fatal(err)
	}
	r := g.now
	r.generation++
	g.route(t, r)
	if err := g.await(deadline(t), "settle again", func(ctx context.Context) bool {
		s, err = g.status(ctx)
		return err == nil && s.unsettled() == "" && g.get(ctx, http.DefaultClient, "/live").header.Get("X-Generation") == strconv.Itoa(r.generation)
	}); err != nil {
		t.Errorf("%v:\n%s", err, s.unsettled())
	}
	// The listener and its routes, each once; a second time where another push fell
	// between.
	if n := s.nacks() - before.nacks(); n < 1 || n > 4 {
		t.Errorf("%d NACKs for one policy", n)
	} else {
		t.Logf("%d NACKs", n)
	}
	l.unharmed(t, workers)
}

// testStatus reads the proxy's own account: nothing refused, nothing waiting.
func (g *gateway) testStatus(t *testing.T) {
	var s status
	if err := g.await(deadline(t), "settle", func(ctx context.Context) bool {
		var err error
		s, err = g.status(ctx)
		return err == nil && s.unsettled() == ""
	}); err != nil {
		t.Errorf("what is not in use:\n%s", s.unsettled())
	}
	if !s.Connected || s.Variant != "delta" || s.Server != "xds_cluster" {
		t.Errorf("stream: connected %v, variant %q, server %q", s.Connected, s.Variant, s.Server)
	}
	if n := s.nacks(); n > 0 {
		t.Errorf("%d NACKs on the stream", n)
	}
	for _, a := range s.Stream.APIs {
		t.Logf("%s: %d ACKs, %d NACKs", a.API, a.Acks, a.Nacks)
	}
	t.Logf("accepted without effect:\n%s", s.ignored())
	if info := g.page(t, "/server_info"); !strings.Contains(info, `"LIVE"`) {
		t.Errorf("/server_info does not say LIVE: %.300s", info)
	}
	if dump := g.page(t, "/config_dump"); !strings.Contains(dump, "httproute/default/judge/rule/0") {
		t.Errorf("/config_dump does not hold the route's cluster: %.300s", dump)
	}
}

// page fetches one of the admin pages.
func (g *gateway) page(t *testing.T, path string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(deadline(t), http.MethodGet, "http://"+g.admin+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d, %v", path, res.StatusCode, err)
	}
	return string(b)
}
