package compile

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// one is a case of one cluster c, to which every request goes.
func one(name, fields string, observe func(t *testing.T, s *scene), ends ...string) observed {
	return observed{name: name, clusters: []string{"{name: c, " + fields + "}"}, routes: "[{match: {prefix: /}, route: {cluster: c}}]", ends: ends, observe: observe}
}

// options is HttpProtocolOptions with these fields.
func options(fields string) string {
	return `typed_extension_protocol_options: {h: {"@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, ` + fields + `}}`
}

// dials checks how often a was dialed for n requests, each after a pause.
func dials(n int, pause time.Duration, want int) func(t *testing.T, s *scene) {
	return func(t *testing.T, s *scene) {
		t.Helper()
		for range n {
			s.get("/").is(t, 200)
			time.Sleep(pause)
		}
		same(t, "connections", s.net.Dials("10.0.0.1:80"), want)
	}
}

// speaks checks which protocol the app is asked in, over both.
func speaks(overH1, overH2 string) func(t *testing.T, s *scene) {
	return func(t *testing.T, s *scene) {
		t.Helper()
		same(t, "over HTTP/1.1", s.ask(s.h1, http.MethodGet, "/", nil).seen(t).Proto, overH1)
		same(t, "over HTTP/2", s.get("/").seen(t).Proto, overH2)
	}
}

// upstreamWindows checks what the sidecar tells an app.
func upstreamWindows(t *testing.T, s *scene) {
	t.Helper()
	l := s.net.Listen("10.0.0.3:80")
	t.Cleanup(l.Kill)
	told := make(chan conversation, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = c.Read(make([]byte, len(http2.ClientPreface)))
		told <- listen(http2.NewFramer(c, c))
	}()
	go func() { _, _ = s.h2.Get("http://192.0.2.9:80/") }() //nolint:bodyclose // nobody answers
	h := <-told
	synctest.Wait()
	h.told(t, map[http2.SettingID]uint32{http2.SettingInitialWindowSize: 70000}, 90000)
}

// spread checks that each request goes to an endpoint without one, whatever their
// turn: whoever looks at only two at a time meets a busy one.
func spread(t *testing.T, s *scene) {
	t.Helper()
	const n = 8
	var busiest atomic.Int64
	var release [n]chan struct{}
	served := make(chan int, n+1)
	for i := range n {
		var active atomic.Int64
		release[i] = make(chan struct{})
		s.app("x", "10.0.1."+strconv.Itoa(i)+":80").does(func(http.ResponseWriter, *http.Request) {
			busiest.Store(max(busiest.Load(), active.Add(1)))
			served <- i
			<-release[i]
			active.Add(-1)
		})
	}
	done := make(chan struct{}, n+1)
	for range n {
		go func() { s.get("/"); done <- struct{}{} }()
		synctest.Wait()
	}
	var order [n]int
	for i := range order {
		order[i] = <-served
	}
	close(release[order[5]])
	synctest.Wait()
	go func() { s.get("/"); done <- struct{}{} }()
	synctest.Wait()
	same(t, "requests of the busiest", busiest.Load(), 1)
	same(t, "the idle one", <-served, order[5])
	for i := range n {
		if i != order[5] {
			close(release[i])
		}
	}
	for range n + 1 {
		<-done
	}
}

func eight() string {
	var at []string
	for i := range 8 {
		at = append(at, "10.0.1."+strconv.Itoa(i)+":80")
	}
	return endpointsAt(at...)
}

// weighty is two localities, of which only b's has a weight.
const weighty = `{cluster_name: c, endpoints: [
 {locality: {region: r, zone: a, sub_zone: s}, lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 80}}}}]},
 {locality: {region: r, zone: b, sub_zone: s}, load_balancing_weight: 3, lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.2, port_value: 80}}}}]}]}`

func onlyB(t *testing.T, s *scene) {
	t.Helper()
	for range 20 {
		same(t, "app", s.get("/").seen(t).App, "b")
	}
}

// byPolicy is an EDS cluster with a load balancing policy.
func byPolicy(name, fields string) string {
	return "type: EDS, eds_cluster_config: {eds_config: {ads: {}}}, " + options("explicit_http_config: {http2_protocol_options: {}}") +
		", load_balancing_policy: {policies: [{typed_extension_config: {name: p, typed_config: {'@type': type.googleapis.com/envoy.extensions.load_balancing_policies." + name + ", " + fields + "}}}]}"
}

// unanswered counts the bytes of a body that an app does not read.
func (s *scene) unanswered() int64 {
	s.t.Helper()
	var n atomic.Int64
	l := s.net.Listen("10.0.0.3:80")
	s.t.Cleanup(l.Kill)
	go func() { _, _ = l.Accept() }()
	c, _ := s.dial("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\n")
	go func() {
		for {
			m, err := c.Write(make([]byte, 1000))
			if n.Add(int64(m)); err != nil {
				return
			}
		}
	}()
	synctest.Wait()
	_ = c.Close()
	synctest.Wait()
	return n.Load()
}

var observedClusters = []observed{
	one("connect timeout", "connect_timeout: 2s, "+endpointsAt("10.0.0.3:80"), func(t *testing.T, s *scene) {
		t.Helper()
		t.Cleanup(s.net.Listen("10.0.0.3:80").Kill) // nobody accepts
		same(t, "503 after", after(func() { s.get("/").is(t, 503) }), 2*time.Second)
	}),
	one("cluster buffer", "per_connection_buffer_limit_bytes: 20000, "+endpointsAt("10.0.0.3:80"), func(t *testing.T, s *scene) {
		t.Helper()
		small, large := s.unanswered(), newScene(t, one("", endpointsAt("10.0.0.3:80"), nil)).unanswered()
		if small >= large {
			t.Errorf("a caller gets rid of %d bytes that nobody reads within 20000, and of %d by default", small, large)
		}
	}),
	one("requests of a connection", "max_requests_per_connection: 2, "+speaksH2+", "+endpointsAt("10.0.0.1:80"), dials(6, 0, 3)),
	one("requests of a connection by options", options("common_http_protocol_options: {max_requests_per_connection: 3}, explicit_http_config: {http_protocol_options: {}}")+", "+endpointsAt("10.0.0.1:80"), dials(6, 0, 2)),
	one("idle connection", "common_http_protocol_options: {idle_timeout: 5s}, http2_protocol_options: {}, "+endpointsAt("10.0.0.1:80"), dials(3, 6*time.Second, 3)),
	one("idle connection by options", options("common_http_protocol_options: {idle_timeout: 5s}, explicit_http_config: {http2_protocol_options: {}}")+", "+endpointsAt("10.0.0.1:80"), dials(3, 6*time.Second, 3)),
	one("idle connection that is young", options("common_http_protocol_options: {idle_timeout: 7s}, explicit_http_config: {http2_protocol_options: {}}")+", "+endpointsAt("10.0.0.1:80"), dials(3, 6*time.Second, 1)),
	one("HTTP/1.1", options("explicit_http_config: {http_protocol_options: {}}")+", "+endpointsAt("10.0.0.1:80"), speaks("HTTP/1.1", "HTTP/1.1")),
	one("HTTP/2", options("explicit_http_config: {http2_protocol_options: {}}")+", "+endpointsAt("10.0.0.1:80"), speaks("HTTP/2.0", "HTTP/2.0")),
	one("HTTP/2 as it was said before", "http2_protocol_options: {}, "+endpointsAt("10.0.0.1:80"), speaks("HTTP/2.0", "HTTP/2.0")),
	one("callers' protocol as it was said before", "protocol_selection: USE_DOWNSTREAM_PROTOCOL, http_protocol_options: {}, http2_protocol_options: {}, "+endpointsAt("10.0.0.1:80"), speaks("HTTP/1.1", "HTTP/2.0")),
	one("callers' protocol", options("use_downstream_protocol_config: {http_protocol_options: {}, http2_protocol_options: {initial_stream_window_size: 70000, initial_connection_window_size: 90000}}")+", "+endpointsAt("10.0.0.1:80", "10.0.0.1:80"), speaks("HTTP/1.1", "HTTP/2.0")),
	one("callers' protocol and windows", options("use_downstream_protocol_config: {http2_protocol_options: {initial_stream_window_size: 70000, initial_connection_window_size: 90000}}")+", "+endpointsAt("10.0.0.3:80"), upstreamWindows),
	one("apps' windows", options("explicit_http_config: {http2_protocol_options: {initial_stream_window_size: 70000, initial_connection_window_size: 90000}}")+", "+endpointsAt("10.0.0.3:80"), upstreamWindows),
	one("streams of a connection", options("explicit_http_config: {http2_protocol_options: {max_concurrent_streams: 2}}")+", "+endpointsAt("10.0.0.1:80"), func(t *testing.T, s *scene) {
		t.Helper()
		release, done := make(chan struct{}), make(chan struct{})
		s.a.does(func(http.ResponseWriter, *http.Request) { <-release })
		for range 5 {
			go func() { s.get("/"); done <- struct{}{} }()
		}
		synctest.Wait()
		same(t, "connections for 5 streams", s.net.Dials("10.0.0.1:80"), 3)
		close(release)
		for range 5 {
			<-done
		}
	}),
	one("choices", "lb_policy: LEAST_REQUEST, least_request_lb_config: {choice_count: 200}, "+speaksH2+", "+eight(), spread),
	one("choices by policy", options("explicit_http_config: {http2_protocol_options: {}}")+", load_balancing_policy: {policies: [{typed_extension_config: {name: p, typed_config: {'@type': type.googleapis.com/envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest, choice_count: 200}}}]}, "+eight(), spread),
	one("localities by round robin", byPolicy("round_robin.v3.RoundRobin", "locality_lb_config: {locality_weighted_lb_config: {}}"), onlyB, weighty),
	one("localities by least request", byPolicy("least_request.v3.LeastRequest", "locality_lb_config: {locality_weighted_lb_config: {}}"), onlyB, weighty),
	one("localities by random", byPolicy("random.v3.Random", "locality_lb_config: {locality_weighted_lb_config: {}}"), onlyB, weighty),
	one("name of an assignment", "type: EDS, eds_cluster_config: {service_name: other, eds_config: {self: {}}}, http2_protocol_options: {}", func(t *testing.T, s *scene) {
		t.Helper()
		same(t, "app", s.get("/").seen(t).App, "b")
	}, "{cluster_name: other, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.2, port_value: 80}}}}]}]}"),
}
