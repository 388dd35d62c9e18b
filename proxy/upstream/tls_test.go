package upstream

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/snapshot"
)

// serveTLS starts Go's own server at address, over TLS.
func (r *rig) serveTLS(address string, config *tls.Config, h http.HandlerFunc, h2 bool) testkit.Listener {
	l := r.net.Listen(address)
	r.t.Cleanup(l.Kill)
	s := &http.Server{Handler: h, Protocols: new(http.Protocols), TLSConfig: config, ErrorLog: slog.NewLogLogger(slog.NewTextHandler(r.t.Output(), nil), slog.LevelInfo)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetHTTP2(h2)
	go func() { _ = s.ServeTLS(testkit.BufferedListener{Listener: l}, "", "") }()
	return l
}

// over is a cluster whose endpoints are spoken to as t says.
func over(t *snapshot.TLS, p snapshot.Protocol, addresses ...string) *snapshot.Cluster {
	c := managed(to(addresses...)...)
	for i := range c.Assignment.Endpoints {
		host, _, _ := strings.Cut(addresses[i], ":")
		c.Assignment.Endpoints[i].Hostname = host
	}
	c.TLS, c.Protocol = t, p
	return c
}

// trusting believes ca's certificates for the endpoint's host.
func trusting(ca *testkit.CA) *snapshot.TLS {
	return &snapshot.TLS{SNIFromHost: true, VerifySNI: true, Validation: &snapshot.Validation{Roots: snapshot.PEM{Bytes: ca.PEM}, Depth: -1}}
}

func TestTLSChoosesTheProtocol(t *testing.T) {
	ca := testkit.NewCA(t, "test")
	for name, tc := range map[string]struct {
		protocol snapshot.Protocol
		h2       bool // the endpoint speaks it
		major    int  // of what is spoken
		fails    string
	}{
		"either, and the endpoint takes HTTP/2":   {snapshot.Auto, true, 2, ""},
		"either, and the endpoint takes HTTP/1.1": {snapshot.Auto, false, 1, ""},
		"HTTP/1.1":                         {snapshot.H1, true, 1, ""},
		"HTTP/2":                           {snapshot.H2C, true, 2, ""},
		"HTTP/2 that the endpoint has not": {snapshot.H2C, false, 0, "no application protocol"},
	} {
		t.Run(name, func(t *testing.T) {
			bubbleOf(t, over(trusting(ca), tc.protocol, "app:443"), func(r *rig) {
				var seen []int
				r.serveTLS("app:443", &tls.Config{Certificates: []tls.Certificate{ca.Issue("app").TLS(t)}}, protocolOf(&seen), tc.h2)
				x := r.get("/a")
				if tc.fails != "" {
					<-x.over
					if x.err == nil || !strings.Contains(x.err.Error(), tc.fails) {
						t.Fatalf("error %v, want one with %q", x.err, tc.fails)
					}
					return
				}
				x.ok("/a")
				r.get("/b").ok("/b")
				if len(seen) != 2 || seen[0] != tc.major || seen[1] != tc.major {
					t.Errorf("requests came in HTTP %v, want %d", seen, tc.major)
				}
				if r.fellBack != 0 || r.connected != 1 {
					t.Errorf("%d fallbacks and %d connections; TLS says what is spoken, on one connection", r.fellBack, r.connected)
				}
			})
		})
	}
}

// TestALPNIsNotAnswered: an endpoint that leaves it out speaks HTTP/1.1, unless
// HTTP/2 is what is configured.
func TestALPNIsNotAnswered(t *testing.T) {
	ca := testkit.NewCA(t, "test")
	for protocol, fails := range map[snapshot.Protocol]string{snapshot.Auto: "", snapshot.H1: "", snapshot.H2C: "does not speak HTTP/2 over TLS: of h2 it chose nothing"} {
		bubbleOf(t, over(trusting(ca), protocol, "app:443"), func(r *rig) {
			cert := ca.Issue("app").TLS(t)
			r.serveConns("app:443", func(nc net.Conn) {
				c := tls.Server(testkit.Buffered(nc), &tls.Config{Certificates: []tls.Certificate{cert}})
				defer func() { _ = c.Close() }()
				b := make([]byte, 1000)
				if _, err := c.Read(b); err == nil {
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
					_, _ = c.Read(b)
				}
			})
			x := r.get("/")
			<-x.over
			switch {
			case fails == "":
				x.ok("hi")
			case x.err == nil || !strings.Contains(x.err.Error(), fails):
				r.t.Errorf("error %v, want one with %q", x.err, fails)
			}
		})
	}
}

// TestEndpointsAreVerified: the error tells what failed, by name.
func TestEndpointsAreVerified(t *testing.T) {
	ca, other := testkit.NewCA(t, "test"), testkit.NewCA(t, "other")
	spiffe := snapshot.NameMatcher{Kind: snapshot.NameURI, Text: "spiffe://td/app", Match: func(n string, _ bool) bool { return n == "spiffe://td/app" }}
	named := &snapshot.TLS{Validation: &snapshot.Validation{Roots: snapshot.PEM{Bytes: ca.PEM}, Depth: -1, Names: []snapshot.NameMatcher{spiffe}}}
	for name, tc := range map[string]struct {
		rules *snapshot.TLS
		cert  testkit.Pair
		fails string
	}{
		"its host":          {trusting(ca), ca.Issue("app"), ""},
		"another host":      {trusting(ca), ca.Issue("other"), "auto_sni_san_validation: x509: certificate is valid for other, not app"},
		"another authority": {trusting(ca), other.Issue("app"), `the server's certificate for app, issued by "CN=other", is not trusted by trusted_ca given inline`},
		"its ID":            {named, ca.Issue("spiffe://td/app"), ""},
		"another ID":        {named, ca.Issue("spiffe://td/other"), "the server's certificate is for spiffe://td/other, which no entry of match_typed_subject_alt_names matches"},
		"not come":          {&snapshot.TLS{Missing: "secret \"x\" has not come"}, ca.Issue("app"), "TLS: secret \"x\" has not come"},
		"nobody asks":       {new(snapshot.TLS), other.Issue("x"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			bubbleOf(t, over(tc.rules, snapshot.Auto, "app:443"), func(r *rig) {
				r.serveTLS("app:443", &tls.Config{Certificates: []tls.Certificate{tc.cert.TLS(t)}}, hello, true)
				x := r.get("/a")
				if tc.fails == "" {
					x.ok("/a")
					return
				}
				<-x.over
				if x.err == nil || !strings.Contains(x.err.Error(), tc.fails) {
					t.Errorf("error %v\nwant one with %q", x.err, tc.fails)
				}
				if e := r.cluster.Endpoints()[0]; e.Counts().ConnectFailures != 1 || !strings.Contains(e.LastError(), tc.fails) {
					t.Errorf("%d failures counted, last error %q", e.Counts().ConnectFailures, e.LastError())
				}
			})
		})
	}
}

// TestEndpointsAreShownACertificate, and session resumption does not outlive it.
func TestEndpointsAreShownACertificate(t *testing.T) {
	ca := testkit.NewCA(t, "test")
	dir := t.TempDir()
	cert, key := ca.Issue("spiffe://td/first").Store(t, dir)
	rules := trusting(ca)
	rules.Certificates = []snapshot.Certificate{{Chain: snapshot.PEM{Path: cert}, Key: snapshot.PEM{Path: key}}}
	bubbleOf(t, over(rules, snapshot.H1, "app:443"), func(r *rig) {
		type caller struct {
			name    string
			resumed bool
		}
		var seen []caller
		config := &tls.Config{Certificates: []tls.Certificate{ca.Issue("app").TLS(t)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool()}
		r.serveTLS("app:443", config, func(w http.ResponseWriter, req *http.Request) {
			seen = append(seen, caller{req.TLS.PeerCertificates[0].URIs[0].String(), req.TLS.DidResume})
			w.Header().Set("connection", "close")
			hello(w, req)
		}, false)
		for range 2 {
			r.get("/a").ok("/a")
			synctest.Wait()
		}
		ca.Issue("spiffe://td/second").Store(t, dir)
		r.get("/a").ok("/a")
		want := []caller{{"spiffe://td/first", false}, {"spiffe://td/first", true}, {"spiffe://td/second", false}}
		for i := range want {
			if i >= len(seen) || seen[i] != want[i] {
				t.Fatalf("callers %+v, want %+v", seen, want)
			}
		}
	})
}

// TestAHandshakeHasTheDialsTime: connect_timeout is for both.
func TestAHandshakeHasTheDialsTime(t *testing.T) {
	ca := testkit.NewCA(t, "test")
	bubbleOf(t, over(trusting(ca), snapshot.Auto, "app:443"), func(r *rig) {
		r.serveConns("app:443", func(nc net.Conn) { _, _ = io.Copy(io.Discard, nc) }) // and says nothing
		start := time.Now()
		x := r.get("/a")
		<-x.over
		if took := time.Since(start); x.err == nil || took != time.Second {
			t.Errorf("%v after %v, want an error after the cluster's connect_timeout, 1s", x.err, took)
		}
	})
}

// TestACutReplyIsNoReply: without close_notify nobody says that a reply which only
// the connection's end delimits is whole.
func TestACutReplyIsNoReply(t *testing.T) {
	ca := testkit.NewCA(t, "test")
	for name, clean := range map[string]bool{"close_notify": true, "none": false} {
		t.Run(name, func(t *testing.T) {
			bubbleOf(t, over(trusting(ca), snapshot.H1, "app:443"), func(r *rig) {
				cert := ca.Issue("app").TLS(t)
				r.serveConns("app:443", func(nc net.Conn) {
					nc = testkit.Buffered(nc)
					c := tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{cert}})
					_, _ = c.Read(make([]byte, 1000))
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nall of it?")
					if clean {
						_ = c.Close()
					}
					_ = nc.Close()
				})
				x := r.get("/")
				<-x.over
				if clean {
					x.ok("all of it?")
				} else if x.fail == nil || !x.fail.ConnLost {
					t.Errorf("failure %+v, status %s, body %q; want a lost connection", x.fail, x.status, x.body)
				}
			})
		})
	}
}

// TestTermsHoldForOpenConnections: those that were made on other terms are not used
// any more, and those that only a rotation has overtaken are.
func TestTermsHoldForOpenConnections(t *testing.T) {
	ca := testkit.NewCA(t, "test")
	spiffe := snapshot.NameMatcher{Kind: snapshot.NameURI, Text: "spiffe://td/other", Match: func(string, bool) bool { return false }}
	both := slices.Concat(ca.PEM, testkit.NewCA(t, "next").PEM)
	for name, tc := range map[string]struct {
		change func(*snapshot.TLS)
		stays  bool
	}{
		"another bundle": {func(t *snapshot.TLS) { t.Validation.Roots.Bytes = both }, true},
		"a name":         {func(t *snapshot.TLS) { t.Validation.Names = []snapshot.NameMatcher{spiffe} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubbleOf(t, over(trusting(ca), snapshot.H2C, "app:443"), func(r *rig) {
				r.serveTLS("app:443", &tls.Config{Certificates: []tls.Certificate{ca.Issue("app").TLS(t)}}, hello, true)
				r.get("/a").ok("/a")
				next := trusting(ca)
				tc.change(next)
				r.update(over(next, snapshot.H2C, "app:443"))
				x := r.get("/b")
				if tc.stays {
					x.ok("/b")
					if r.connected != 1 {
						t.Errorf("%d connections, want the one that was open", r.connected)
					}
					return
				}
				<-x.over
				if x.err == nil || !strings.Contains(x.err.Error(), "match_typed_subject_alt_names") {
					t.Errorf("error %v, want that the endpoint is another one", x.err)
				}
			})
		})
	}
}

// TestTLSIsSwitchedOn: what was in plain text is not used once the cluster is to be
// secured.
func TestTLSIsSwitchedOn(t *testing.T) {
	ca := testkit.NewCA(t, "test")
	plain := over(nil, snapshot.H1, "app:443")
	bubbleOf(t, plain, func(r *rig) {
		l := r.serve("app:443", hello, testkit.H1)
		r.get("/a").ok("/a")
		_ = l.Close()
		var secret []bool
		r.serveTLS("app:443", &tls.Config{Certificates: []tls.Certificate{ca.Issue("app").TLS(t)}}, func(w http.ResponseWriter, req *http.Request) {
			secret = append(secret, req.TLS != nil)
			hello(w, req)
		}, false)
		r.update(over(trusting(ca), snapshot.H1, "app:443"))
		r.get("/b").ok("/b")
		if len(secret) != 1 || !secret[0] {
			t.Errorf("requests that came by TLS: %v, want one", secret)
		}
	})
}
