package compile

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/quadnine/quadnine/snapshot"
)

const rawBuffer = `{name: envoy.transport_sockets.raw_buffer, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}`

var observedListeners = []observed{
	{name: "default filter chain", listener: "default_filter_chain: chain", observe: func(t *testing.T, s *scene) {
		t.Helper()
		s.get("/").is(t, 200)
	}},
	{name: "plain text", listener: "filter_chain: {filter_chain_match: {transport_protocol: raw_buffer}, transport_socket: " + rawBuffer + "}", observe: func(t *testing.T, s *scene) {
		t.Helper()
		s.get("/").is(t, 200)
		// Any other socket would be something else on the wire.
		const tls = `typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext}`
		for _, other := range []string{"{name: tls}", "{name: envoy.transport_sockets.raw_buffer, " + tls + "}"} {
			nacked(t, "{filter_chain: {transport_socket: "+other+"}}", "", "transport_socket")
		}
	}},
	{name: "listener address", listener: "address: {socket_address: {address: 192.0.2.9, port_value: 81}}", observe: func(t *testing.T, s *scene) {
		t.Helper()
		if c, err := s.net.Dial(t.Context(), "192.0.2.9:80"); err == nil {
			_ = c.Close()
			t.Error("port 80 is open")
		}
		c, err := s.net.Dial(t.Context(), "192.0.2.9:81")
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}},
	{name: "listener buffer", listener: "per_connection_buffer_limit_bytes: 20000", observe: func(t *testing.T, s *scene) {
		t.Helper()
		small, large := s.unread(), newScene(t, observed{}).unread()
		if small >= large {
			t.Errorf("an app gets rid of %d bytes that nobody reads within 20000, and of %d by default", small, large)
		}
	}},
	{name: "listener drains", hcm: "drain_timeout: 7s", observe: func(t *testing.T, s *scene) {
		t.Helper()
		var goaways []time.Duration
		h := s.http2()
		begin := time.Now()
		s.apply(&snapshot.Snapshot{})
		for f := range h.frames {
			if f.kind == http2.FrameGoAway {
				goaways = append(goaways, f.at.Sub(begin).Round(100*time.Millisecond))
			}
		}
		if len(goaways) != 2 || goaways[1]-goaways[0] != 7*time.Second {
			t.Errorf("GOAWAYs after %v, want two that are 7 s apart", goaways)
		}
	}},
	{name: "callers' windows", hcm: "http2_protocol_options: {max_concurrent_streams: 7, initial_stream_window_size: 70000, initial_connection_window_size: 90000}", observe: func(t *testing.T, s *scene) {
		t.Helper()
		h := s.http2()
		synctest.Wait()
		h.told(t, map[http2.SettingID]uint32{http2.SettingMaxConcurrentStreams: 7, http2.SettingInitialWindowSize: 70000}, 90000)
	}},
}

// unread asks for an endless body over HTTP/1.1 and does not read it. It returns
// how much of it the app could write.
func (s *scene) unread() int64 {
	s.t.Helper()
	var n atomic.Int64
	s.a.does(func(w http.ResponseWriter, _ *http.Request) {
		for {
			m, err := w.Write(make([]byte, 1000))
			if n.Add(int64(m)); err != nil {
				return
			}
		}
	})
	c, _ := s.dial("GET / HTTP/1.1\r\nhost: a\r\n\r\n")
	synctest.Wait()
	_ = c.Close()
	synctest.Wait()
	return n.Load()
}

// frame is what of an HTTP/2 frame is looked at.
type frame struct {
	kind      http2.FrameType
	at        time.Time
	settings  map[http2.SettingID]uint32
	increment uint32
}

// conversation is the frames that one side of a connection gets.
type conversation struct{ frames chan frame }

// http2 opens a connection to the sidecar as a caller does and reads its frames.
func (s *scene) http2() conversation {
	s.t.Helper()
	c, in := s.dial(http2.ClientPreface)
	fr := http2.NewFramer(c, in)
	if err := fr.WriteSettings(); err != nil {
		s.t.Fatal(err)
	}
	return listen(fr)
}

// listen reads until the connection ends.
func listen(fr *http2.Framer) conversation {
	h := conversation{make(chan frame, 100)}
	go func() {
		defer close(h.frames)
		for {
			f, err := fr.ReadFrame()
			if err != nil {
				return
			}
			one := frame{kind: f.Header().Type, at: time.Now()}
			switch f := f.(type) {
			case *http2.SettingsFrame:
				one.settings = make(map[http2.SettingID]uint32)
				_ = f.ForeachSetting(func(s http2.Setting) error { one.settings[s.ID] = s.Val; return nil })
			case *http2.WindowUpdateFrame:
				one.increment = f.Increment
			}
			h.frames <- one
		}
	}()
	return h
}

// told checks the settings that came first, and the connection's window.
func (h conversation) told(t *testing.T, want map[http2.SettingID]uint32, window uint32) {
	t.Helper()
	if len(h.frames) < 2 {
		t.Fatalf("%d frames came", len(h.frames))
	}
	settings := (<-h.frames).settings
	for id, v := range want {
		same(t, id.String(), settings[id], v)
	}
	const initial = 65535 // RFC 9113, 6.9.2
	same(t, "connection's window", initial+(<-h.frames).increment, window)
}

// nacked checks that a listener is refused for a field.
func nacked(t *testing.T, listener, manager, field string) {
	t.Helper()
	_, _, err := New().Listener(observed{listener: listener, hcm: manager}.listenerWire(t))
	if err == nil || !strings.Contains(err.Error(), field) {
		t.Errorf("%s%s is not refused for its %s: %v", listener, manager, field, err)
	}
}

var observedManagers = []observed{
	{name: "request timeout", hcm: "request_timeout: 2s", observe: func(t *testing.T, s *scene) {
		t.Helper()
		s.a.does(func(_ http.ResponseWriter, req *http.Request) { _ = drain(req.Body) })
		c, in := s.dial("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n12345")
		defer func() { _ = c.Close() }()
		same(t, "408 after", after(func() {
			if line, _ := in.ReadString('\n'); !strings.Contains(line, "408") {
				t.Errorf("answer %q", line)
			}
		}), 2*time.Second)
	}},
	{name: "headers timeout", hcm: "request_headers_timeout: 3s", observe: func(t *testing.T, s *scene) {
		t.Helper()
		_, in := s.dial("GET / HTTP/1.1\r\nhost: a\r\n")
		same(t, "the connection ends after", after(func() { drain(in) }), 3*time.Second)
	}},
	{name: "callers' idle connections", hcm: "common_http_protocol_options: {idle_timeout: 4s}", observe: func(t *testing.T, s *scene) {
		t.Helper()
		_, in := s.dial("GET / HTTP/1.1\r\nhost: a\r\n\r\n")
		same(t, "the connection ends after", after(func() { drain(in) }), 4*time.Second)
	}},
	{name: "underscores are refused", hcm: "common_http_protocol_options: {headers_with_underscores_action: REJECT_REQUEST}", observe: func(t *testing.T, s *scene) {
		t.Helper()
		s.get("/", "a_b", "1").is(t, 400)
		s.get("/", "a-b", "1").is(t, 200)
	}},
	{name: "underscores are dropped", hcm: "common_http_protocol_options: {headers_with_underscores_action: DROP_HEADER}", observe: func(t *testing.T, s *scene) {
		t.Helper()
		h := s.get("/", "a_b", "1", "a-b", "2").seen(t).Header
		same(t, "a_b", h.Get("A_b"), "")
		same(t, "a-b", h.Get("A-B"), "2")
	}},
	{name: "callers' certificates", hcm: "forward_client_cert_details: SANITIZE", observe: func(t *testing.T, s *scene) {
		t.Helper()
		same(t, "forwarded", s.get("/", "x-forwarded-client-cert", "forged").seen(t).Header.Get("X-Forwarded-Client-Cert"), "")
		always := newScene(t, observed{hcm: "forward_client_cert_details: ALWAYS_FORWARD_ONLY"})
		same(t, "always forwarded", always.get("/", "x-forwarded-client-cert", "mine").seen(t).Header.Get("X-Forwarded-Client-Cert"), "mine")
		only := newScene(t, observed{hcm: "forward_client_cert_details: FORWARD_ONLY"})
		same(t, "forwarded without a certificate", only.get("/", "x-forwarded-client-cert", "forged").seen(t).Header.Get("X-Forwarded-Client-Cert"), "")
	}},
	{name: "internal callers", hcm: "{use_remote_address: true, internal_address_config: {cidr_ranges: [{address_prefix: 192.0.2.0, prefix_len: 24}]}}", observe: func(t *testing.T, s *scene) {
		t.Helper()
		same(t, "internal", s.get("/").seen(t).Header.Get("X-Envoy-Internal"), "true")
		other := newScene(t, observed{hcm: "{use_remote_address: true, internal_address_config: {cidr_ranges: [{address_prefix: 192.0.2.0, prefix_len: 32}]}}"})
		same(t, "internal from outside", other.get("/").seen(t).Header.Get("X-Envoy-Internal"), "")
	}},
	{name: "upgrade", hcm: "upgrade_configs: [{upgrade_type: websocket}, {upgrade_type: other, enabled: false}]", clusters: []string{"{name: h1, type: STATIC, " + endpointsAt("10.0.0.1:80") + "}"}, routes: "[{match: {prefix: /}, route: {cluster: h1}}]", observe: func(t *testing.T, s *scene) {
		t.Helper()
		s.ask(s.h1, http.MethodGet, "/", nil, "connection", "upgrade", "upgrade", "other").is(t, 403)
		got := s.ask(s.h1, http.MethodGet, "/", nil, "connection", "upgrade", "upgrade", "websocket").is(t, 200)
		same(t, "the app is asked for", got.seen(t).Header.Get("Upgrade"), "websocket")
	}},
	{name: "extended connect", hcm: "{http2_protocol_options: {allow_connect: true}, upgrade_configs: [{upgrade_type: websocket}]}", observe: func(t *testing.T, s *scene) {
		t.Helper()
		for s, offered := range map[*scene]uint32{s: 1, newScene(t, observed{}): 0} {
			h := s.http2()
			synctest.Wait()
			same(t, "offered", (<-h.frames).settings[http2.SettingEnableConnectProtocol], offered)
		}
	}},
	{name: "upgrade by route", clusters: []string{"{name: h1, type: STATIC, " + endpointsAt("10.0.0.1:80") + "}"}, hcm: "upgrade_configs: [{upgrade_type: other}]", routes: `[
 {match: {prefix: /off}, route: {cluster: h1, upgrade_configs: [{upgrade_type: other, enabled: false}]}},
 {match: {prefix: /}, route: {cluster: h1, upgrade_configs: [{upgrade_type: websocket}]}}]`, observe: func(t *testing.T, s *scene) {
		t.Helper()
		s.ask(s.h1, http.MethodGet, "/off", nil, "connection", "upgrade", "upgrade", "other").is(t, 403)
		got := s.ask(s.h1, http.MethodGet, "/", nil, "connection", "upgrade", "upgrade", "websocket").is(t, 200)
		same(t, "the app is asked for", got.seen(t).Header.Get("Upgrade"), "websocket")
	}},
	{name: "expect is the app's", hcm: "proxy_100_continue: true", observe: func(t *testing.T, s *scene) {
		t.Helper()
		for s, theirs := range map[*scene]bool{s: true, newScene(t, observed{}): false} {
			s.a.does(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
			c, in := s.dial("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
			line, _ := in.ReadString('\n')
			if theirs == strings.Contains(line, "100") {
				t.Errorf("proxy_100_continue is %v, and the first answer %q", theirs, line)
			}
			_ = c.Close()
		}
	}},
	{name: "router by name", hcm: "http_filters: [{name: envoy.filters.http.router}]", observe: func(t *testing.T, s *scene) {
		t.Helper()
		s.get("/").is(t, 200)
	}},
	{name: "inline routes", hcm: "{rds: null, route_config: {virtual_hosts: [{name: v, domains: ['*'], routes: [{match: {prefix: /}, route: {cluster: b}}]}]}}", observe: func(t *testing.T, s *scene) {
		t.Helper()
		same(t, "app", s.get("/").seen(t).App, "b")
	}},
}
