package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/loader/delta"
)

const someCluster = `"@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
name: a
type: STATIC
connect_timeout: 1s
load_assignment: {cluster_name: a, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 9090}}}}]}]}
`

// poolServer is a quadnine control that can be stopped and started.
type poolServer struct {
	t             *testing.T
	dir           string
	listen, admin string
	stop          func()
}

func newPoolServer(t *testing.T) *poolServer {
	t.Helper()
	addrs := freeAddrs(t, 2)
	p := &poolServer{t: t, dir: t.TempDir(), listen: addrs[0], admin: addrs[1]}
	if err := os.WriteFile(filepath.Join(p.dir, "a.yaml"), []byte(someCluster), 0o600); err != nil {
		t.Fatal(err)
	}
	p.start()
	t.Cleanup(func() { p.stop() })
	return p
}

func (p *poolServer) start() {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(p.t.Context()))
	code := make(chan int, 1)
	go func() {
		code <- execute(ctx, []string{"control", "--config", p.dir, "--listen", p.listen, "--admin", p.admin, "--drain-time", "1ms"}, io.Discard, p.t.Output())
	}()
	p.stop = func() {
		cancel()
		if c := <-code; c != exitOK {
			p.t.Errorf("control: exit %d", c)
		}
		p.stop = func() {}
	}
	eventually(p.t, "control is ready", func() bool { return body("http://"+p.admin+"/ready") == "LIVE\n" })
}

func (p *poolServer) models() string { return body("http://" + p.admin + "/models") }

// member is a sidecar that is judged together with others.
type member struct {
	*stand

	drops string
	c     *http.Client
	asked int
}

func (p *poolServer) member(name string) *member {
	p.t.Helper()
	m := &member{drops: p.t.TempDir()}
	m.stand = newStand(p.t, standConfig{models: modelsConfig{dir: m.drops, store: p.t.TempDir(), judge: judgeFlags{
		// A single sidecar needs 120 good answers of the canary.
		bounds: []string{"beta=0.2", "margin=20", "latencyFloor=10s", "latencyMinSamples=20"},
		server: "http://" + p.listen, node: name, every: 5 * time.Millisecond,
	}}})
	m.c = m.client(true)
	return m
}

// canary sends requests until a version of score has answered n of them; about as
// many fall to the other one.
func (m *member) canary(version string, n int) {
	m.t.Helper()
	for n > 0 {
		_, got, a := m.score(m.c, fmt.Sprint("u", m.asked))
		m.asked++
		if a.status != http.StatusOK {
			m.t.Fatalf("%d %s", a.status, a.body)
		}
		if got == version {
			n--
		}
	}
}

func (m *member) awaits(what, text string) {
	m.t.Helper()
	eventually(m.t, what, func() bool { return strings.Contains(m.admin("/models"), text) })
}

func (m *member) becomes(n uint64, state string) {
	m.t.Helper()
	eventually(m.t, fmt.Sprintf("v%d is %s", n, state), func() bool { return m.modelState(n, state) })
}

// half gives the canary every second caller, without further conditions.
var half = delta.Canary{Weight: 50, PromoteAfter: time.Millisecond, MinRequests: 1}

// Three sidecars promote together what each has too little evidence for; a
// version that is bad on one is blocked on all, also where it comes later; and
// when the server is gone, each goes on alone.
func TestThreeSidecarsAreJudgedTogether(t *testing.T) {
	pool := newPoolServer(t)
	all := []*member{pool.member("a"), pool.member("b"), pool.member("c")}
	a, b, c := all[0], all[1], all[2]
	for _, m := range all {
		dropVersion(t, m.drops, 1, weights{2, 1}, half)
		m.becomes(1, "active")
		dropVersion(t, m.drops, 2, weights{3, 1}, half)
		m.becomes(2, "canary")
	}
	for _, m := range all {
		m.awaits("it is judged together", "judged together, 3 sidecars: ")
	}

	a.canary("score@2", 50)
	b.canary("score@2", 50)
	eventually(t, "the pool has heard of both", func() bool { return strings.Contains(pool.models(), "canary={requests=100 ") })
	a.canary("score@2", 1) // and an answer more, so that a promotion would be seen
	if !a.modelState(2, "canary") || !b.modelState(2, "canary") {
		t.Fatalf("promoted on too little evidence:\n%s\n%s", pool.models(), a.admin("/models"))
	}
	c.canary("score@2", 50)
	for _, m := range all {
		m.becomes(2, "active")
		m.awaits("the reason is told", "verdict=promote why=pooled")
	}
	if page := pool.models(); !strings.Contains(page, `"score"@2 promote`) || !strings.Contains(page, `"c": `) {
		t.Errorf("the server's page:\n%s", page)
	}
	var out bytes.Buffer
	if code := execute(t.Context(), []string{"model", "pool", "--admin", pool.admin}, &out, t.Output()); code != exitOK || !strings.Contains(out.String(), "promote") {
		t.Errorf("model pool: exit %d\n%s", code, out.String())
	}

	// No number on one is no version for all.
	dropVersion(t, a.drops, 3, weights{math.NaN(), 1}, half)
	dropVersion(t, b.drops, 3, weights{math.NaN(), 1}, half)
	a.becomes(3, "canary")
	b.becomes(3, "canary")
	eventually(t, "a takes it back", func() bool {
		_, _, _ = a.score(a.c, fmt.Sprint("u", a.asked))
		a.asked++
		return a.modelState(3, "refused")
	})
	b.becomes(3, "refused")
	b.awaits("the reason is told", "blocked by the pool")
	eventually(t, "c knows", func() bool { return len(c.side.models.loader.Blocked()) == 1 })
	dropVersion(t, c.drops, 3, weights{math.NaN(), 1}, half)
	c.awaits("the late drop is refused", "score@3 was blocked")

	// Another version with the same number is not meant; and the server is gone.
	if err := os.RemoveAll(filepath.Join(c.drops, "v3")); err != nil {
		t.Fatal(err)
	}
	dropVersion(t, c.drops, 3, weights{4, 1}, half)
	c.becomes(3, "canary")
	c.awaits("it is judged together", "judged together, 1 sidecars: ")
	pool.stop()
	c.awaits("it is judged alone", "judged here alone, as http://"+pool.listen+" cannot be reached")
	c.canary("score@3", 125)
	c.becomes(3, "active")
	if v := sample(t, c.admin("/stats/prometheus"), "quadnine_model_pool_connected"); v != 0 {
		t.Errorf("connected %v", v)
	}

	// A server that was started anew learns what was blocked, and tells who comes.
	pool.start()
	d := pool.member("d")
	eventually(t, "d knows", func() bool { return len(d.side.models.loader.Blocked()) == 1 })
	dropVersion(t, d.drops, 1, weights{2, 1}, half)
	d.becomes(1, "active")
	dropVersion(t, d.drops, 3, weights{math.NaN(), 1}, half)
	d.awaits("the drop is refused", "score@3 was blocked")
	if v := sample(t, d.admin("/stats/prometheus"), `quadnine_model_verdicts_total{verdict="block"}`); v != 1 {
		t.Errorf("%v blocks counted", v)
	}
}

// Over TLS both show a certificate, and whoever shows none is not heard.
func TestPoolOverTLS(t *testing.T) {
	s := newSecrets(t, testkit.NewCA(t, "pool"))
	addrs := freeAddrs(t, 2)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(someCluster), 0o600); err != nil {
		t.Fatal(err)
	}
	runInBackground(t, []string{"control", "--config", dir, "--listen", addrs[0], "--admin", addrs[1], "--tls-cert", s.cert, "--tls-key", s.key, "--tls-client-ca", s.ca})
	with := func(f judgeFlags) *stand {
		f.server, f.every = "https://"+addrs[0], 5*time.Millisecond
		return newStand(t, standConfig{models: modelsConfig{dir: t.TempDir(), store: t.TempDir(), judge: f}})
	}
	stranger := with(judgeFlags{node: "stranger", ca: s.ca})
	known := with(judgeFlags{node: "known", ca: s.ca, cert: s.upstreamCert, key: s.upsKey})
	connected := func(s *stand) float64 {
		return sample(t, s.admin("/stats/prometheus"), "quadnine_model_pool_connected")
	}
	eventually(t, "the known one is heard", func() bool { return connected(known) == 1 })
	if connected(stranger) != 0 {
		t.Error("a sidecar without a certificate is heard")
	}
}

// TestCanaryPage runs every command of docs/canary.md.
func TestCanaryPage(t *testing.T) {
	addrs := freeAddrs(t, 3)
	dir := t.TempDir()
	drops, resources := filepath.Join(dir, "drops"), filepath.Join(dir, "resources")
	for _, d := range []string{drops, resources} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(resources, "a.yaml"), []byte(someCluster), 0o600); err != nil {
		t.Fatal(err)
	}
	moved := strings.NewReplacer("127.0.0.1:9090", addrs[0], "127.0.0.1:18000", addrs[1], "127.0.0.1:18001", addrs[2], "resources/", resources, "--models drops", "--models "+drops)
	ran := 0
	for i, c := range commandsOf(t, "../../docs/canary.md") {
		args := shellWords(t, moved.Replace(c.line))[1:]
		switch args[0] {
		case "run":
			runInBackground(t, append(args, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--model-store", filepath.Join(dir, fmt.Sprint("store", i))))
		case "control":
			runInBackground(t, append(args, "--listen", addrs[1], "--admin", addrs[2]))
		default:
			says(t, exitOK, "no version yet", args...)
		}
		ran++
	}
	if ran != 4 {
		t.Errorf("%d commands, want 4", ran)
	}
}

func TestJudgeFlagsAreRefused(t *testing.T) {
	for _, x := range []struct {
		want string
		args []string
	}{
		{"--model-judge \"beta\": want key=value", []string{"--model-judge", "beta"}},
		{"beta is 2: want 1e-09 to 0.5", []string{"--model-judge", "beta=2"}},
		{"promoteAfter is each manifest's", []string{"--model-judge", "promoteAfter=1s"}},
		{"gamma is not a key", []string{"--model-judge", "alpha=0.01,gamma=1"}},
		{"want hold or rollback", []string{"--model-judge", "atMaxWait=promote"}},
		{"--model-pool \"127.0.0.1:18000\": want http://", []string{"--model-pool", "127.0.0.1:18000"}},
		{"want http://HOST:PORT", []string{"--model-pool", "http://127.0.0.1"}},
		{"only with https://", []string{"--model-pool", "http://127.0.0.1:1", "--model-pool-ca", "x"}},
		{"name the server with --model-pool", []string{"--model-pool-ca", "x"}},
		{"give both or none", []string{"--model-pool", "https://127.0.0.1:1", "--model-pool-key", "x"}},
		{"--model-pool-ca: open ", []string{"--model-pool", "https://127.0.0.1:1", "--model-pool-ca", "/does/not/exist"}},
		{"--model-pool: without --models or", []string{"--model-pool", "http://127.0.0.1:1"}},
	} {
		var errs bytes.Buffer
		args := append([]string{"run", "--upstream", "http://127.0.0.1:1"}, x.args...)
		if code := execute(t.Context(), args, io.Discard, &errs); code != exitUsage || !strings.Contains(errs.String(), x.want) {
			t.Errorf("%v: exit %d, %s; want %q", x.args, code, errs.String(), x.want)
		}
	}
	for _, x := range [][]string{{"--veto-blocks-all", "all"}, {"--pool-share", "2"}} {
		var errs bytes.Buffer
		if code := execute(t.Context(), append([]string{"control", "--config", t.TempDir()}, x...), io.Discard, &errs); code != exitUsage || !strings.Contains(errs.String(), x[0]) {
			t.Errorf("%v: exit %d, %s", x, code, errs.String())
		}
	}
}
