package conformance

import (
	"bufio"
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
	"sync"
	"testing"
	"time"

	"github.com/quadnine/quadnine/bench/proc"
)

// The requests of the HTTP/1.1 engine's vectors, sent to others too. What they refuse
// and the sidecar takes is the interesting part: testdata/strict.txt says why of each.
// UPDATE=1 rewrites it, keeping what it says.

// strictApp answers every well-formed request with 200 and takes no part in the
// judgment: it reads with Go's own parser.
func strictApp(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				for in := bufio.NewReader(c); ; {
					req, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					if _, err := io.Copy(io.Discard, req.Body); err != nil {
						return
					}
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			}()
		}
	}()
	return ln.Addr().String()
}

// strictVectors returns the bytes of each vector by its name, in the file's order.
func strictVectors(t *testing.T) (names []string, raw map[string][]byte) {
	t.Helper()
	data, err := os.ReadFile("../proxy/h1/testdata/requests.txt")
	if err != nil {
		t.Fatal(err)
	}
	raw = make(map[string][]byte)
	for block := range strings.SplitSeq("\n"+string(data), "\n== ") {
		name, rest, _ := strings.Cut(block, "\n")
		_, rest, _ = strings.Cut(rest, "\n") // the verdict
		text, _, _ := strings.Cut(rest, "----\n")
		if name == "" || strings.Contains(text, "repeat(") { // limits are everyone's own
			continue
		}
		s, err := strconv.Unquote(`"` + strings.ReplaceAll(strings.ReplaceAll(text, `"`, `\"`), "\n", "") + `"`)
		if err != nil {
			t.Fatal(name, err)
		}
		names, raw[name] = append(names, name), []byte(s)
	}
	return names, raw
}

// judged sends one vector and returns how the proxy answers: the status of the last
// reply, "closed", or "waits".
func judged(t *testing.T, addr string, raw []byte) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return "unreachable"
	}
	defer func() { _ = c.Close() }()
	_, _ = c.Write(raw)
	last := "waits"
	for in := bufio.NewReader(c); ; {
		_ = c.SetReadDeadline(time.Now().Add(time.Second)) // for those who wait, which is their verdict
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			if ne, ok := errors.AsType[net.Error](err); last == "waits" && (!ok || !ne.Timeout()) {
				return "closed"
			}
			return last
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode >= 200 {
			last = strconv.Itoa(resp.StatusCode)
		}
		if resp.Close {
			return last
		}
	}
}

// refusal reports whether the verdict is one.
func refusal(verdict string) bool { return verdict == "closed" || verdict >= "400" && verdict < "600" }

// envoyStrict starts Envoy with its defaults.
func envoyStrict(t *testing.T, app string) string {
	t.Helper()
	at, conf := addrs(t, 1)[0], filepath.Join(t.TempDir(), "envoy.yaml")
	host, port, _ := net.SplitHostPort(at)
	appHost, appPort, _ := net.SplitHostPort(app)
	text := fmt.Sprintf(`static_resources:
  listeners:
  - address: {socket_address: {address: %s, port_value: %s}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: x
          route_config: {virtual_hosts: [{name: a, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: a}}]}]}
          http_filters: [{name: r, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]
  clusters:
  - {name: a, type: STATIC, load_assignment: {cluster_name: a, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: %s, port_value: %s}}}}]}]}}
`, host, port, appHost, appPort)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	listening(t, tool(t, "envoy", "-c", conf, "--concurrency", "1", "--use-dynamic-base-id", "-l", "error"), at)
	return at
}

// nginxStrict starts nginx as a reverse proxy with its defaults.
func nginxStrict(t *testing.T, app string) string {
	t.Helper()
	dir, at := t.TempDir(), addrs(t, 1)[0]
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr crit;
events {}
http {
  access_log off; client_body_temp_path %[1]s/t1; proxy_temp_path %[1]s/t2; fastcgi_temp_path %[1]s/t3; uwsgi_temp_path %[1]s/t4; scgi_temp_path %[1]s/t5;
  server { listen %[2]s; location / { proxy_http_version 1.1; proxy_pass http://%[3]s; } }
}`, dir, at, app)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	listening(t, tool(t, "nginx", "-e", "stderr", "-p", dir, "-c", conf), at)
	return at
}

// TestStrictness compares the sidecar with three others on every vector.
func TestStrictness(t *testing.T) {
	if _, err := proc.Find("envoy"); err != nil {
		t.Fatal(err)
	}
	app := strictApp(t)
	ours := startSidecar(t, nil, "--upstream", "h1://"+app, "--upgrade", "none").addr
	others := []struct{ name, addr string }{
		{"envoy", envoyStrict(t, app)}, {"haproxy", translator(t, "", app, "")}, {"nginx", nginxStrict(t, app)},
	}
	const file = "testdata/strict.txt"
	known := make(map[string]string) // why, by "name verdict: others"
	data, err := os.ReadFile(file)
	if err != nil && os.Getenv("UPDATE") == "" {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if name, why, ok := strings.Cut(strings.TrimSpace(line), " # "); ok {
			known[name] = why
		}
	}
	var lines []string
	names, raw := strictVectors(t)
	verdicts := make(map[string][]string) // of ours and the others, by vector
	var mu sync.Mutex
	var asking sync.WaitGroup
	room := make(chan struct{}, 16)
	for _, name := range names {
		asking.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			v := []string{judged(t, ours, raw[name])}
			for _, o := range others {
				v = append(v, judged(t, o.addr, raw[name]))
			}
			mu.Lock()
			defer mu.Unlock()
			verdicts[name] = v
		})
	}
	asking.Wait()
	stricter := 0
	for _, name := range names {
		mine := verdicts[name][0]
		var differ []string
		for i, o := range others {
			switch theirs := verdicts[name][i+1]; {
			case refusal(theirs) && !refusal(mine):
				differ = append(differ, o.name+" "+theirs)
			case !refusal(theirs) && refusal(mine):
				stricter++
			}
		}
		if len(differ) > 0 {
			lines = append(lines, fmt.Sprintf("%s %s: %s", name, mine, strings.Join(differ, ", ")))
		}
	}
	t.Logf("%d vectors; refused here and taken by another: %d times", len(names), stricter)
	if os.Getenv("UPDATE") != "" {
		var b strings.Builder
		for _, l := range lines {
			fmt.Fprintf(&b, "%s # %s\n", l, known[l])
		}
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, l := range lines {
		if known[l] == "" {
			t.Errorf("%s: others refuse what we take: refuse it, or say why not in %s", l, file)
		}
		delete(known, l)
	}
	for l := range known {
		if !slices.Contains(lines, l) {
			t.Errorf("%s: is no longer so", l)
		}
	}
}
