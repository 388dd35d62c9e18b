package differential

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
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
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nX-Up: %s %s %s\r\n", r.Header.Get("Upgrade"), r.Method, r.Host, r.Header.Get("X-Envoy-Expected-Rq-Timeout-Ms"))
		if key := r.Header.Get("Sec-Websocket-Key"); key != "" { // RFC 6455 section 4.2.2
			sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
			_, _ = fmt.Fprintf(conn, "Sec-Websocket-Accept: %s\r\n", base64.StdEncoding.EncodeToString(sum[:]))
		}
		_, _ = io.WriteString(conn, "\r\n")
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

// extend asks as upgrade does, by an extended CONNECT (RFC 8441).
func extend(t *testing.T, x *proxy, path, protocol string) string {
	t.Helper()
	conn, err := net.Dial("tcp", x.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(within))
	_, _ = io.WriteString(conn, http2.ClientPreface)
	fr := http2.NewFramer(conn, conn)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = fr.WriteSettings()
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, h := range [][2]string{{":method", "CONNECT"}, {":protocol", protocol}, {":scheme", "http"}, {":authority", "q.example"}, {":path", path}} {
		_ = enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	said := ""
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return said + "the connection ended"
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if v, ok := f.Value(http2.SettingEnableConnectProtocol); ok {
				said += fmt.Sprintf("offered %d; ", v)
			}
		case *http2.MetaHeadersFrame:
			said += f.PseudoValue("status")
			for _, h := range f.RegularFields() {
				switch h.Name {
				case "upgrade", "connection", "x-up", "location", "x-envoy-upstream-service-time", "sec-websocket-accept":
					said += fmt.Sprintf(" %s %q", h.Name, h.Value)
				}
			}
			if f.PseudoValue("status") == "200" {
				_ = fr.WriteData(1, false, []byte("GET / HTTP/1.1\nbye\n"))
			}
			if f.StreamEnded() {
				return said + " and its end"
			}
		case *http2.DataFrame:
			said += fmt.Sprintf(" %q", f.Data())
			if f.StreamEnded() {
				return said + " and its end"
			}
		case *http2.RSTStreamFrame:
			return said + " " + f.ErrCode.String()
		}
	}
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
			hcm:      `{http2_protocol_options: {allow_connect: true}, upgrade_configs: [{upgrade_type: websocket}, {upgrade_type: never, enabled: false}]}`,
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
				if strings.Contains(q[1], ",") {
					continue // :protocol is one
				}
				e, o = extend(t, s.envoy, q[0], q[1]), extend(t, s.ours, q[0], q[1])
				// The end of a connection is the end of a stream (RFC 8441 section 4); Envoy calls it an error.
				e = strings.ReplaceAll(e, " CONNECT_ERROR", " and its end")
				if e, o = strings.ReplaceAll(e, `" "`, ""), strings.ReplaceAll(o, `" "`, ""); e != o { // frames may be cut anywhere
					t.Errorf("%s to %s by extended CONNECT:\nEnvoy    %s\nquadnine %s", q[0], q[1], e, o)
				}
			}
		},
	}}}})
}
