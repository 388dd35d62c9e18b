package proxy

import (
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/snapshot"
)

// envoyRig is a sidecar with one listener of a management server, whose routes
// all go to "a" unless change says otherwise. The app answers with the head that
// it got.
func envoyRig(t *testing.T, change func(l *snapshot.Listener, h *snapshot.VirtualHost), opts ...func(*Options)) *rig {
	t.Helper()
	r := newManaged(t, opts...)
	r.app("a:80", echoed)
	l := listener("in", "sidecar:80", "a")
	l.Inline.Hosts[0].Routes[0].Name = "all"
	l.HTTP.Envoy, l.HTTP.GenerateRequestID = true, true
	l.HTTP.ServerHeader, l.HTTP.ServerName = snapshot.ServerOverwrite, "envoy"
	if change != nil {
		change(l, l.Inline.Hosts[0])
	}
	fresh := *l.Inline.Hosts[0]
	l.Inline.Hosts[0] = &snapshot.VirtualHost{
		Name: fresh.Name, Domains: fresh.Domains, Routes: fresh.Routes, Mutations: fresh.Mutations, Policies: fresh.Policies,
		AttemptCount: fresh.AttemptCount, AttemptCountResponse: fresh.AttemptCountResponse,
	}
	if err := l.Inline.Finish(nil); err != nil {
		t.Fatal(err)
	}
	r.apply(snapshotOf([]*snapshot.Listener{l}, cluster("a", "a:80"), cluster("dead", "nobody:80"), cluster("empty"), cluster("b", "b:80")))
	return r
}

// echoed answers with the request's head as JSON.
func echoed(w http.ResponseWriter, req *http.Request) {
	h := req.Header.Clone()
	h.Set("path", req.RequestURI)
	h.Set("host", req.Host)
	w.Header().Set("x-up", "u")
	_, _ = io.Copy(io.Discard, req.Body)
	if d := req.URL.Query().Get("wait"); d != "" {
		d, _ := time.ParseDuration(d)
		select {
		case <-time.After(d):
		case <-req.Context().Done():
			return
		}
	}
	_ = json.NewEncoder(w).Encode(h)
}

// seen is the head that the app got.
func (r reply) seen(t *testing.T) http.Header {
	t.Helper()
	h := make(http.Header)
	if err := json.Unmarshal([]byte(r.body), &h); err != nil {
		t.Fatalf("%d %q: %v", r.StatusCode, r.body, err)
	}
	return h
}

func wantField(t *testing.T, h http.Header, name, want string) {
	t.Helper()
	if got := strings.Join(h.Values(name), "|"); got != want {
		t.Errorf("%s: %q, want %q", name, got, want)
	}
}

func format(t *testing.T, s string) snapshot.Format {
	t.Helper()
	f, err := snapshot.ParseFormat(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func add(t *testing.T, name, value string) snapshot.HeaderMutation {
	t.Helper()
	return snapshot.HeaderMutation{Name: name, Value: format(t, value)}
}

// TestCallersHead is what the connection manager does to a request's head. The
// values are Envoy 1.40's.
func TestCallersHead(t *testing.T) {
	for _, tc := range []struct {
		name  string
		http  func(h *snapshot.HTTP)
		send  []string
		want  map[string]string
		reqID string // "" is generated
	}{
		{
			"as it comes", nil,
			[]string{"x-forwarded-for", "1.2.3.4, 5.6.7.8", "x-request-id", "foo", "x-envoy-retry-on", "5xx", "x-envoy-internal", "true", "x-envoy-original-path", "z", "referer", "a b", "x-forwarded-client-cert", "c"},
			map[string]string{"x-forwarded-for": "1.2.3.4, 5.6.7.8", "x-forwarded-proto": "http", "x-envoy-retry-on": "", "x-envoy-internal": "", "x-envoy-external-address": "", "x-envoy-original-path": "z", "referer": "", "x-forwarded-client-cert": ""},
			"foo",
		},
		{
			"empty", func(h *snapshot.HTTP) { h.PreserveRequestID = true },
			[]string{"x-request-id", ""},
			nil,
			"",
		},
		{
			"edge", func(h *snapshot.HTTP) { h.UseRemoteAddress = true },
			[]string{"x-forwarded-for", "1.2.3.4", "x-request-id", "foo", "x-forwarded-proto", "https", "x-envoy-original-path", "z"},
			map[string]string{"x-forwarded-for": "1.2.3.4,192.0.2.1", "x-forwarded-proto": "http", "x-envoy-external-address": "192.0.2.1", "x-envoy-original-path": "", "x-envoy-expected-rq-timeout-ms": "15000"},
			"",
		},
		{
			"edge behind one", func(h *snapshot.HTTP) { h.UseRemoteAddress, h.TrustedHops = true, 1 },
			[]string{"x-forwarded-for", "1.2.3.4,5.6.7.8", "x-forwarded-proto", "https"},
			map[string]string{"x-forwarded-for": "1.2.3.4,5.6.7.8,192.0.2.1", "x-forwarded-proto": "https", "x-envoy-external-address": "5.6.7.8"},
			"",
		},
		{
			"nothing appended", func(h *snapshot.HTTP) { h.UseRemoteAddress, h.SkipAppend, h.PreserveRequestID = true, true, true },
			[]string{"x-request-id", "foo"},
			map[string]string{"x-forwarded-for": "", "x-envoy-external-address": "192.0.2.1"},
			"foo",
		},
		{
			"detected", func(h *snapshot.HTTP) { h.DetectXFF, h.DetectHops = true, 1 },
			[]string{"x-forwarded-for", "1.2.3.4, 5.6.7.8"},
			map[string]string{"x-forwarded-for": "1.2.3.4, 5.6.7.8,192.0.2.1"},
			"",
		},
		{
			"internal", func(h *snapshot.HTTP) {
				h.UseRemoteAddress, h.Internal = true, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
			},
			[]string{"x-envoy-upstream-rq-timeout-ms", "100", "x-request-id", "foo"},
			map[string]string{"x-envoy-internal": "true", "x-envoy-upstream-rq-timeout-ms": "", "x-envoy-expected-rq-timeout-ms": "100", "x-envoy-external-address": ""},
			"foo",
		},
		{
			"underscores dropped", func(h *snapshot.HTTP) { h.Underscores = snapshot.DropUnderscores },
			[]string{"x_tenant", "forged", "x-tenant", "a", "_", "b"},
			map[string]string{"x_tenant": "", "x-tenant": "a", "_": ""},
			"",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := envoyRig(t, func(l *snapshot.Listener, _ *snapshot.VirtualHost) {
					if tc.http != nil {
						tc.http(&l.HTTP)
					}
				})
				got := r.get("/x", tc.send...).want(t, 200, "")
				got.header(t, "server", "envoy").header(t, "x-envoy-upstream-service-time", "0")
				h := got.seen(t)
				for name, want := range tc.want {
					wantField(t, h, name, want)
				}
				id := h.Get("x-request-id")
				if tc.reqID != "" && id != tc.reqID || tc.reqID == "" && (len(id) != 36 || id[14] != '4') {
					t.Errorf("x-request-id: %q", id)
				}
				r.settled()
			})
		})
	}
}

// TestUnderscoresRejected: Envoy answers so over HTTP/1.1; over HTTP/2 it resets the
// stream without a word.
func TestUnderscoresRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := envoyRig(t, func(l *snapshot.Listener, _ *snapshot.VirtualHost) { l.HTTP.Underscores = snapshot.RejectUnderscores })
		for _, p := range []testkit.Protocol{testkit.H2, testkit.H1} {
			r.client = r.newClient(p)
			r.get("/", "x_u", "1").want(t, 400, "Bad Request")
			r.get("/", "x-u", "1").want(t, 200, "")
		}
		r.settled()
	})
}

// TestManagedTimeouts: each time-out ends a request when it is due, with Envoy's
// reply.
func TestManagedTimeouts(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(l *snapshot.Listener, f *snapshot.Forward)
		path   string
		open   bool // the request's body never ends
		status int
		text   string
		after  time.Duration
	}{
		{"route", func(_ *snapshot.Listener, f *snapshot.Forward) { f.Timeout = 100 * time.Millisecond }, "/?wait=10s", false, 504, "upstream request timeout", 100 * time.Millisecond},
		{"no route time-out", func(_ *snapshot.Listener, f *snapshot.Forward) { f.Timeout = 0 }, "/?wait=60s", false, 200, "{", time.Minute},
		{"idle stream", func(l *snapshot.Listener, _ *snapshot.Forward) { l.HTTP.StreamIdleTimeout = 300 * time.Millisecond }, "/?wait=10s", false, 504, "stream timeout", 300 * time.Millisecond},
		{"route's idle", func(l *snapshot.Listener, f *snapshot.Forward) {
			l.HTTP.StreamIdleTimeout, f.Idle, f.HasIdle = time.Millisecond, 400*time.Millisecond, true
		}, "/?wait=10s", false, 504, "stream timeout", 400 * time.Millisecond},
		{"no router", func(l *snapshot.Listener, _ *snapshot.Forward) {
			l.HTTP.Unanswered, l.HTTP.StreamIdleTimeout = true, 300*time.Millisecond
		}, "/", false, 504, "stream timeout", 300 * time.Millisecond},
		{"no router, no end", func(l *snapshot.Listener, _ *snapshot.Forward) {
			l.HTTP.Unanswered, l.HTTP.StreamIdleTimeout = true, 300*time.Millisecond
		}, "/slow", true, 408, "stream timeout", 300 * time.Millisecond},
		{"idle caller", func(l *snapshot.Listener, _ *snapshot.Forward) { l.HTTP.StreamIdleTimeout = 300 * time.Millisecond }, "/slow", true, 408, "stream timeout", 300 * time.Millisecond},
		{"whole request", func(l *snapshot.Listener, _ *snapshot.Forward) { l.HTTP.RequestTimeout = 200 * time.Millisecond }, "/slow", true, 408, "request timeout", 200 * time.Millisecond},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := envoyRig(t, func(l *snapshot.Listener, h *snapshot.VirtualHost) { tc.change(l, h.Routes[0].Forward) })
				begin := time.Now()
				if tc.open {
					nc, err := r.net.Dial(t.Context(), "sidecar:80")
					if err != nil {
						t.Fatal(err)
					}
					_, _ = io.WriteString(nc, "POST "+tc.path+" HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nx")
					b, _ := io.ReadAll(nc)
					if got := string(b); !strings.HasPrefix(got, "HTTP/1.1 "+strconv.Itoa(tc.status)) || !strings.HasSuffix(got, tc.text) || !strings.Contains(got, "connection: close") {
						t.Errorf("got %q", got)
					}
					_ = nc.Close()
				} else if got := r.get(tc.path).want(t, tc.status, tc.text); tc.status != 200 && got.body != tc.text {
					t.Errorf("body %q", got.body)
				}
				if d := time.Since(begin); d < tc.after || d > tc.after+20*time.Millisecond {
					t.Errorf("after %v, want %v", d, tc.after)
				}
				r.settled()
			})
		})
	}
}

// TestHeadMustCome: request_headers_timeout, on HTTP/1.1.
func TestHeadMustCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := envoyRig(t, func(l *snapshot.Listener, _ *snapshot.VirtualHost) { l.HTTP.HeadersTimeout = 300 * time.Millisecond })
		nc, err := r.net.Dial(t.Context(), "sidecar:80")
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		_, _ = io.WriteString(nc, "GET / HTTP/1.1\r\nhost")
		b, _ := io.ReadAll(nc)
		if d := time.Since(begin); !strings.HasPrefix(string(b), "HTTP/1.1 408") || d < 300*time.Millisecond || d > 320*time.Millisecond {
			t.Errorf("got %q after %v", b, d)
		}
		_ = nc.Close()
	})
}

// TestHealthCheckFilter covers both modes, the cache and /healthcheck/fail.
func TestHealthCheckFilter(t *testing.T) {
	check := func(c snapshot.HealthCheck) func(*snapshot.Listener, *snapshot.VirtualHost) {
		c.Headers = []snapshot.HeaderMatcher{{Name: ":path", String: &snapshot.StringMatcher{Value: "/healthz"}}}
		return func(l *snapshot.Listener, _ *snapshot.VirtualHost) {
			l.HTTP.Filters = []snapshot.Filter{{Name: "hc", HealthCheck: &c}}
		}
	}
	service := func(o *Options) { o.Service = "svc" }
	const name = "x-envoy-upstream-healthchecked-cluster"
	t.Run("answered here", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := envoyRig(t, check(snapshot.HealthCheck{}), service)
			r.get("/healthz").want(t, 200, "").header(t, name, "svc")
			r.get("/other").want(t, 200, "{").header(t, name, "")
			r.server.FailHealth(true)
			r.get("/healthz").want(t, 503, "").header(t, "x-envoy-immediate-health-check-fail", "true")
			r.get("/other").want(t, 200, "{").header(t, "x-envoy-immediate-health-check-fail", "true")
			r.server.FailHealth(false)
			r.get("/healthz").want(t, 200, "").header(t, "x-envoy-immediate-health-check-fail", "")
			r.settled()
		})
	})
	t.Run("as the clusters are", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := envoyRig(t, check(snapshot.HealthCheck{MinHealthy: []snapshot.ClusterMin{{Cluster: "a", Percent: 50}}}), service)
			r.get("/healthz").want(t, 200, "")
		})
		synctest.Test(t, func(t *testing.T) {
			r := envoyRig(t, check(snapshot.HealthCheck{MinHealthy: []snapshot.ClusterMin{{Cluster: "a", Percent: 50}, {Cluster: "empty", Percent: 1}}}), service)
			r.get("/healthz").want(t, 503, "").header(t, name, "svc")
		})
	})
	t.Run("passed through and kept", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := envoyRig(t, check(snapshot.HealthCheck{PassThrough: true, CacheFor: 2 * time.Second}), service)
			r.get("/healthz").want(t, 200, "{").header(t, name, "svc")
			if got := r.get("/healthz").want(t, 200, ""); got.body != "" {
				t.Errorf("asked again: %q", got.body)
			}
			time.Sleep(1500 * time.Millisecond)
			if got := r.get("/healthz").want(t, 200, ""); got.body != "" {
				t.Errorf("asked again: %q", got.body)
			}
			time.Sleep(500 * time.Millisecond) // asking did not keep it any longer
			r.get("/healthz").want(t, 200, "{")
			r.server.FailHealth(true)
			r.get("/healthz").want(t, 503, "")
			time.Sleep(2 * time.Second)
			r.get("/healthz").want(t, 503, "")
			r.server.FailHealth(false)
			r.get("/healthz").want(t, 200, "{") // the refusal is not kept
			r.settled()
		})
	})
}

// TestSuppressedFields: suppress_envoy_headers.
func TestSuppressedFields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := envoyRig(t, func(l *snapshot.Listener, h *snapshot.VirtualHost) {
			l.HTTP.SuppressEnvoy = true
			h.Routes = []*snapshot.Route{{Forward: &snapshot.Forward{
				Cluster: "a", NotFoundStatus: 503, Timeout: time.Second, PrefixRewrite: "/x/", Host: snapshot.HostRewrite{Literal: "lit"},
			}}}
		})
		got := r.get("/a").want(t, 200, "")
		got.header(t, "x-envoy-upstream-service-time", "")
		h := got.seen(t)
		wantField(t, h, "path", "/x//a")
		wantField(t, h, "host", "lit")
		for _, name := range []string{"x-envoy-original-path", "x-envoy-original-host", "x-envoy-expected-rq-timeout-ms"} {
			wantField(t, h, name, "")
		}
	})
}

// TestUpstreamEndsAsInEnvoy: PROTOCOL_ERROR is told apart from other resets, as in Envoy; a reply
// that stalls once its head is sent ends with INTERNAL_ERROR.
func TestUpstreamEndsAsInEnvoy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := envoyRig(t, func(_ *snapshot.Listener, h *snapshot.VirtualHost) {
			h.Routes = []*snapshot.Route{{Forward: &snapshot.Forward{Cluster: "b", NotFoundStatus: 503, Timeout: time.Second}}}
		})
		r.frameApp("b:80", func(w *wire) {
			w.until("HEADERS 1")
			w.do(func(fr *http2.Framer) error { return fr.WriteRSTStream(1, http2.ErrCodeProtocol) })
			w.until("HEADERS 3")
			w.headers(3, false, ":status", "200")
		})
		r.get("/").want(t, 502, "reset reason: protocol error")
		w := r.caller()
		w.ask(1, true, "GET", "/")
		w.until("HEADERS 1 end=false :status=200")
		w.until("RST_STREAM 1 INTERNAL_ERROR")
		r.settled()
	})
}

// TestConnectionLimits: what the listener says of connections holds for new ones.
func TestConnectionLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := envoyRig(t, func(l *snapshot.Listener, _ *snapshot.VirtualHost) {
			l.HTTP.MaxHeaders, l.HTTP.MaxStreams, l.HTTP.StreamWindow = 10, 7, 100_000
		})
		for _, p := range []testkit.Protocol{testkit.H2, testkit.H1} {
			r.client = r.newClient(p)
			many := make([]string, 0, 40)
			for range 20 {
				many = append(many, "x-many", "1")
			}
			r.get("/", many...).want(t, 431, "Request Header Fields Too Large")
		}
		nc, err := r.net.Dial(t.Context(), "sidecar:80")
		if err != nil {
			t.Fatal(err)
		}
		fr := http2.NewFramer(nc, nc)
		go func() { _, _ = io.WriteString(nc, http2.ClientPreface) }()
		f, err := fr.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		settings, _ := f.(*http2.SettingsFrame)
		for id, want := range map[http2.SettingID]uint32{http2.SettingMaxConcurrentStreams: 7, http2.SettingInitialWindowSize: 100_000} {
			if got, _ := settings.Value(id); got != want {
				t.Errorf("%v: %d, want %d", id, got, want)
			}
		}
		_ = nc.Close()
	})
}
