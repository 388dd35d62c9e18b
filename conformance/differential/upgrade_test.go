package differential

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// tunnels is a backend that takes every upgrade up and sends back what comes,
// with its own farewell after "bye". Who asks for none gets 200.
func tunnels(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Upgrade") == "":
			return
		case strings.HasSuffix(r.URL.Path, "declined"):
			w.WriteHeader(http.StatusForbidden)
			return
		}
		conn, buf, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nX-Up: %s %s\r\n\r\n", r.Header.Get("Upgrade"), r.Host, r.Header.Get("X-Envoy-Expected-Rq-Timeout-Ms"))
		for {
			line, err := buf.ReadString('\n')
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "got "+line)
			if line == "bye\n" {
				return
			}
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// upgrade asks x for protocol at path, says lines if it gets a tunnel, and
// returns what came of it.
func upgrade(t *testing.T, x *proxy, path, protocol string) string {
	t.Helper()
	conn, err := net.Dial("tcp", x.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(within))
	_, _ = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: q.example\r\nConnection: keep-alive, Upgrade\r\nUpgrade: %s\r\n\r\n", path, protocol)
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return "error"
	}
	defer func() { _ = resp.Body.Close() }()
	h := resp.Header
	said := fmt.Sprintf("%d upgrade %q connection %q x-up %q service time %q", resp.StatusCode, h.Get("Upgrade"), strings.ToLower(h.Get("Connection")), h.Get("X-Up"), h.Get("X-Envoy-Upstream-Service-Time"))
	if resp.StatusCode != http.StatusSwitchingProtocols {
		b, err := io.ReadAll(resp.Body)
		return fmt.Sprintf("%s close %v body %q %v", said, resp.Close, b, err)
	}
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\nbye\n")
	b, err := io.ReadAll(in)
	return fmt.Sprintf("%s, then %q %v", said, b, err)
}

func TestUpgrades(t *testing.T) {
	ws := tunnels(t)
	_, port, err := net.SplitHostPort(ws.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s := newStand(t, "DELTA_GRPC")
	s.run(t, []trial{{"upgrades", []step{{
		part: part{
			hcm:      `{upgrade_configs: [{upgrade_type: websocket}, {upgrade_type: never, enabled: false}]}`,
			clusters: []string{fmt.Sprintf(`{name: ws, type: STATIC, connect_timeout: 5s, load_assignment: {cluster_name: ws, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %s}}}}]}]}}`, port)},
			routes: `[
				{match: {prefix: /off}, route: {cluster: ws, upgrade_configs: [{upgrade_type: WebSocket, enabled: false}]}},
				{match: {prefix: /own}, route: {cluster: ws, timeout: 3s, upgrade_configs: [{upgrade_type: Own}, {upgrade_type: never}]}},
				{match: {prefix: /redirect}, redirect: {path_redirect: /x}},
				{match: {prefix: /}, route: {cluster: ws}}]`,
		},
		do: func(t *testing.T, s *stand) {
			t.Helper()
			for _, q := range [][2]string{
				{"/", "websocket"},
				{"/", "WebSocket"},
				{"/", "own"},
				{"/", "never"},
				{"/", "own, websocket"},
				{"/off", "websocket"},
				{"/own", "websocket"},
				{"/own", "own"},
				{"/own", "NEVER"},
				{"/redirect", "own"},
				{"/off", "own"},
				{"/declined", "websocket"},
				{"/redirect", "websocket"},
			} {
				e, o := upgrade(t, s.envoy, q[0], q[1]), upgrade(t, s.ours, q[0], q[1])
				if e != o {
					t.Errorf("%s to %s:\nEnvoy    %s\nquadnine %s", q[0], q[1], e, o)
				}
			}
		},
	}}}})
}
