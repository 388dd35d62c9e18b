package conformance

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/quadnine/quadnine/bench/load"
)

// nginxUpstream starts nginx with a page of 100,000 bytes, a chunked one (gzip
// off the fly has no length) and an error page.
func nginxUpstream(t *testing.T, h2 string) string {
	t.Helper()
	dir, addr := t.TempDir(), addrs(t, 1)[0]
	page := strings.Repeat(`{"metric":"pv","value":42}`+"\n", 4000)
	if err := os.WriteFile(filepath.Join(dir, "query.json"), []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr error;
events {}
http {
  access_log off; client_body_temp_path %[1]s/t1; proxy_temp_path %[1]s/t2; fastcgi_temp_path %[1]s/t3; uwsgi_temp_path %[1]s/t4; scgi_temp_path %[1]s/t5;
  types { application/json json; }
  gzip on; gzip_types application/json; gzip_proxied any; gzip_http_version 1.0;
  server { listen %[2]s %[3]s; root %[1]s; location = /down { return 503 "down\n"; } }
}`, dir, addr, h2)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	listening(t, tool(t, "nginx", "-e", "stderr", "-p", dir, "-c", conf), addr)
	return addr
}

// haproxyUpstream starts HAProxy answering by itself.
func haproxyUpstream(t *testing.T, h2 string) string {
	t.Helper()
	dir, addr := t.TempDir(), addrs(t, 1)[0]
	conf := filepath.Join(dir, "haproxy.cfg")
	text := fmt.Sprintf(`defaults
  mode http
  timeout client 30s
  timeout connect 5s
  timeout server 30s
frontend in
  bind %s %s
  http-request return status 503 content-type text/plain string "down" if { path /down }
  http-request return status 200 content-type application/json string "{\"metric\":\"pv\",\"value\":42}"
`, addr, h2)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	listening(t, tool(t, "haproxy", "-db", "-f", conf), addr)
	return addr
}

func TestRealServersBehindIt(t *testing.T) {
	for _, c := range []struct {
		name, scheme string
		start        func(t *testing.T, h2 string) string
		h2           string
	}{
		{"nginx h1", "h1", nginxUpstream, ""},
		{"nginx h2c", "h2c", nginxUpstream, "http2"},
		{"nginx probed", "http", nginxUpstream, ""},
		{"haproxy h1", "h1", haproxyUpstream, ""},
		{"haproxy h2c", "h2c", haproxyUpstream, "proto h2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr := c.start(t, c.h2)
			s := startSidecar(t, nil, "--upstream", c.scheme+"://"+addr)
			direct := client(t, c.h2 != "")
			want := mustGet(t, direct, "http://"+addr+"/query.json")
			for name, h2 := range protocols {
				t.Run(name, func(t *testing.T) {
					through := client(t, h2)
					if got := mustGet(t, through, s.url("/query.json")); !bytes.Equal(got, want) {
						t.Errorf("%d bytes through the sidecar, %d directly", len(got), len(want))
					}
					status, body, err := get(deadline(t, within), through, s.url("/down"))
					if err != nil || status != http.StatusServiceUnavailable || !bytes.HasPrefix(body, []byte("down")) {
						t.Errorf("the upstream's own 503 became %d %q, %v", status, body, err)
					}
					r := load.Run{Addr: s.addr, Paths: []string{"/query.json"}, Requests: soak(1000, 100_000), Clients: 4, Streams: 8, HTTP1: !h2, CPU: -1}
					if !h2 {
						r.Streams = 1
					}
					if _, err := r.Do(deadline(t, time.Duration(soak(1, 10))*time.Minute)); err != nil {
						t.Error(err)
					}
				})
			}
		})
	}
}

// TestPrometheusBehindIt puts a statistics service behind the sidecar that was
// not written for it: Prometheus' own HTTP API, which speaks HTTP/1.1.
func TestPrometheusBehindIt(t *testing.T) {
	dir, addr := t.TempDir(), addrs(t, 1)[0]
	conf := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("scrape_configs:\n- job_name: self\n  scrape_interval: 1s\n  static_configs:\n  - targets: [%q]\n", addr)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := tool(t, "prometheus", "--config.file="+conf, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr)
	listening(t, p, addr)
	var at string // the first sample's time: asked about that instant, the same question has the same answer
	sample := regexp.MustCompile(`"value":\[[0-9.]+,"([0-9.]+)"\]`)
	err := p.Await(deadline(t, 2*within), "have scraped itself", func(ctx context.Context) bool {
		_, body, err := get(ctx, http.DefaultClient, "http://"+addr+"/api/v1/query?query=timestamp(up)")
		m := sample.FindSubmatch(body)
		if err != nil || m == nil {
			return false
		}
		at = string(m[1])
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	s := startSidecar(t, nil, "--upstream", "http://"+addr)
	paths := []string{
		"/api/v1/query?time=" + at + "&query=" + url.QueryEscape(`sort({job="self"})`),
		"/api/v1/query_range?step=1&start=" + at + "&end=" + at + "&query=" + url.QueryEscape(`count by (job) ({__name__=~".+"})`),
		"/api/v1/label/job/values",
		"/api/v1/query?query=" + url.QueryEscape(`sum(`), // 400 with an explanation
	}
	for name, h2 := range protocols {
		t.Run(name, func(t *testing.T) {
			through := client(t, h2)
			for _, path := range paths {
				wantStatus, want, err := get(deadline(t, within), http.DefaultClient, "http://"+addr+path)
				if err != nil {
					t.Fatal(err)
				}
				if bytes.Contains(want, []byte(`"result":[]`)) {
					t.Fatalf("%s is answered with nothing even directly: the comparison is empty", path)
				}
				status, got, err := get(deadline(t, within), through, s.url(path))
				if err != nil || status != wantStatus || !bytes.Equal(got, want) {
					t.Errorf("%s: %d %.200s, %v; directly %d %.200s", path, status, got, err, wantStatus, want)
				}
			}
			a := curl(t, h2, "--data-urlencode", "query=vector(42)", "--data-urlencode", "time="+at, s.url("/api/v1/query"))
			a.want(t, h2)
			if !bytes.Contains(a.body, []byte(`"42"]`)) {
				t.Errorf("POST query: %s", a.body)
			}
		})
	}
}
